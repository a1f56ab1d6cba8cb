"""What other installed packages add: nets, losses, data sets and fair methods, by name.

A package names them as entry points in its ``pyproject.toml``, and they are known wherever it is installed::

    [project.entry-points."fedfer.models"]
    stripes = "stripes:net"

Plans and settings carry the name alone, never code: what a coordinator asks for runs at a site only if whoever keeps
the site has installed it, and lets its policy admit it. A name that FedFER has itself is FedFER's.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from fer_models.errors import ConfigError, FedferError, ModelError

if TYPE_CHECKING:
    from fer_models.zoo import ModelSpec

Kind = Literal["models", "losses", "readers", "weightings"]
"""The kinds of things that can be added; the group of entry points is ``fedfer.KIND``."""

KINDS: tuple[Kind, ...] = get_args(Kind)

SIGNATURES: Mapping[str, str] = {
    "models": "a function from a ModelSpec to a torch module",
    "losses": "a function from logits and targets to one loss a picture",
    "readers": "a function from a folder to Samples",
    "weightings": "a function from a Standing to weights by group and class",
}
"""What each kind is expected to be."""


@functools.cache
def added(kind: Kind) -> Mapping[str, EntryPoint]:
    """Return what installed packages add of a kind, by name, in alphabetical order; nothing of it is loaded."""
    found = {each.name: each for each in entry_points(group=f"fedfer.{kind}")}
    return dict(sorted(found.items()))


def origin(kind: Kind, name: str) -> str:
    """Return the package and version that adds a name, such as ``stripes 0.1.0``."""
    package = added(kind)[name].dist
    return name if package is None else f"{package.name} {package.version}"


@functools.cache
def load(kind: Kind, name: str) -> Any:
    """Return what a package adds under a name of :func:`added`.

    Raises
    ------
    ConfigError : its code cannot be imported, or is no function; or two packages add the name.
    """
    entry = added(kind)[name]
    packages = sorted(
        f"{each.dist.name} {each.dist.version}"
        for each in entry_points(group=f"fedfer.{kind}", name=name)
        if each.dist is not None
    )
    if len(packages) > 1:  # which of them runs would hang on the order of folders
        raise ConfigError(
            f"{name!r} is added by {' and by '.join(packages)}",
            where="packages",
            cure="Uninstall all but one.",
        )
    where = f"{entry.value} of {origin(kind, name)}"
    try:
        found = entry.load()
    except Exception as error:
        what = f"cannot load {name!r}: {type(error).__name__}: {error}"
        raise ConfigError(what, where=where, cure="Mend the package, or uninstall it.") from error
    if not callable(found):
        raise ConfigError(f"{name!r} is no function", where=where, cure=f"Give {SIGNATURES[kind]}.")
    return found


def added_net(spec: ModelSpec) -> nn.Module:
    """Return the net that a package adds, in training mode, after two made-up pictures have been through it.

    Raises
    ------
    ConfigError : the package cannot be loaded.
    ModelError : it makes no net for the specification, or one with other logits.
    """
    where = f"{spec.name} of {origin('models', spec.name)}"
    if spec.attention:
        raise ModelError(
            "a net of another package has no place for attention",
            where=where,
            cure="Leave model.attention empty.",
        )
    make = load("models", spec.name)
    try:
        module = make(spec)
        with torch.no_grad():
            logits = module.eval()(torch.zeros(2, spec.channels, spec.size, spec.size))
        module.train()
    except FedferError:
        raise
    except Exception as error:  # whatever the other package's code raises
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(
            f"no net for {spec.channels} x {spec.size} x {spec.size}: {type(error).__name__}: {reason}",
            where=where,
            cure="Mend the package, or ask for other pictures.",
        ) from error
    if logits.shape != (2, spec.classes):
        raise ModelError(
            f"logits of shape {tuple(logits.shape)} for two pictures and {spec.classes} classes",
            where=where,
            cure="End the net in a linear layer with spec.classes outputs.",
        )
    return module


def added_loss(name: str, strength: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss that a package adds: of logits (B, C) and targets (B, C), with one value a picture, (B,).

    Parameters
    ----------
    strength : given to the loss as ``strength``, where it is not 0.

    Raises
    ------
    ConfigError : the package cannot be loaded, or its loss has no ``strength``. The loss itself raises one where it
        gives another number of values than pictures.
    """
    loss, where = load("losses", name), f"{name} of {origin('losses', name)}"
    if strength and "strength" not in inspect.signature(loss).parameters:
        raise ConfigError(f"the loss {name} has no strength", where="local.strength", cure="Leave it out.")
    own = {"strength": strength} if strength else {}

    def each(logits: Tensor, targets: Tensor) -> Tensor:
        values = loss(logits, targets, **own)
        if values.shape != logits.shape[:1]:
            raise ConfigError(
                f"{tuple(values.shape)} for {len(logits)} pictures",
                where=where,
                cure="Give one value a picture, without a mean or a sum over the batch.",
            )
        return values

    return each
