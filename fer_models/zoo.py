"""Nets by name: what a plan or a configuration says becomes a module with deterministic initial weights."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fer_models.backbones import NORMS, FerNet, cnn_pool, cnn_tiny
from fer_models.clusters import MOST, Clustered
from fer_models.errors import ModelError
from fer_models.features import HogLinear
from fer_models.norms import convert_batch_norm, disable_inplace, find_batch_coupled
from fer_models.weights import load_weights

TIMM = "timm:"
"""Prefix of the names that timm builds."""

SMALLEST, LARGEST = 16, 1024
"""Pixels a side that a specification may ask for."""

_TYPES = {"str": str, "int": int, "float": (int, float)}


@dataclass(frozen=True)
class ModelSpec:
    """What a net is: enough to build it again anywhere.

    Attributes
    ----------
    name : a name of :func:`listing`, or ``timm:`` with the name of a timm net.
    norm : ``gn``, ``bn``, ``ws`` or ``none``; timm nets know ``gn`` and ``bn``, ``cnn_pool`` and ``cnn_tiny``
        have no normalisation and accept ``gn`` (the default) and ``none`` alike.
    classes : number of logits.
    channels : 1 for gray, 3 for colour.
    size : height and width of a picture in pixels.
    dropout : share of the pooled features that training sets to zero; ``cnn_*`` have no dropout.
    clusters : how many clusters of features have a bias of their own (:mod:`fer_models.clusters`), 0 for none.

    Raises
    ------
    ModelError : a value of the wrong type or out of range.
    """

    name: str
    _: KW_ONLY
    norm: str = "gn"
    classes: int = 8
    channels: int = 1
    size: int = 48
    dropout: float = 0.2
    clusters: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, _TYPES[str(each.type)]) or isinstance(value, bool):
                raise ModelError(f"model.{each.name} is {value!r}", cure=f"Give a value of type {each.type}.")
        _require(self.norm in NORMS, f"unknown norm {self.norm!r}", f"Use one of {', '.join(NORMS)}.")
        _require(2 <= self.classes <= 1000, f"{self.classes} classes", "Use 2 to 1000 classes.")
        _require(self.channels in (1, 3), f"{self.channels} channels", "Use 1 (gray) or 3 (colour).")
        sized = SMALLEST <= self.size <= LARGEST
        _require(sized, f"pictures of {self.size} pixels", f"Use {SMALLEST} to {LARGEST} pixels.")
        _require(0 <= self.dropout < 1, f"dropout {self.dropout}", "Use a share from 0 to below 1.")
        some = self.clusters == 0 or 2 <= self.clusters <= MOST
        _require(some, f"{self.clusters} clusters", f"Use 2 to {MOST}, or 0 for none.")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON; without clusters, what it was before there were any."""
        return {name: value for name, value in asdict(self).items() if name != "clusters" or value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "") -> ModelSpec:
        """Return the specification that :meth:`to_dict` wrote; unknown and missing fields are errors."""
        known = {each.name for each in fields(cls)}
        if not isinstance(values, Mapping) or {*values, "clusters"} != known:
            raise ModelError(
                "a model's specification has other fields",
                where=where,
                cure=f"Give exactly {', '.join(sorted(known))}.",
            )
        return cls(**values)


@dataclass(frozen=True)
class Net:
    """One entry of the zoo: how to build it, its parameters for the default specification, what it is for."""

    build: Callable[[ModelSpec], nn.Module]
    parameters: int
    what: str


def _fer_net(widths: tuple[int, ...], depths: tuple[int, ...]) -> Callable[[ModelSpec], nn.Module]:
    def build_net(spec: ModelSpec) -> nn.Module:
        return FerNet(
            widths,
            depths,
            classes=spec.classes,
            channels=spec.channels,
            norm=spec.norm,
            dropout=spec.dropout,
        )

    return build_net


def _reference(make: Callable[..., nn.Module]) -> Callable[[ModelSpec], nn.Module]:
    def build_net(spec: ModelSpec) -> nn.Module:
        _require(
            spec.norm in ("gn", "none"),
            f"{spec.name} has no normalisation layer to make {spec.norm!r}",
            "Set model.norm=none.",
        )
        _require(spec.size == 48, f"{spec.name} takes 48 pixels, not {spec.size}", "Set model.size=48.")
        return make(classes=spec.classes, channels=spec.channels)

    return build_net


def _hog_linear(spec: ModelSpec) -> nn.Module:
    _require(
        spec.norm in ("gn", "none"),
        f"{spec.name} has no normalisation layer to make {spec.norm!r}",
        "Set model.norm=none.",
    )
    return HogLinear(classes=spec.classes, size=spec.size, dropout=spec.dropout)


