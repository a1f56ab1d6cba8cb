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

from fer_models import nets
from fer_models.attended import Attended
from fer_models.backbones import NORMS, FerNet, cnn_pool, cnn_tiny
from fer_models.blocks import BLOCKS
from fer_models.clusters import MOST, Clustered
from fer_models.errors import ModelError
from fer_models.features import HogLinear
from fer_models.norms import convert_batch_norm, disable_inplace, find_batch_coupled
from fer_models.plugins import added, added_net
from fer_models.weights import load_weights

TIMM = "timm:"
"""Prefix of the names that timm builds."""

SMALLEST, LARGEST = 16, 1024
"""Pixels a side that a specification may ask for."""

LATER = ("clusters", "attention")
"""Fields that came later: a specification without them is written as it was before there were any."""

_TYPES = {"str": str, "int": int, "float": (int, float)}


@dataclass(frozen=True)
class ModelSpec:
    """What a net is: enough to build it again anywhere.

    Attributes
    ----------
    name : of :func:`listing`, ``timm:`` with the name of a timm net, or one of :mod:`fer_models.plugins`.
    norm : ``gn``, ``bn``, ``ws`` or ``none``; timm nets know ``gn`` and ``bn``, ``cnn_pool`` and ``cnn_tiny``
        have no normalisation and accept ``gn`` (the default) and ``none`` alike.
    classes : number of logits.
    channels : 1 for gray, 3 for colour.
    size : height and width of a picture in pixels.
    dropout : share of the pooled features that training sets to zero; ``cnn_*`` have no dropout.
    clusters : how many clusters of features have a bias of their own (:mod:`fer_models.clusters`), 0 for none.
    attention : a block of :mod:`fer_models.blocks` on the net's maps: ``cbam``, ``coordinate``, ``heads``, ``tokens``
        or ``patches``; empty for none.

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
    attention: str = ""

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
        if self.attention and self.attention not in BLOCKS:
            close = difflib.get_close_matches(self.attention, BLOCKS, n=1) or list(BLOCKS)
            raise ModelError(
                f"unknown attention {self.attention!r}",
                where="model.attention",
                cure=f"Use {' or '.join(close)}.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON; those of :data:`LATER` only where they say something."""
        return {name: value for name, value in asdict(self).items() if name not in LATER or value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "") -> ModelSpec:
        """Return the specification that :meth:`to_dict` wrote; unknown and missing fields are errors."""
        known = {each.name for each in fields(cls)}
        if not isinstance(values, Mapping) or {*values, *LATER} != known:
            raise ModelError(
                "a model's specification has other fields",
                where=where,
                cure=f"Give exactly {', '.join(sorted(known))}.",
            )
        return cls(**values)


@dataclass(frozen=True)
class Net:
    """One entry of the zoo.

    Attributes
    ----------
    build : makes it.
    parameters : those of the default specification.
    what : what it is for.
    paper : where it comes from.
    changed : what differs from there, and why.
    """

    build: Callable[[ModelSpec], nn.Module]
    parameters: int
    what: str
    paper: str = ""
    changed: str = ""


def _fer_net(
    widths: tuple[int, ...], depths: tuple[int, ...], patch: int = 0, reach: int = 0
) -> Callable[[ModelSpec], nn.Module]:
    def build_net(spec: ModelSpec) -> nn.Module:
        names = ("classes", "channels", "norm", "dropout", "attention", "size")
        given = {name: getattr(spec, name) for name in names}
        return FerNet(widths, depths, patch=patch, reach=reach, **given)

    return build_net


def _reference(make: Callable[..., nn.Module]) -> Callable[[ModelSpec], nn.Module]:
    def build_net(spec: ModelSpec) -> nn.Module:
        _require_bare(spec)
        _require(spec.size == 48, f"{spec.name} takes 48 pixels, not {spec.size}", "Set model.size=48.")
        return make(classes=spec.classes, channels=spec.channels)

    return build_net


def _hog_linear(spec: ModelSpec) -> nn.Module:
    _require_bare(spec)
    return HogLinear(classes=spec.classes, size=spec.size, dropout=spec.dropout)


def _require_bare(spec: ModelSpec) -> None:
    """Refuse a norm and attention for a net that has no place for them."""
    _require(
        spec.norm in ("gn", "none"),
        f"{spec.name} has no normalisation layer to make {spec.norm!r}",
        "Set model.norm=none.",
    )
    _require(
        not spec.attention,
        f"{spec.name} has no maps for attention",
        "Leave model.attention empty, or use fer_nano.",
    )


def _survey(
    make: Callable[[nets.Shape], nn.Module], *, norms: tuple[str, ...] = NORMS, attends: bool = False
) -> Callable[[ModelSpec], nn.Module]:
    """Return how a net of the survey is built; ``attends`` says that it has attention of its own."""

    def build_net(spec: ModelSpec) -> nn.Module:
        _require(
            spec.norm in norms,
            f"{spec.name} joins maps of which only a norm keeps the scale, so {spec.norm!r} does not do",
            f"Set model.norm to {' or '.join(norms)}.",
        )
        _require(
            not (attends and spec.attention),
            f"{spec.name} has attention of its own",
            "Leave model.attention empty, or use another net.",
        )
        shape = nets.Shape(
            classes=spec.classes,
            channels=spec.channels,
            size=spec.size,
            norm=spec.norm,
            dropout=spec.dropout,
            attention=spec.attention,
        )
        return make(shape)

    return build_net


