"""Seconds of a federated round, beside a bare PyTorch loop that does the same work.

Rounds of both alternate in one process, so that what else the machine does falls on both; the smallest figure of
each counts. The bare loop has its pictures normalised before anything is timed; FedFER does it batch by batch.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.plan import LocalWork, Plan, ServerWork
from fer_models.flat import FlatModel
from fer_models.labels import SEVEN
from fer_models.samples import Samples
from fer_models.zoo import ModelSpec, build
from server.results import Result
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.bench.bare import BareLoop
from simulations.bench.memory import measured
from simulations.bench.run import Figures, Options
from simulations.display import new_console
from simulations.federated import Sites, local_grid
from simulations.partition import Partition
from simulations.threads import one_thread

CHILD = "simulations.bench.child"
"""What measures in a process of its own."""

TEST_PICTURES = 1000
REPEATS = 5
"""Rounds of each kind whose smallest time counts."""


@dataclass(frozen=True)
class Case:
    """Work to do: a net, sites, pictures a site, worker processes, sites trained in one pass."""

    model: str
    sites: int
    pictures: int
    workers: int = 1
    together: int = 1

    def plan(self, rounds: int) -> Plan:
        """Return one epoch of SGD a round, without augmentation, dropout or clipping."""
        local = LocalWork(unit="epochs", amount=1, learning_rate=0.02, gradient_clip=0.0, augment=False)
        model = ModelSpec(self.model, classes=len(SEVEN), dropout=0.0)
        return Plan(SEVEN, model, local, ServerWork(rounds=rounds))

    def samples(self) -> Samples:
        """Return random pictures; what they show does not matter to the clock."""
        rng, count = np.random.default_rng(0), self.sites * self.pictures + TEST_PICTURES
        pictures = rng.integers(0, 256, (count, 48, 48), np.uint8)
        label = rng.integers(0, len(SEVEN), count).astype(np.int16)
        split = np.where(np.arange(count) < self.sites * self.pictures, "train", "test")
        return Samples(pictures, label, SEVEN, source=np.full(count, "drawn at random"), split=split)

    def partition(self) -> Partition:
        """Return equal sites."""
        train = np.repeat(np.arange(self.sites), self.pictures)
        return Partition(
            np.concatenate([train, np.arange(TEST_PICTURES) % self.sites]).astype(np.int32), self.sites
        )

    def bare(self, samples: Samples) -> BareLoop:
        """Return the bare loop over the same pictures."""
        ends, n = self.sites * self.pictures, self.pictures
        parts = [(samples.pictures[i : i + n], samples.label[i : i + n]) for i in range(0, ends, n)]
        plan = self.plan(1)
        test = (samples.pictures[ends:], samples.label[ends:])
        return BareLoop(build(plan.model, plan.seed), plan.local.learning_rate, plan.local.batch, parts, test)


@dataclass
class Timing:
    """CPU and wall seconds of rounds; a process's CPU time leaves out its workers'."""

    cpu: list[float]
    wall: list[float]

    def add(self, began: tuple[float, float]) -> None:
        """Add the time since ``began``."""
        self.cpu.append(time.process_time() - began[0])
        self.wall.append(time.perf_counter() - began[1])

    @staticmethod
    def now() -> tuple[float, float]:
        """Return (CPU, wall)."""
        return time.process_time(), time.perf_counter()


def run_case(case: Case, rounds: int, observer: Callable[[dict[str, Any]], None]) -> Result:
    """Run a case; ``observer`` is called at the end of every round."""
    with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary:
        sites = Sites(case.samples(), case.partition(), 0, None)
        with local_grid(sites, case.workers, case.together) as grid:
            return Coordinator(case.plan(rounds), RunFolder(Path(temporary)), "federated", observer).run(grid)


def interleaved(case: Case, repeats: int = REPEATS) -> tuple[Timing, Timing, float]:
    """Return the timings of our rounds and of bare rounds, and the largest difference of the final weights."""
    ours, theirs, bare = Timing([], []), Timing([], []), case.bare(case.samples())
    began: list[tuple[float, float]] = []

    def observer(line: dict[str, Any]) -> None:
        # A round ends when the sites have evaluated it, which all but the last do as the next one begins.
        if began and line["round"] < line["rounds"]:
            ours.add(began.pop())
        start = Timing.now()
        bare.round()
        theirs.add(start)
        began.append(Timing.now())

    with one_thread():
        result = run_case(case, repeats + 2, observer)
    weights = torch.cat([value.flatten() for value in parameters_of(result, case).values()])
    expected = torch.cat([weight.flatten() for weight in bare.weights])
    return ours, theirs, float((weights - expected).abs().max())


def parameters_of(result: Result, case: Case) -> dict[str, torch.Tensor]:
    """Return a result's weights by name, in torch's usual order."""
    plan = case.plan(1)
    flat = FlatModel(build(plan.model, plan.seed))
    flat.load_(result.vector)
    return flat.to_state()


def bench(options: Options) -> Figures:  # noqa: ARG001 - every benchmark takes the options
    """Return the figures of docs/benchmarks.md."""
    figures: Figures = {}
    differences = []
    cases = {
        "ratio_20x200": Case("cnn_pool", 20, 200),
        "ratio_200x20": Case("cnn_pool", 200, 20),
        "ratio_200x20_tiny": Case("cnn_tiny", 200, 20),
        "ratio_200x20_tiny_together": Case("cnn_tiny", 200, 20, together=40),
    }
    for key, case in cases.items():
        ours, theirs, difference = interleaved(case)
        figures[key] = min(ours.cpu) / min(theirs.cpu)
        if case.pictures <= case.plan(1).local.batch:  # FedFER shuffles; one batch has no order
            differences.append(difference)
    for key in ("ratio_20x200", "ratio_200x20", "ratio_200x20_tiny"):
        figures |= beside_peers(key, cases[key])
    ours, theirs, _ = interleaved(Case("cnn_pool", 20, 200, workers=2))
    figures["ratio_20x200_two_workers"] = min(ours.wall) / min(theirs.wall)
    figures["weights_difference"] = max(differences)
    figures["growth_1000_over_50"] = growth()
    return figures | startup() | memory()


def beside_peers(key: str, case: Case) -> Figures:
    """Return the figures of the peers that are installed, on the same work."""
    from simulations.bench.peers import EXTRAS, installed

    figures: Figures = {}
    for peer, extra in EXTRAS.items():
        if not installed(peer):
            new_console().print(
                f"{key}_{peer} is left out: install it with pip install 'fedfer[{extra}]'.",
                highlight=False,
                markup=False,
            )
            continue
        words = (peer, case.model, str(case.sites), str(case.pictures))
        found = measured(*words, module="simulations.bench.peers")
        figures[f"{key}_{peer}"] = found["ratio"]
        if case.pictures <= case.plan(1).local.batch:
            figures[f"weights_difference_{case.model}_{peer}"] = found["difference"]
    return figures


def growth() -> float:
    """Return CPU seconds a site of a round with 1,000 sites over those with 50."""
    each = {}
    for sites in (50, 1000):
        marks: list[float] = []
        run_case(
            Case("cnn_tiny", sites, 20), REPEATS, lambda _, marks=marks: marks.append(time.process_time())
        )
        each[sites] = min(b - a for a, b in itertools.pairwise(marks[:-1])) / sites  # the last is but half
    return each[1000] / each[50]


def startup() -> Figures:
    """Return the seconds from the end of the imports to the end of a round with one small site."""
    return {"startup_s": float(measured("startup", module=CHILD)["seconds"])}


def memory() -> Figures:
    """Return our peak memory over the bare loop's, each in a process of its own; the larger of two sizes."""
    ratios = {}
    for sites in (50, 1000):
        ours, theirs = (measured(kind, str(sites), module=CHILD)["rss"] for kind in ("ours", "bare"))
        ratios[sites] = ours / theirs
    return {"rss_ratio": max(ratios.values()), "rss_ratio_50": ratios[50], "rss_ratio_1000": ratios[1000]}