NETS: Mapping[str, Net] = {
    "hog_linear": Net(_hog_linear, 14_120, "under privacy on small sites; fixed features, one layer learns"),
    "fer_nano": Net(_fer_net((16, 32, 64, 96), (1, 1, 1, 1)), 79_672, "edge boxes, many sites, tests"),
    "fer_small": Net(_fer_net((24, 48, 96, 128), (2, 2, 2, 2)), 421_184, "the default"),
    "fer_base": Net(_fer_net((32, 64, 128, 192), (1, 2, 2, 2)), 832_872, "more data, more time"),
    "cnn_pool": Net(_reference(cnn_pool), 173_320, "reference of the speed benchmarks, no norm"),
    "cnn_tiny": Net(_reference(cnn_tiny), 10_744, "overhead in the speed benchmarks, no norm"),
}
"""The nets of this package; parameters are those of ``ModelSpec(name)``: gray, 8 classes, GroupNorm."""


def listing() -> tuple[tuple[str, int, str], ...]:
    """Return (name, parameters of the default specification, use) for every net of this package."""
    return tuple((name, net.parameters, net.what) for name, net in NETS.items())


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable numbers in ``module``."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def build(spec: ModelSpec, generator_seed: int, *, weights: Path | None = None) -> nn.Module:
    """Return the net of ``spec`` in training mode, its initial weights drawn from ``generator_seed``.

    The same seed gives the same bits; torch's global generator is left as it was. ``weights`` is a local
    safetensors file to start from (:func:`fer_models.weights.load_weights`); nothing is ever downloaded.

    Raises
    ------
    ModelError : an unknown name, an option the net does not have, a size it cannot take, or weights that do
        not fit.
    """
    if spec.clusters:
        return _clustered(spec, generator_seed, weights)
    maker = NETS[spec.name].build if spec.name in NETS else _timm_net
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the accelerators too, which fork_rng(devices=[]) does not restore.
        torch.default_generator.manual_seed(generator_seed)
        module = maker(spec)
    if weights is not None:
        load_weights(module, weights)
    return module


def _clustered(spec: ModelSpec, seed: int, weights: Path | None) -> nn.Module:
    from fer_models.embedding import last_layer  # which needs this module

    alone = replace(spec, clusters=0)
    net = build(alone, seed, weights=weights)
    return Clustered(net, last_layer(net, alone), spec.clusters)


def _timm() -> ModuleType:
    """Import timm on first use (it takes seconds) with the Hugging Face hub switched off."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import timm

    return timm


def _timm_net(spec: ModelSpec) -> nn.Module:
    name = spec.name.removeprefix(TIMM)
    if not spec.name.startswith(TIMM) or not _timm().is_model(name):
        raise _unknown(spec.name)
    _require(
        spec.norm in ("gn", "bn"),
        f"{spec.name} cannot be built with norm {spec.norm!r}",
        "Set model.norm to gn (BatchNorm converted to GroupNorm) or bn (as it is).",
    )
    try:
        module = disable_inplace(_create(name, spec))
        if spec.norm == "gn":
            module = convert_batch_norm(module)
        _try_out(module, spec)
    except (TypeError, ValueError, RuntimeError, AssertionError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"timm cannot build {name} for {spec.channels} x {spec.size} x {spec.size}: {reason}",
            where="model.name",
            cure="Use larger pictures (96 to 224 pixels) or another net.",
        ) from error
    if spec.norm == "gn":
        coupled = find_batch_coupled(module)
        _require(
            not coupled, f"{spec.name} mixes samples in {coupled[:1]}", "Choose a net without such layers."
        )
    return module


def _create(name: str, spec: ModelSpec) -> nn.Module:
    timm = _timm()
    config = timm.get_pretrained_cfg(name)
    sized = {"img_size": spec.size} if config is not None and config.fixed_input_size else {}
    return timm.create_model(
        name,
        pretrained=False,
        num_classes=spec.classes,
        in_chans=spec.channels,
        drop_rate=spec.dropout,
        **sized,
    )


def _try_out(module: nn.Module, spec: ModelSpec) -> None:
    """Send two pictures through ``module``, because many timm nets fail on small pictures only when used."""
    with torch.no_grad():
        logits = module.eval()(torch.zeros(2, spec.channels, spec.size, spec.size))
    module.train()
    if logits.shape != (2, spec.classes):
        raise ValueError(f"logits of shape {tuple(logits.shape)}")


def _unknown(name: str) -> ModelError:
    bare = name.removeprefix(TIMM)
    close = difflib.get_close_matches(name, NETS)
    if name.startswith(TIMM) or not close:
        timm_names = _timm().list_models()
        close += [TIMM + each for each in difflib.get_close_matches(bare, timm_names)]
    known = ", ".join(NETS)
    cure = f"Did you mean {' or '.join(close)}?" if close else f"Use one of {known} or timm:NAME."
    return ModelError(f"unknown model {name!r}", where="model.name", cure=cure)


def _require(holds: bool, what: str, cure: str) -> None:
    if not holds:
        raise ModelError(what, where="model", cure=cure)
