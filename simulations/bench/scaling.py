"""CPU time, memory and bytes of a simulated round against sites and parameters, fitted, and carried on to many more.

Each point is a process of its own: sites of ten pictures, one step of SGD each, plain or with secure aggregation, so
that what a site costs beside its training shows. The fits are least squares with coefficients that are not below 0.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.plan import Plan, Secure
from client.secagg.terms import least_threshold
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.bench.memory import measured, peak_memory
from simulations.bench.rounds import Case
from simulations.bench.run import Figures, Options
from simulations.federated import Sites, local_grid

PICTURES, ROUNDS = 10, 3

DEGREE = 48
"""Peers of a site in a sparse graph."""

FAR = 1_000_000
"""Sites, and parameters, that the fits are carried on to."""

GRID: dict[str, tuple[tuple[str, int], ...]] = {
    "plain": (("cnn_tiny", 50), ("cnn_tiny", 400), ("fer_nano", 50)),
    "complete": (("cnn_tiny", 20), ("cnn_tiny", 80), ("fer_nano", 20)),
    "sparse": (("cnn_tiny", 100), ("cnn_tiny", 200), ("fer_nano", 60)),
}
"""Way of adding up -> nets and numbers of sites."""


@dataclass(frozen=True)
class Point:
    """What a round of one way, net and number of sites took: CPU seconds, bytes, and the process's most KiB."""

    sites: int
    parameters: int
    seconds: float
    up: float
    rss: float


def plan_of(way: str, case: Case) -> Plan:
    """Return the plan of a point."""
    plan = case.plan(ROUNDS)
    if way == "plain":
        return plan
    sparse = way == "sparse"
    profile = "semi-honest" if sparse else "malicious"
    holders = DEGREE + 1 if sparse else case.sites
    terms = Secure(
        *(case.sites, least_threshold(holders, profile), case.sites // 2 + 1 if sparse else 3),
        **{"clip": 16.0, "largest_weight": 16, "profile": profile, "degree": DEGREE if sparse else 0},
    )
    return replace(plan, aggregation="secure", secure=terms)


def point(way: str, net: str, sites: int) -> Point:
    """Run a point in this process; the first round counts with what begins, and the last without training."""
    case, marks = Case(net, sites, PICTURES), [time.process_time()]
    plan, held = plan_of(way, case), Sites(case.samples(), case.partition(), 0, None)
    with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary, local_grid(held, 1) as grid:
        folder = RunFolder(Path(temporary))
        coordinator = Coordinator(
            plan, folder, "federated", lambda _: marks.append(time.process_time()), roster=held.roster
        )
        totals = coordinator.run(grid).totals
    seconds = min(after - before for before, after in itertools.pairwise(marks[1:-1]))
    size = len(FlatModel(build(plan.model, 0)))
    return Point(sites, size, seconds, totals.bytes_up / ROUNDS, peak_memory())


def terms_of(way: str, sites: NDArray[np.float64], parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what CPU time is a sum of, (points, 3).

    Plain: a site, and its numbers. What secure aggregation adds: a site, a pair of sites that share a mask, and the
    numbers of the mask; in a sparse graph the pairs of a site are always as many, so that the first is 0.
    """
    pairs = sites * (sites if way == "complete" else DEGREE)
    if way == "plain":
        return np.stack([sites, sites * parameters, 0 * sites], 1)
    return np.stack([sites * (way == "complete"), pairs, pairs * parameters], 1)


def fitted(
    way: str, points: Sequence[Point], plain: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the coefficients (3,) of CPU seconds over :func:`terms_of`, none below 0.

    Parameters
    ----------
    plain : the coefficients of plain rounds, whose seconds are taken off; None takes off nothing.
    """
    from scipy.optimize import nnls

    sites, parameters = (
        np.array([getattr(each, name) for each in points], np.float64) for name in ("sites", "parameters")
    )
    seconds = np.array([each.seconds for each in points])
    if plain is not None:
        seconds = np.maximum(seconds - terms_of("plain", sites, parameters) @ plain, 1e-9)
    terms = terms_of(way, sites, parameters) / seconds[:, None]  # so that small points count as large ones
    scale = np.maximum(terms.max(0), 1e-300)
    found, _ = nnls(terms / scale, np.ones(len(points)))
    return np.asarray(found / scale)


def bench(options: Options) -> Figures:  # noqa: ARG001 - every benchmark takes the options
    """Return the points, the fits, and what they come to far off."""
    points = {
        way: [
            Point(**measured(way, net, str(sites), module="simulations.bench.scaling"))
            for net, sites in places
        ]
        for way, places in GRID.items()
    }
    return figures_of(points)


def figures_of(points: Mapping[str, Sequence[Point]]) -> Figures:
    """Return the figures of all points of each way, in the order of :data:`GRID`, the plain one first."""
    figures: Figures = {}
    base = fitted("plain", points["plain"])
    for way, places in GRID.items():
        own = base if way == "plain" else fitted(way, points[way], base)
        errors = []
        for (net, sites), found in zip(places, points[way], strict=True):
            name = f"{way}_{sites}_{net}"
            figures |= {f"cpu_s.{name}": found.seconds, f"rss_mb.{name}": found.rss * 1024 / 1e6}
            figures[f"bytes_up_per_parameter.{name}"] = found.up / sites / found.parameters
            errors.append(abs(_seconds(way, own, base, sites, found.parameters) / found.seconds - 1))
        names = ("site_ms", "number_ns", "") if way == "plain" else ("site_ms", "pair_us", "pair_number_ns")
        units = (1e3, 1e9, 1.0) if way == "plain" else (1e3, 1e6, 1e9)
        for name, value in zip(names, own * units, strict=True):
            if name:
                figures[f"fit_{name}.{way}"] = float(value)
        figures[f"fit_worst_error.{way}"] = max(errors)
        if way != "complete":  # of which there are 200 sites at most
            figures[f"far_cpu_hours.{way}"] = _seconds(way, own, base, FAR, FAR) / 3600
    return figures


def _seconds(
    way: str, own: NDArray[np.float64], plain: NDArray[np.float64], sites: int, parameters: int
) -> float:
    """Return the CPU seconds of a round that the fits come to."""
    place = np.array([float(sites)]), np.array([float(parameters)])
    more = 0.0 if way == "plain" else float(terms_of(way, *place)[0] @ own)
    return float(terms_of("plain", *place)[0] @ plain) + more


if __name__ == "__main__":
    said = point(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.stdout.write(json.dumps(said.__dict__) + "\n")