_NORMED = ("gn", "bn")
_SILU = "SiLU, not in place; GroupNorm in place of BatchNorm, which mixes the pictures of a batch."

NETS: Mapping[str, Net] = {
    "hog_linear": Net(
        _hog_linear,
        14_120,
        "under privacy on small sites; fixed features, one layer learns",
        "Dalal and Triggs 2005",
        "A linear layer that starts at 0 in place of a support vector machine: its gradients can be clipped.",
    ),
    "fer_tiny": Net(_fer_net((32, 64, 96), (1, 1, 1), 6, 8), 76_936, "the smallest boxes", "own"),
    "fer_edge": Net(_fer_net((32, 64, 96), (2, 2, 2), 4, 8), 206_344, "boxes in eight bits", "own"),
    "fer_nano": Net(_fer_net((16, 32, 64, 96), (1, 1, 1, 1)), 79_672, "edge boxes, many sites, tests", "own"),
    "fer_small": Net(_fer_net((24, 48, 96, 128), (2, 2, 2, 2)), 421_184, "the default", "own"),
    "fer_base": Net(_fer_net((32, 64, 128, 192), (1, 2, 2, 2)), 832_872, "more data, more time", "own"),
    "microexpnet": Net(
        _survey(nets.microexpnet),
        27_896,
        "the smallest of the survey, reference of speed",
        "Cugu et al. 2017, arXiv:1711.07011",
        "48 pixels in place of 84, so that the hidden layer sees 36 places and not 121; " + _SILU,
    ),
    "mini_xception": Net(
        _survey(nets.mini_xception, norms=_NORMED),
        49_912,
        "few parameters, many operations",
        "Arriaga et al. 2017, arXiv:1710.07557",
        "The mean comes before the classes and not after, so that there are features; " + _SILU,
    ),
    "vgg48": Net(
        _survey(nets.vgg48),
        1_174_696,
        "reference of accuracy",
        "Khaireddin and Chen 2021, arXiv:2105.03588",
        "Half the widths, and a mean in place of two hidden layers of 4,096, to fit an edge box; " + _SILU,
    ),
    "efficientface": Net(
        _survey(nets.efficientface, norms=_NORMED, attends=True),
        209_539,
        "quarters of a face and a gate, on ShuffleNet V2",
        "Zhao et al. 2021, doi:10.1609/aaai.v35i4.16465",
        "Half as many units, narrower, no first pool: made for 48 pixels and not 224; CBAM as its gate; "
        + _SILU,
    ),
    "a_mobilenet": Net(
        _survey(nets.a_mobilenet, attends=True),
        412_158,
        "CBAM on MobileNet V1",
        "Nan et al. 2022, doi:10.1016/j.aej.2021.09.066",
        "Seven blocks of up to 384 channels in place of thirteen of up to 1,024, for 48 pixels; " + _SILU,
    ),
    "ddamfn_lite": Net(
        _survey(nets.ddamfn_lite, norms=_NORMED, attends=True),
        437_536,
        "mixed kernels and gates by rows and columns",
        "Zhang et al. 2023, doi:10.3390/electronics12173595",
        "Up to 192 channels in place of 512, rows and columns by means, for 48 pixels; " + _SILU,
    ),
    "dan_lite": Net(
        _survey(nets.dan_lite, attends=True),
        299_660,
        "four attention heads over a small backbone",
        "Wen et al. 2021, arXiv:2109.07270",
        "A strided CNN in place of ResNet-18; heads are averaged; the loss that parts them is per picture; "
        + _SILU,
    ),
    "patt_lite": Net(
        _survey(nets.patt_lite, attends=True),
        285_128,
        "attention over the places of a picture",
        "Ngwe et al. 2023, arXiv:2306.09626",
        "Places are the tokens; in the released code the batch is, and the answer follows from who else is in it; "
        + _SILU,
    ),
    "cnn_pool": Net(_reference(cnn_pool), 173_320, "reference of the speed benchmarks, no norm", "own"),
    "cnn_tiny": Net(_reference(cnn_tiny), 10_744, "overhead in the speed benchmarks, no norm", "own"),
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
    own, others = NETS.get(spec.name), not spec.name.startswith(TIMM) and spec.name in added("models")
    maker = own.build if own else added_net if others else _timm_net
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the accelerators too, which fork_rng(devices=[]) does not restore.
        torch.default_generator.manual_seed(generator_seed)
        module = maker(spec)
    if weights is not None:
        load_weights(module.net if isinstance(module, Attended) else module, weights)
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
        if spec.attention:
            module = Attended(module, spec.attention, spec.channels, spec.size)
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
    close = difflib.get_close_matches(name, [*NETS, *added("models")])
    if name.startswith(TIMM) or not close:
        timm_names = _timm().list_models()
        close += [TIMM + each for each in difflib.get_close_matches(bare, timm_names)]
    known = ", ".join(NETS)
    others = f"Use one of {known} or timm:NAME, or install the package that adds it."
    cure = f"Did you mean {' or '.join(close)}?" if close else others
    return ModelError(f"unknown model {name!r}", where="model.name", cure=cure)


def _require(holds: bool, what: str, cure: str) -> None:
    if not holds:
        raise ModelError(what, where="model", cure=cure)
