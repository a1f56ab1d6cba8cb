"""CPU time of a simulated round with secure aggregation over that of the same round without."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from client.plan import Plan, Secure
from client.secagg.terms import least_threshold
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.bench.rounds import Case
from simulations.federated import Sites, local_grid

CASE = Case("cnn_pool", 20, 200)
ROUNDS, REPEATS = 4, 3


def secured(plan: Plan, sites: int) -> Plan:
    """Return a plan with the terms that a simulation of so many sites gets by itself."""
    terms = Secure(sites, least_threshold(sites, "malicious"), 3, clip=16.0, largest_weight=256)
    return replace(plan, aggregation="secure", secure=terms)


def overhead(case: Case = CASE, repeats: int = REPEATS) -> float:
    """Return the ratio of the least seconds of a round; runs with and without alternate in one process."""
    plain = case.plan(ROUNDS)
    least = dict.fromkeys(("secure", "plain"), float("inf"))
    for _ in range(repeats):
        for plan in (plain, secured(plain, case.sites)):
            least[plan.aggregation] = min(least[plan.aggregation], _seconds(case, plan))
    return least["secure"] / least["plain"]


def _seconds(case: Case, plan: Plan) -> float:
    """Return the least CPU seconds of a round of a run, evaluation included."""
    marks: list[float] = []
    sites = Sites(case.samples(), case.partition(), 0, None)
    with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary, local_grid(sites, 1) as grid:
        folder = RunFolder(Path(temporary))
        Coordinator(
            plan,
            folder,
            "federated",
            lambda _: marks.append(time.process_time()),
            roster=sites.roster,
        ).run(grid)
    return min(
        b - a for a, b in itertools.pairwise(marks[:-1])
    )  # the last one ends before anybody trains again
