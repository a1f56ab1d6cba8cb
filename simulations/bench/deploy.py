"""A study over real processes on this machine: what a round costs over the simulation's, and what kills do to it.

The steady round is the median of all but the first two and the last: by then every process has what it needs in memory.
``soak=true`` kills a process at random after some rounds, the coordinator's or a site's, a whole site or the whole
machine, and in the end holds what the run tells against every site's ledger and every audit log.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from client.audit_log import AuditLog
from client.ledger import Ledger, close_all
from client.plan import Plan, read_plan
from client.strict import parse
from fer_models.errors import ConfigError, EngineError
from server.patience import Patience
from server.run_folder import RunFolder
from server.run_state import PROGRESS
from simulations.bench.loopback import Loopback, cpu_seconds, left_over
from simulations.compose import composed
from simulations.federated import Sites, run_local
from simulations.prepare import prepare

if TYPE_CHECKING:
    from simulations.bench.run import Figures, Options

WORDS = (
    "data.options.count={pictures}", "partition=iid", "partition.sites={sites}", "model={model}", "local=private",
    "privacy=dp", "privacy.target_epsilon=4", "privacy.allow_useless=true", "aggregation=secure",
    "server.rounds={rounds}",
)  # fmt: skip

SCAFFOLD = (
    "data.options.count={pictures}", "partition=iid", "partition.sites={sites}", "model={model}", "local=scaffold",
    "server=fedavg", "aggregation=secure", "server.rounds={rounds}",
)  # fmt: skip

UNSTEADY = 2
"""Rounds at the beginning that are not looked at."""


@dataclass(frozen=True)
class Case:
    """What is run.

    Attributes
    ----------
    sites, rounds, pictures, model : of the study; pictures of all sites together.
    soak : whether processes are killed.
    kills : how many, over the rounds.
    seed : which processes, and when.
    deadline : seconds for an answer.
    scaffold : SCAFFOLD in place of private steps, which the sites' policies are loosened for.
    """

    sites: int = 3
    rounds: int = 8
    pictures: int = 360
    model: str = "hog_linear"
    soak: bool = False
    kills: int = 12
    seed: int = 0
    deadline: float = 60.0
    scaffold: bool = False


def bench(options: Options) -> Figures:
    """Run the case that the options ask for: ``sites=10 rounds=50 soak=true kills=20``."""
    case = _case(options.overrides)
    words = [each.format(**vars(case)) for each in (SCAFFOLD if case.scaffold else WORDS)]
    # A socket's path may have 100 bytes.
    with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary:
        folder = Path(temporary)
        made = Loopback(folder, words)
        if case.scaffold:
            for site in made.sites:
                allow_without_privacy(site.path)
        with made as loopback:
            plan = read_plan((folder / "dealt" / "plan.json").read_text())
            found = _soaked(loopback, plan, case) if case.soak else _measured(loopback, plan, case, words)
        found["processes_left"] = float(len(left_over(folder)))
        close_all()
    return found


def allow_without_privacy(site: Path) -> None:
    """Loosen a site's policy, which refuses plans without privacy."""
    policy = site / "policy.yaml"
    text = policy.read_text()
    assert text.count("  required: true\n") == 1
    policy.write_text(text.replace("  required: true\n", "  required: false\n"))


def _case(overrides: list[str]) -> Case:
    given: dict[str, Any] = {}
    for word in overrides:
        name, _, value = word.partition("=")
        kind = type(getattr(Case, name, ""))
        try:
            given[name] = value == "true" if kind is bool else kind(value)
        except ValueError as error:
            raise ConfigError(
                f"{word!r} is no setting", where="bench deploy", cure="Give numbers."
            ) from error
    case = parse(Case, given, "bench deploy")
    if case.scaffold and case.soak:
        what = "a soak holds ledgers against what is told, and SCAFFOLD keeps none"
        raise ConfigError(what, where="bench deploy", cure="Leave one of scaffold and soak out.")
    return case


def _measured(loopback: Loopback, plan: Plan, case: Case, words: list[str]) -> Figures:
    """Return what a steady round costs."""
    ends: list[float] = []
    cpu: dict[int, dict[str, float]] = {}
    for event in loopback.run(plan, Patience(deadline=case.deadline)):
        if "round" in event:
            ends.append(event["seconds"])
            cpu[event["round"]] = {name: cpu_seconds(pid) for name, pid in loopback.pids().items()}
    walls = [b - a for a, b in itertools.pairwise(ends)][UNSTEADY - 1 : -1]
    alone, equal = _simulated(plan, words, loopback.run_folder(plan))
    first, last = min(cpu, key=lambda r: abs(r - UNSTEADY)), max(r for r in cpu if r < case.rounds)
    spent: defaultdict[str, float] = defaultdict(float)
    for name, seconds in cpu[last].items():
        if name in cpu[first]:
            spent[name.rpartition("/")[2]] += (seconds - cpu[first][name]) / max(1, last - first)
    return {
        "round_s": statistics.median(walls),
        "simulated_round_s": alone,
        "round_overhead_s": statistics.median(walls) - alone,
        "round_overhead_least_s": min(walls) - alone,
        **{f"{kind}_cpu_s": spent[kind] for kind in ("superlink", "gate", "rounds", "node", "agent")},
        "agent_rss_mb": loopback.peak_mb(),
        "equals_simulation": float(equal),
    }


