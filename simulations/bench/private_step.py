"""What a private step costs beside a plain one and Opacus's own ways, noise and optimizer step included.

Steps alternate in one process, so that what else the machine does falls on all; the smallest CPU time of each counts.
``ratio`` is the private step over the plain step as torch takes it; ``own_ratio`` over the plain step as FedFER takes
it, in ``channels_last``, which for some nets is faster and for some slower. Peak memory is that of a process of its own
for each.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from client.bookkeeping.gradients import PrivateGradients
from client.gradients import PrivateTrainer
from client.guards import prove
from client.plan import LocalWork, Privacy
from client.randomness import KeyedStream
from fer_models.errors import ConfigError
from fer_models.flat import FlatModel
from fer_models.memory import keep_freed_memory
from fer_models.zoo import NETS, ModelSpec, build
from simulations.bench.memory import measured, peak_memory
from simulations.bench.run import Figures, Options
from simulations.threads import one_thread

BATCH = 64
CLASSES = 7
REPEATS = 12
MEMORY_STEPS = 4
"""Steps after which peak memory is read."""

SIGMA, CLIP, RATE = 1.0, 1.0, 0.05

Step = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A net and the pictures it takes."""

    name: str
    norm: str = "gn"
    size: int = 48
    channels: int = 1

    @property
    def key(self) -> str:
        """The net's name in figures."""
        return self.name.removeprefix("timm:")

    def module(self) -> nn.Module:
        """Return the net, in training mode."""
        spec = ModelSpec(
            self.name, norm=self.norm, classes=CLASSES, channels=self.channels, size=self.size, dropout=0.0
        )
        return build(spec, 0).train()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return random pictures in ``channels_last``, and labels."""
        generator = torch.Generator().manual_seed(0)
        form = (BATCH, self.size, self.size, self.channels)
        return torch.randn(form, generator=generator).permute(0, 3, 1, 2), torch.arange(BATCH) % CLASSES


CASES = (
    Case("hog_linear"),
    Case("fer_nano"),
    Case("fer_small"),
    Case("fer_base"),
    Case("cnn_pool", "none"),
    Case("cnn_tiny", "none"),
    Case("timm:mobilenetv2_050", size=112, channels=3),
    Case("timm:mobilenetv4_conv_small_035", size=112, channels=3),
)

FURTHER = tuple(Case(name) for name in NETS if name not in {case.name for case in CASES})
"""Further nets that are offered by name; measured where they are asked for."""


def plain(case: Case) -> Step:
    """Return the step that torch takes without privacy, in its default layout."""
    module, (x, y) = case.module(), case.batch()
    x = torch.empty(x.shape).copy_(x)
    optimizer = torch.optim.SGD(module.parameters(), 0.01)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(module(x), y).backward()
        optimizer.step()

    return step


def own_plain(case: Case) -> Step:
    """Return the plain step of a FlatModel."""
    flat, (x, y) = FlatModel(case.module()), case.batch()

    def step() -> None:
        flat.zero_grad()
        functional.cross_entropy(flat(x), y).backward()
        with torch.no_grad():
            flat.vector.sub_(flat.gradient, alpha=0.01)

    return step


def private(case: Case) -> Step:
    """Return the private step of a site, on a net that was tried as a site tries it."""
    flat, (x, y) = FlatModel(case.module()), case.batch()
    gradients = PrivateGradients(flat.module)
    prove(gradients, lambda a, b: functional.cross_entropy(flat(a), b, reduction="none"), x[:3], y[:3])
    trainer = PrivateTrainer(
        flat,
        Privacy(SIGMA, CLIP, 1e-5, 1000),
        divisor=RATE * 1000,
        work=LocalWork(learning_rate=0.01),
        stream=KeyedStream(bytes(32)),
        gradients=gradients,
    )
    rows, table = np.arange(BATCH), x.permute(0, 2, 3, 1)

    def losses(part: NDArray[np.intp]) -> Tensor:
        chosen = torch.from_numpy(part)  # pictures are chosen as a site chooses them, see client.inputs
        pictures = table.index_select(0, chosen).permute(0, 3, 1, 2)
        return functional.cross_entropy(flat(pictures), y.index_select(0, chosen), reduction="none")

    return lambda: trainer.step(rows, losses)


def hooks(case: Case) -> Step:
    """Return the private step of Opacus's per-sample gradients."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    module, (x, y) = GradSampleModule(case.module()), case.batch()
    x = torch.empty(x.shape).copy_(x)
    optimizer = DPOptimizer(torch.optim.SGD(module.parameters(), 0.01), **_facts())

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(module(x), y).backward()
        optimizer.step()

    return step


