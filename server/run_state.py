"""How a run is doing, by the files of its folder; it needs nothing that the rounds need."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from client.alone import holder
from server.coordinator import Coordinator

FLOWER, OUTCOME, PROGRESS = "flower.json", "outcome.json", "progress.jsonl"
"""Which of Flower's runs works in a run folder, how it ended, and the rounds so far."""

LOCK = "rounds.lock"
"""Held by the process of the rounds, as long as it lives."""

SITES = "sites.json"
"""Who takes part, who is away and who refuses by which rule."""

RUNS = "runs.json"
"""The file of a coordinator's folder of state that names its run folders."""


def run_folders(coordinator: Coordinator) -> list[str]:
    """Return the run folders of a coordinator, the newest last."""
    try:
        found = json.loads((coordinator.state_path / RUNS).read_text())
        return [str(each) for each in found]
    except (OSError, ValueError, TypeError):
        return []


def refusal(name: str, why: Mapping[str, str]) -> str:
    """Return the sentence on a site that refuses; the rule of its policy is what comes last in its place."""
    rule = why["where"].rpartition(", ")[2] if why["kind"] == "PolicyError" else why["kind"]
    return f"{name} refuses by {rule}: {why['what']}"


def run_said(path: Path) -> Iterator[str]:
    """Yield how a run is doing, and which of its sites refuse it or are away."""
    state = "runs" if holder(path / LOCK) is not None else "does not run"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        if "done" in json.loads((path / OUTCOME).read_text()):
            state = "is done"
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        last = json.loads((path / PROGRESS).read_text().splitlines()[-1])
        state += f", round {last['round']} of {last['rounds']}"
    yield f"run {path}: {state}"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        sites = json.loads((path / SITES).read_text())
        yield from (f"  {refusal(name, why)}" for name, why in sites["refused"].items())
        yield from (f"  {name} is away" for name in sites["away"])
