"""``fedfer server run``: a plan's rounds over the sites that are connected; leaves off and takes up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from client.plan import Plan
from client.plan_signature import sign_plan
from client.site_check import plan_of
from client.words import Words, read_words
from fer_models.errors import ConfigError
from server.coordinator import Coordinator
from server.deployed import PATIENCE, ROSTER, SIGNATURE, SYSTEM, UNTIL
from server.following import TICK, followed, start
from server.patience import Patience
from server.run_folder import RunFolder, reading, write_text
from server.watching import watching

USAGE = (
    "Write: fedfer server run DIR PLAN.json, or experiment=NAME and KEY=VALUE in its place; --name NAME "
    "--run-dir RUN --quorum SITES --deadline SECONDS."
)

OPTIONS = ("--name", "--run-dir", "--quorum", "--deadline")

Composing = Callable[[Sequence[str], int], Plan]
"""Returns the plan of some settings for so many sites, as the simulation would make it."""


def run(words: Sequence[str], compose: Composing) -> int:
    """Run a plan, or take up one that was left off; Ctrl-C leaves it running."""
    found = read_words(words, USAGE, valued=OPTIONS)
    if not found.others:
        raise ConfigError("server run needs a folder and a plan", where="command line", cure=USAGE)
    coordinator, plan = asked(found, compose)
    patience = patience_of(found)
    folder = prepared(coordinator, plan, run_folder(found, coordinator, plan))
    console = Console(highlight=False)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False)

    say(f"run folder: {folder.path}")
    while (
        not folder.complete
    ):  # again where it was the first step alone, of server statistics, that has ended
        (folder.path / UNTIL).unlink(missing_ok=True)
        keep_patience(folder, patience)
        start(coordinator, folder)
        try:
            with watching(console) as show:
                for event in followed(coordinator, folder):
                    show(event)
        except KeyboardInterrupt:
            say("The study goes on; the same command looks on again.")
            return 0
        time.sleep(TICK)
    if note := _note(folder):
        say(note)
    say(f"done: {folder.path / 'summary.json'} and {folder.path / 'model'}")
    return 0


def _note(folder: RunFolder) -> str:
    """Return what a finished run says besides its figures, such as that the last evaluation was lost."""
    with reading(folder.path / "summary.json"):
        summary = folder.read_json("summary.json") or {"systems": {SYSTEM: {}}}
        return str(summary["systems"][SYSTEM].get("note", ""))


def keep_patience(folder: RunFolder, patience: Patience) -> None:
    """Write how long sites are waited for; it holds from the next start of the rounds' process on."""
    folder.write_json(PATIENCE, asdict(patience))


def asked(found: Words, compose: Composing) -> tuple[Coordinator, Plan]:
    """Return the coordinator and the plan that a command names."""
    coordinator = Coordinator.open(Path(found.others[0]))
    plan = _plan(found, coordinator, compose)
    if "--name" in found.options:
        plan = replace(plan, run=found.options["--name"])  # two runs of one plan are two in every ledger
    return coordinator, plan


def run_folder(found: Words, coordinator: Coordinator, plan: Plan) -> Path:
    """Return where a run's folder is, or is to be."""
    return Path(found.options.get("--run-dir", coordinator.path / "runs" / (plan.run or "run")))


def _plan(found: Words, coordinator: Coordinator, compose: Composing) -> Plan:
    """Return the plan of a file, or of settings."""
    given = found.others[1:]
    if len(given) == 1 and "=" not in given[0]:
        return plan_of(Path(given[0]))
    if not given or not all("=" in each for each in given):
        raise ConfigError("server run needs a folder and a plan", where="command line", cure=USAGE)
    roster = coordinator.enrolled().roster
    return compose(given, len(roster.names) if roster else 0)


def patience_of(found: Words) -> Patience:
    """Return how long sites are waited for.

    Raises
    ------
    ConfigError : a number is none.
    """
    given = {}
    for name, kind in (("quorum", int), ("deadline", float)):
        try:
            if (word := found.options.get(f"--{name}")) is not None:
                given[name] = kind(word)
        except ValueError as error:
            raise ConfigError(f"--{name} {word!r} is no number", where="command line", cure=USAGE) from error
    return Patience(**given)


def prepared(coordinator: Coordinator, plan: Plan, path: Path) -> RunFolder:
    """Return the run folder of a plan, made where it is missing.

    Raises
    ------
    ConfigError : no site takes part, or fewer than the plan needs.
    RunFolderError : the folder holds another run.
    """
    roster = coordinator.enrolled().roster
    names = roster.names if roster else ()
    needed = plan.secure.fewest if plan.secure else 1
    if len(names) < needed or roster is None:
        raise ConfigError(
            f"{len(names)} sites take part, and the plan needs {needed}",
            where=str(coordinator.path),
            cure="Approve more sites: fedfer server approve DIR REQUEST.",
        )
    folder = RunFolder(path)
    folder.open(
        {"plan": asdict(plan), "hash": plan.digest}, f"# the plan {plan.digest} of {coordinator.name}\n"
    )
    if not (path / ROSTER).exists():
        write_text(path / ROSTER, roster.to_json())
    write_text(path / SIGNATURE, sign_plan(coordinator.identity(), plan))
    return folder
