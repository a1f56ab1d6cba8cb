"""Read a run folder for the report: what is missing is left out, what is damaged is an error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_models.errors import RunFolderError

Interval = tuple[float, float]


class Facts:
    """A JSON object whose values are typed when they are read.

    A key that is missing or null reads as None or empty; a value of another type is an error that names it.

    Parameters
    ----------
    values : the decoded object.
    where : the file and the keys that lead here, for errors.
    """

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise damaged("expected an object of names and values", where)
        self._values, self.where = values, where

    def __bool__(self) -> bool:
        return bool(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def get(self, key: str) -> Any:
        """Return a value of any type."""
        return self._values.get(key)

    def number(self, key: str) -> float | None:
        """Return a finite number."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise damaged("expected a finite number", self._at(key))
        return float(value)

    def text(self, key: str) -> str:
        """Return a string; the empty string when it is missing."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise damaged("expected a string", self._at(key))
        return value or ""

    def interval(self, key: str) -> Interval | None:
        """Return the ordered limits under ``KEY_interval``."""
        pair = self.get(f"{key}_interval")
        if pair is None:
            return None
        if not isinstance(pair, list) or len(pair) != 2:
            raise damaged("expected [low, high]", self._at(f"{key}_interval"))
        limits = Facts(dict(zip(("low", "high"), pair, strict=True)), self._at(f"{key}_interval"))
        low, high = limits.number("low"), limits.number("high")
        if low is None or high is None or low > high:
            raise damaged("expected [low, high]", limits.where)
        return low, high

    def child(self, key: str) -> Facts:
        """Return an object; an empty one when it is missing."""
        value = self.get(key)
        return Facts({} if value is None else value, self._at(key))

    def children(self) -> dict[str, Facts]:
        """Return every value as an object, by name."""
        return {key: self.child(key) for key in self}

    def rows(self, key: str) -> list[Facts]:
        """Return a list of objects; an empty one when it is missing."""
        return [Facts(row, f"{self._at(key)}[{index}]") for index, row in enumerate(self.items(key))]

    def items(self, key: str) -> list[Any]:
        """Return a list; an empty one when it is missing."""
        value = self.get(key)
        if value is not None and not isinstance(value, list):
            raise damaged("expected a list", self._at(key))
        return value or []

    def names(self, key: str) -> list[str]:
        """Return a list of strings; an empty one when it is missing."""
        values = self.items(key)
        if not all(isinstance(value, str) for value in values):
            raise damaged("expected a list of names", self._at(key))
        return values

    def _at(self, key: str) -> str:
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"


@dataclass(frozen=True)
class Run:
    """What the folder of a run holds.

    Attributes
    ----------
    summary : ``summary.json``, empty while the run goes on.
    metrics : the whole lines of ``metrics.jsonl``, in order.
    partition : ``partition.json``, empty when there is none.
    config : the text of ``config.yaml``, or the empty string.
    audit : ``privacy_audit.json``, empty unless the run's privacy has been audited.
    """

    summary: Facts
    metrics: list[Facts]
    partition: Facts
    config: str
    audit: Facts


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises
    ------
    RunFolderError : no run lies there, or a file is damaged.
    """
    summary, lines = _text(folder / "summary.json"), _text(folder / "metrics.jsonl")
    if not summary and not lines:
        raise RunFolderError(
            "the folder holds neither summary.json nor metrics.jsonl",
            where=str(folder),
            cure="Give the folder of a run, or run it first.",
        )
    whole = lines[: lines.rfind("\n") + 1].splitlines()
    return Run(
        summary=_decode(summary or "{}", folder / "summary.json"),
        metrics=[_decode(line, folder / "metrics.jsonl", index) for index, line in enumerate(whole, 1)],
        partition=_decode(_text(folder / "partition.json") or "{}", folder / "partition.json"),
        config=_text(folder / "config.yaml"),
        audit=_decode(_text(folder / "privacy_audit.json") or "{}", folder / "privacy_audit.json"),
    )


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise damaged("the file cannot be read", str(path)) from error


def _decode(text: str, path: Path, line: int | None = None) -> Facts:
    where = path.name if line is None else f"{path.name}:{line}"
    try:
        return Facts(json.loads(text), where)
    except ValueError as error:
        raise damaged("this is no JSON", str(path) if line is None else f"{path}:{line}") from error


def damaged(what: str, where: str) -> RunFolderError:
    """Return the error of a file that is not what it should be."""
    return RunFolderError(
        f"a damaged file: {what}", where=where, cure="Run again in an empty folder, or restore the file."
    )
