"""Turn plain mappings into frozen dataclasses, refusing everything that is not expected."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fer_models.errors import ConfigError

T = TypeVar("T")


def parse(cls: type[T], given: Any, where: str = "") -> T:
    """Build ``cls`` from a mapping; unknown, missing and ill-typed fields are errors.

    Raises
    ------
    ConfigError : with the dotted path of the field.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"expected a mapping, got {given!r}", where=where, cure="Give key: value pairs.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise ConfigError(f"unknown key {key!r}", where=where, cure=nearest(str(key), fields))
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, definition in fields.items():
        path = f"{where}.{name}".lstrip(".")
        if name in given:
            values[name] = _value(hints[name], given[name], path)
        elif definition.default is definition.default_factory is dataclasses.MISSING:
            raise ConfigError("a value is missing", where=path, cure=f"Give {name}.")
    return cls(**values)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a cure that names the nearest known words, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3)
    return f"Did you mean {' or '.join(close)}?" if close else f"Use one of {', '.join(names)}."


def _value(kind: Any, given: Any, where: str) -> Any:
    if kind is Any:
        return given
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if given is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), given, where)
    if origin is typing.Literal:
        if given not in arguments:
            raise ConfigError(
                f"unknown value {given!r}", where=where, cure=nearest(str(given), map(str, arguments))
            )
        return given
    if origin is Mapping:
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"expected a mapping, got {given!r}", where=where, cure="Give {key: value, ...}."
            )
        return {str(key): _value(arguments[1], item, f"{where}.{key}") for key, item in given.items()}
    if origin is tuple:
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            raise ConfigError(f"expected a list, got {given!r}", where=where, cure="Give values in [ ].")
        return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(given))
    if dataclasses.is_dataclass(kind):
        return parse(typing.cast(type, kind), given, where)
    return _scalar(kind, given, where)


def _scalar(kind: Any, given: Any, where: str) -> Any:
    if not isinstance(given, (int, float) if kind is float else kind) or (
        isinstance(given, bool) and kind is not bool
    ):
        raise ConfigError(f"expected {kind.__name__}, got {given!r}", where=where, cure="Change the value.")
    if kind is not float:
        return given
    # NaN equals nothing, not even itself, and JSON has neither NaN nor infinity.
    if not abs(given) <= sys.float_info.max:
        raise ConfigError("the value is not finite", where=where, cure="Give a finite number.")
    return float(given)


def require(good: bool, what: str, where: str, cure: str) -> None:
    """Raise a :class:`ConfigError` unless ``good``."""
    if not good:
        raise ConfigError(what, where=where, cure=cure)
