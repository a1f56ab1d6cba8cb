"""What is changed in a net before it is exported: pruning, fixed norms, ReLU, and fine tuning by distillation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from fer_models.edge.shrinking import OBSERVED, distilled, pruned, with_fixed_norms, with_relu
from fer_models.samples import Samples
from fer_models.zoo import parameter_count
from simulations.exporting.asked import Export
from simulations.exporting.pictures import shown
from simulations.threads import one_thread

if TYPE_CHECKING:
    from simulations.exporting.command import Source

TAUGHT = 8000
"""Pictures at most on which a changed net learns the answers of the original again."""


def shrunk(
    net: nn.Module,
    source: Source,
    how: Export,
    samples: Samples,
    *,
    private: bool,
    say: Callable[[str], None],
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the net as the options change it, and what was done.

    Parameters
    ----------
    net : folded.
    source : the original, whose answers are learned again.
    private : the original was trained with differential privacy; see :func:`simulations.exporting.pictures.shown`.
    """
    if not how.changes:
        return net, {}
    spec, before = source.spec, parameter_count(net)
    form = (spec.size, spec.channels)
    made: dict[str, Any] = {}
    if how.norms == "fixed":
        seen = shown(replace(how, count=min(how.count, OBSERVED)), samples, *form, private=private)
        net = with_fixed_norms(net, seen.pictures)
        made["norms"] = f"fixed to the mean statistics of {seen.what}"
    if how.activation == "relu":
        net = with_relu(net)
        made["activation"] = "ReLU for SiLU"
    if how.prune:
        net = pruned(net, how.prune, spec.channels, spec.size)
        made |= {"pruned": how.prune, "parameters_before": before, "parameters_after": parameter_count(net)}
        say(f"pruned: {before:,} parameters to {parameter_count(net):,}")
    if how.finetune:
        pictures = shown(replace(how, count=TAUGHT), samples, *form, private=private)
        say(f"learning the answers again: {how.finetune:g} passes over {pictures.what}")
        with one_thread():
            net = distilled(net, source.net, pictures.pictures, how.finetune, how.seed)
        made["finetuned"] = f"{how.finetune:g} passes over {pictures.what}, by distillation"
    return net, made