def ghost(case: Case) -> Step:
    """Return the private step of Opacus's ghost clipping: norms in one backward, the sum in another."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    wrapped: Any = GradSampleModuleFastGradientClipping
    module = wrapped(case.module(), max_grad_norm=CLIP)
    x, y = case.batch()
    x = torch.empty(x.shape).copy_(x)
    optimizer = DPOptimizerFastGradientClipping(torch.optim.SGD(module.parameters(), 0.01), **_facts())
    loss: Any = DPLossFastGradientClipping(module, optimizer, nn.CrossEntropyLoss())

    def step() -> None:
        optimizer.zero_grad()
        loss(module(x), y).backward()
        optimizer.step()

    return step


def _facts() -> dict[str, Any]:
    return {"noise_multiplier": SIGMA, "max_grad_norm": CLIP, "expected_batch_size": BATCH}


WAYS: dict[str, Callable[[Case], Step]] = {
    "plain": plain,
    "own_plain": own_plain,
    "private": private,
    "hooks": hooks,
    "ghost": ghost,
}


def seconds(case: Case, repeats: int) -> dict[str, float]:
    """Return the smallest CPU seconds of a step in each way."""
    steps = {name: way(case) for name, way in WAYS.items()}
    best = dict.fromkeys(steps, float("inf"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        for _ in range(repeats + 1):
            for name, step in steps.items():
                began = time.process_time()
                step()
                best[name] = min(best[name], time.process_time() - began)
    return best


def peak(key: str, way: str) -> dict[str, int]:
    """Return the peak memory of this process, in KiB, after some steps; for a process of its own."""
    torch.set_num_threads(1)
    keep_freed_memory()
    step = WAYS[way](next(case for case in (*CASES, *FURTHER) if case.key == key))
    for _ in range(MEMORY_STEPS):
        step()
    return {"rss": peak_memory()}


def bench(options: Options) -> Figures:
    """Return the figures of ``fedfer bench private-step``; ``models=A,B`` and ``repeats=N`` choose.

    Raises
    ------
    ConfigError : an unknown model or setting.
    """
    cases, repeats = chosen(options)
    keep_freed_memory()
    figures: Figures = {}
    with one_thread():
        for case in cases:
            figures |= figures_of(case, repeats)
    return figures


def figures_of(case: Case, repeats: int) -> Figures:
    """Return the figures of one net."""
    took = seconds(case, repeats)
    module = "simulations.bench.private_step"
    memory = {way: measured(case.key, way, module=module)["rss"] for way in ("plain", "private")}
    return {
        f"ratio_{case.key}": took["private"] / took["plain"],
        f"own_ratio_{case.key}": took["private"] / took["own_plain"],
        f"hooks_ratio_{case.key}": took["hooks"] / took["plain"],
        f"ghost_ratio_{case.key}": took["ghost"] / took["plain"],
        f"plain_ms_{case.key}": 1e3 * took["plain"],
        f"rss_ratio_{case.key}": memory["private"] / memory["plain"],
    }


def chosen(options: Options) -> tuple[list[Case], int]:
    """Read ``models=`` and ``repeats=``."""
    cases, repeats, known = list(CASES), REPEATS, {case.key: case for case in (*CASES, *FURTHER)}
    for word in options.overrides:
        name, _, value = word.partition("=")
        if name == "models" and all(each in known for each in value.split(",")):
            cases = [known[each] for each in value.split(",")]
        elif name == "repeats" and value.isdigit() and int(value):
            repeats = int(value)
        else:
            cure = f"Use models= with some of {', '.join(known)}, and repeats=12."
            raise ConfigError(f"unknown setting {word!r}", where="command line", cure=cure)
    return cases, repeats


if __name__ == "__main__":
    sys.stdout.write(json.dumps(peak(*sys.argv[1:])) + "\n")
