"""The coordinator's own commands: ``fedfer server ...``, and ``verify-round`` for whoever audits it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.identity import Roster
from client.strict import nearest
from fer_models.errors import ConfigError, SecureAggregationError

if TYPE_CHECKING:
    from client.plan import Plan

USAGE = "Write: fedfer server verify-round FOLDER [--session N] [--roster FILE] [--json]."

UNTRUSTED = (
    "The public keys are those beside the transcript: give --roster FILE to check against the ones you trust."
)

OPTIONS = ("--session", "--roster", "--json")


def server(words: Sequence[str], compose: Callable[[Sequence[str], int], Plan]) -> int:
    """Run a command of the coordinator and return its exit code.

    Parameters
    ----------
    compose : see :data:`server.studying.Composing`; the settings of plans are a room further to the right.

    Raises
    ------
    FedferError : it is written wrongly, or what the command says.
    """
    from client.audit_view import log
    from server import enrolment_commands as enrolment
    from server import serving

    def run(rest: Sequence[str]) -> int:
        from server.studying import run as started  # with it comes torch, which no other command needs

        return started(rest, compose)

    def statistics(rest: Sequence[str]) -> int:
        from server.statistics_command import statistics as taken

        return taken(rest, compose)

    commands = {
        "init": enrolment.init,
        "approve": enrolment.approve,
        "revoke": enrolment.revoke,
        "sites": enrolment.sites,
        "renew": enrolment.renew,
        "start": serving.start,
        "run": run,
        "statistics": statistics,
        "status": serving.status,
        "stop": serving.stop,
        "log": lambda rest: log(rest, "server"),
        "verify-round": lambda rest: _verify(_parsed(rest)),
    }
    if not words or words[0] not in commands:
        cure = nearest(words[0], commands) if words else f"Use one of {', '.join(commands)}."
        raise ConfigError("server needs a command", where="command line", cure=cure)
    return commands[words[0]](words[1:])


@dataclass(frozen=True)
class _Asked:
    folder: Path
    session: int | None = None
    roster: Roster | None = None
    json: bool = False


def _parsed(words: Sequence[str]) -> _Asked:
    folders: list[Path] = []
    given: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in ("--session", "--roster"):
            given[name] = value if equals else next(rest, "")
            if not given[name]:
                raise ConfigError(f"{name} without a value", where="command line", cure=USAGE)
        elif word == "--json":
            given[word] = word
        elif word.startswith("-"):
            raise ConfigError(f"unknown option {word!r}", where="command line", cure=nearest(word, OPTIONS))
        else:
            folders.append(Path(word))
    if len(folders) != 1:
        raise ConfigError("verify-round needs one folder", where="command line", cure=USAGE)
    session = given.get("--session")
    if session is not None and not session.isdecimal():
        raise ConfigError(f"session {session!r} is no number", where="command line", cure=USAGE)
    roster = _roster(Path(given["--roster"])) if "--roster" in given else None
    return _Asked(folders[0], None if session is None else int(session), roster, "--json" in given)


def _roster(path: Path) -> Roster:
    """Return the roster that the auditor trusts."""
    try:
        return Roster.from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the roster cannot be read", where=str(path), cure="Give the file of public keys that you trust."
        ) from error


def transcripts_of(path: Path, session: int | None) -> list[Path]:
    """Return the folders of transcripts of a run, in the order of their sessions; the folder itself where it is one.

    Raises
    ------
    ConfigError : there is none, or none of that session.
    """
    if not path.is_dir():
        raise ConfigError("no such folder", where=str(path), cure=USAGE)
    if (path / "offer.bin").exists():
        found = [path]
    else:
        from server.secagg.transcript import TRANSCRIPTS

        folder = path / TRANSCRIPTS if (path / TRANSCRIPTS).is_dir() else path
        found = sorted(
            (p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()), key=lambda p: int(p.name)
        )
    if not found:
        cure = (
            "Give the transcript of a session, or a run with aggregation=secure aggregation.transcripts=true."
        )
        raise ConfigError("no transcript", where=str(path), cure=cure)
    if session is None:
        return found
    chosen = [p for p in found if p.name.isdecimal() and int(p.name) == session]
    if not chosen:
        known = f"Give {int(found[0].name)} to {int(found[-1].name)}." if found[0].name.isdecimal() else USAGE
        raise ConfigError(f"no transcript of session {session}", where=str(path), cure=known)
    return chosen


def _verify(asked: _Asked) -> int:
    """Verify one session after the other; what is right is printed before what is wrong is raised."""
    told: list[dict[str, Any]] = []
    try:
        for folder, facts in _verified(asked):
            told.append(facts)
            if not asked.json:
                sys.stdout.writelines(f"{line}\n" for line in _lines(folder, facts))
    except SecureAggregationError as error:
        if asked.json:
            _dump([*told, {"error": str(error), "code": error.code}])
        raise
    if asked.json:
        _dump(told)
        return 0
    if asked.roster is None:
        sys.stdout.write(f"{UNTRUSTED}\n")
    good = sum("lost" not in facts for facts in told)
    sys.stdout.write(f"verified: {good} session{'' if good == 1 else 's'}\n")
    return 0


def _lines(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Yield what is printed of a session."""
    if "lost" in facts:
        yield f"{folder}: session {facts['session']} was lost, it has no sum"
        return
    which = f"session {facts['session']} of run {facts['run']}, round {facts['round_number']}"
    yield f"{folder}: {which}, {facts['purpose'].replace('_', ' ')}"
    yield from (f"  {check}" for check in facts["checks"])
    yield f"  the sum is over {', '.join(facts['survivors'])}"


def _verified(asked: _Asked) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each transcript's folder and what was verified, and hold each step against the one before it."""
    from server.secagg.transcript import STEP, SUM
    from server.secagg.verify import verify

    ends: dict[int, str] = {}  # round -> digest of the weights with which it ended
    folders = transcripts_of(asked.folder, asked.session)
    again = _made_again(folders)
    for folder in folders:
        unfinished = folder in again and not (folder / STEP).exists()
        if unfinished or (len(folders) > 1 and not any((folder / name).exists() for name in (SUM, STEP))):
            yield folder, {"session": int(folder.name), "lost": True}
            continue
        found = verify(folder, asked.roster)
        if found.before is not None and found.after is not None:
            # A run that was killed makes its last rounds again, from where an earlier one ended.
            ends = {number: end for number, end in ends.items() if number < found.round_number}
            if ends and found.before != ends[max(ends)]:
                raise SecureAggregationError(
                    "a round that does not start from the weights with which the one before it ended",
                    code="wrong_question",
                    where=str(folder),
                    cure="Do not rely on this run's model.",
                )
            ends[found.round_number] = found.after
        yield folder, asdict(found)


def _made_again(folders: Sequence[Path]) -> set[Path]:
    """Return the transcripts of sessions whose round a later session made again, after a kill."""
    from client.secagg.wire import Offer

    latest: dict[tuple[str, int], Path] = {}
    earlier: set[Path] = set()
    for folder in folders:
        with contextlib.suppress(
            OSError, SecureAggregationError
        ):  # what is wrong with it is found by verify()
            offer = Offer.parse((folder / "offer.bin").read_bytes())
            task = offer.purpose, offer.round_number
            earlier |= {latest[task]} if task in latest else set()
            latest[task] = folder
    return earlier


def _dump(told: list[dict[str, Any]]) -> None:
    sys.stdout.write(json.dumps({"sessions": told}, indent=1, allow_nan=False) + "\n")