def _simulated(plan: Plan, words: list[str], deployed: RunFolder) -> tuple[float, bool]:
    """Return the seconds of a plan's simulated round, and whether it ends with the weights of the deployed study."""
    settings, _ = composed(words)
    ready = prepare(settings)
    ends: list[float] = []
    with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary:
        folder = Path(temporary)
        sites = Sites(ready.samples, ready.partition, settings.seed, folder / "ledgers")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            run_local(
                plan,
                sites,
                RunFolder(folder / "run"),
                "federated",
                1,
                lambda _: ends.append(time.monotonic()),
            )
        finally:
            torch.set_num_threads(threads)
        pair = [
            each.load_checkpoint("checkpoint-federated") for each in (RunFolder(folder / "run"), deployed)
        ]
    walls = [b - a for a, b in itertools.pairwise(ends)][UNSTEADY - 1 : -1]
    states = [found[0] for found in pair if found is not None]
    equal = len(states) == 2 and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    return statistics.median(walls), equal


def _soaked(loopback: Loopback, plan: Plan, case: Case) -> Figures:
    """Run a study of which processes are killed, and return what came of it."""
    draw = np.random.default_rng(case.seed)
    marks = set(
        draw.choice(np.arange(1, case.rounds), min(case.kills, case.rounds - 1), replace=False).tolist()
    )
    killed = Counter[str]()
    began, ended = time.monotonic(), False
    while not ended:
        try:
            for event in loopback.run(plan, Patience(deadline=case.deadline)):
                if "note" in event:
                    sys.stdout.write(f"  {event['note']}\n")
                if "round" not in event:
                    continue
                told_of = f"  lost: {event['lost']}" if "lost" in event else ""
                sys.stdout.write(
                    f"round {event['round']}/{case.rounds}  {time.monotonic() - began:.0f} s{told_of}\n"
                )
                if event["round"] in marks:
                    marks.discard(event["round"])  # a round that is made again is told again
                    kind = _kill(loopback, draw)
                    killed[kind] += 1
                    sys.stdout.write(f"  killed: {kind}\n")
                sys.stdout.flush()
            ended = True
        except EngineError as error:  # as a coordinator would, who gives the same command again
            sys.stdout.write(f"  {error}\n")
            loopback.start()
            loopback.wait(plan.secure.fewest if plan.secure else 1)
    folder = loopback.run_folder(plan)
    done = folder.read_json("summary.json")["systems"]["federated"]
    releases, most = _ledgers(loopback, plan)
    return {
        "rounds": float(case.rounds),
        "lost_rounds": float(sum("lost" in line for line in _told(folder).values())),
        **{f"killed_{kind}": float(count) for kind, count in sorted(killed.items())},
        "releases_least": float(min(releases)),
        "releases_most": float(max(releases)),
        "epsilon_of_ledgers": most,
        "epsilon_told": float(done["epsilon"]),
        "audit_entries": float(_entries(loopback)),
        "minutes": (time.monotonic() - began) / 60,
        "agent_rss_mb": loopback.peak_mb(),
    }


def _kill(loopback: Loopback, draw: np.random.Generator) -> str:
    """Kill a process within the next second, and return its kind: site is a whole one, and machine is everything."""
    kinds = ("agent", "node", "site", "superlink", "superexec", "gate", "rounds", "machine")
    kind = str(draw.choice(kinds, p=(0.2, 0.2, 0.15, 0.15, 0.05, 0.1, 0.1, 0.05)))
    site = str(draw.choice([each.name for each in loopback.sites]))

    def strike() -> None:
        supervisors = loopback.supervisors()
        if kind == "machine":
            pids = [*supervisors.values(), *loopback.pids().values()]
        elif kind == "site":
            pids = [supervisors[site], *(p for n, p in loopback.pids().items() if n.startswith(f"{site}/"))]
        else:
            pids = [p for n, p in loopback.pids().items() if n in (kind, f"{site}/{kind}")]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if kind in ("machine", "site"):  # as the machine's own supervisor would
            time.sleep(1.0)
            loopback.start()

    threading.Timer(float(draw.random()), strike).start()
    return kind


def _told(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """Return round -> what was told of it last; one that is made again after a kill is told twice."""
    lines = (folder.path / PROGRESS).read_text().splitlines()
    return {line["round"]: line for line in map(json.loads, lines)}


def _ledgers(loopback: Loopback, plan: Plan) -> tuple[list[int], float]:
    """Return the releases in every site's ledger, each held against its hash, and the largest epsilon."""
    assert plan.privacy is not None
    ledgers = [Ledger(site.ledger_path, site.name, read_only=True) for site in loopback.sites]
    return [each.head.number for each in ledgers], max(
        each.epsilon(plan.privacy.delta).value for each in ledgers
    )


def _entries(loopback: Loopback) -> int:
    """Return how many entries the audit logs of all sites and of the coordinator hold, each held against its hash."""
    paths = [loopback.coordinator.log.path, *(site.path / "audit.jsonl" for site in loopback.sites)]
    return sum(1 for path in paths for _ in AuditLog(path).entries())
