"""Tensors by name: read a safetensors file, and copy tensors into a net under strict or adapting rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fer_models.errors import ModelError
from fer_models.norms import ConvertedNorm

HEADER_BYTES = 1 << 20
"""Bytes that the header of a safetensors file may take beyond the expected tensors."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""BatchNorm's buffers, which a net with GroupNorm has no place for."""


def read_tensors(path: Path, limit: int | None = None) -> dict[str, Tensor]:
    """Read a safetensors file of at most ``limit`` bytes.

    Raises
    ------
    ModelError : the file is missing, larger than ``limit``, or no safetensors file.
    """
    try:
        size = path.stat().st_size
        if limit is not None and size > limit:
            raise ModelError(
                f"the file has {size} bytes where at most {limit} belong",
                where=str(path),
                cure="Take the file that was saved with this model.",
            )
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            "cannot read weights: " + (getattr(error, "strerror", None) or str(error)),
            where=str(path),
            cure="Give a complete .safetensors file; convert other formats with safetensors' own tools.",
        ) from error


def state_bytes(module: nn.Module) -> int:
    """Return the bytes of all tensors of ``module.state_dict()``."""
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def copy_state(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy ``state`` into the tensors of ``module``; names, shapes and dtypes must agree exactly.

    Values go into the existing storage, so views of it stay valid. Nothing is written unless all fits.

    Raises
    ------
    ModelError : a tensor is missing, unknown, of another shape or dtype, or not finite.
    """
    own = module.state_dict()
    _require_names(own, state, where)
    for name, target in own.items():
        given = state[name]
        if given.shape != target.shape or given.dtype != target.dtype:
            raise ModelError(
                f"{name} is {_kind(given)}, the model has {_kind(target)}",
                where=where,
                cure="Build the model with the specification that the weights were saved with.",
            )
        _require_finite(name, given, where)
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(state[name])


def load_weights(module: nn.Module, path: Path) -> tuple[str, ...]:
    """Start ``module`` from local pretrained weights and return the names that keep their initial values.

    The net may differ from the pretrained one in three ways: its head has other classes (it keeps its initial
    values), its first convolution has one channel instead of three or three instead of one (filters are
    summed or shared out, as timm does), and its BatchNorm was converted (weight and bias are taken, running
    statistics left).

    Raises
    ------
    ModelError : the file cannot be read, or anything else differs.
    """
    given = read_tensors(path)
    own, aliases, heads = module.state_dict(), _names_before_conversion(module), _heads(module)
    chosen: dict[str, Tensor] = {}
    kept: list[str] = []
    for name, target in own.items():
        source = name if name in given else aliases.get(name, name)
        tensor = given.pop(source, None)
        fitted = None if tensor is None else _fit(tensor, target)
        if fitted is not None:
            _require_finite(source, fitted, str(path))
            chosen[name] = fitted
        elif name.rpartition(".")[0] in heads or name.rpartition(".")[2] in STATISTICS:
            kept.append(name)
        else:
            raise _misfit(name, tensor, target, path)
    unknown = [name for name in given if name.rpartition(".")[2] not in STATISTICS]
    if unknown:
        raise ModelError(
            f"the weights hold {unknown[0]}, which the model does not have",
            where=str(path),
            cure="Choose the model that the weights were trained for.",
        )
    with torch.no_grad():
        for name, tensor in chosen.items():
            own[name].copy_(tensor)
    return tuple(kept)


def _fit(tensor: Tensor, target: Tensor) -> Tensor | None:
    """Return ``tensor`` in the shape of ``target``, with its input channels adapted, or None."""
    if tensor.is_floating_point() != target.is_floating_point():
        return None
    if tensor.shape == target.shape:
        return tensor
    if (
        tensor.ndim == target.ndim == 4
        and tensor.shape[2:] == target.shape[2:]
        and len(tensor) == len(target)
    ):
        if (tensor.shape[1], target.shape[1]) == (3, 1):
            return tensor.float().sum(1, keepdim=True)
        if (tensor.shape[1], target.shape[1]) == (1, 3):
            return tensor.float().repeat(1, 3, 1, 1) / 3
    return None


def _names_before_conversion(module: nn.Module) -> dict[str, str]:
    """Return name now -> name in a net whose BatchNorm had not been converted."""
    return {
        f"{prefix}.norm.{part}": f"{prefix}.{part}"
        for prefix, layer in module.named_modules()
        if isinstance(layer, ConvertedNorm)
        for part in ("weight", "bias")
    }


def _heads(module: nn.Module) -> set[str]:
    """Return the names of the classifying layers: timm's own record of them, ``head`` or ``classifier``."""
    config = getattr(module, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ("head" if hasattr(module, "head") else "classifier")
    return {names} if isinstance(names, str) else set(names)


def _require_names(own: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unknown:
        name = (missing or unknown)[0]
        raise ModelError(
            f"{len(missing)} tensors are missing and {len(unknown)} unknown, {name} for one",
            where=where,
            cure="Build the model with the specification that the weights were saved with.",
        )


def _require_finite(name: str, tensor: Tensor, where: str) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ModelError(
            f"{name} holds values that are not finite",
            where=where,
            cure="Take weights of a run that did not diverge.",
        )


def _misfit(name: str, tensor: Tensor | None, target: Tensor, path: Path) -> ModelError:
    found = "is missing" if tensor is None else f"is {_kind(tensor)}"
    return ModelError(
        f"{name} {found} where the model has {_kind(target)}",
        where=str(path),
        cure="Choose the model that the weights were trained for.",
    )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
