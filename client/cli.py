"""The site's own commands: ``fedfer site ledger``. They need neither the coordinator's code nor a simulation's."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.ledger import Ledger, close_all
from client.ledger_view import Statement, figure, noise_of, plain, ranges, sentences, state
from client.strict import nearest
from fer_models.errors import ConfigError, PrivacyError

USAGE = "Write: fedfer site ledger FILE|RUN [--site NAME] [--check] [--json]."


def site(words: Sequence[str]) -> int:
    """Run a command of the site and return its exit code.

    Raises
    ------
    ConfigError : it is written wrongly, or names no ledger.
    PrivacyError : a ledger is damaged, or two accountants disagree about it.
    """
    if not words or words[0] != "ledger":
        raise ConfigError("site needs a command", where="command line", cure=USAGE)
    asked = _parsed(words[1:])
    try:
        return _show(asked)
    finally:
        close_all()


@dataclass(frozen=True)
class _Asked:
    path: Path
    site: str | None = None
    check: bool = False
    json: bool = False


def _parsed(words: Sequence[str]) -> _Asked:
    paths: list[Path] = []
    facts: dict[str, str | bool] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--site":
            facts["site"] = value if equals else next(rest, "")
            if not facts["site"]:
                raise ConfigError("--site without a name", where="command line", cure=USAGE)
        elif word in ("--check", "--json"):
            facts[word.removeprefix("--")] = True
        elif word.startswith("-"):
            known = nearest(word, ["--site", "--check", "--json"])
            raise ConfigError(f"unknown option {word!r}", where="command line", cure=known)
        else:
            paths.append(Path(word))
    if len(paths) != 1:
        raise ConfigError("site ledger needs one file or run folder", where="command line", cure=USAGE)
    return _Asked(paths[0], **facts)  # type: ignore[arg-type]


def ledgers_of(path: Path, wanted: str | None) -> list[Path]:
    """Return the ledger files of a run folder, of a folder of ledgers, or the file itself.

    Raises
    ------
    ConfigError : there is none, or none of that site.
    PrivacyError : they are of an earlier version.
    """
    if not path.exists():
        raise ConfigError("no such file or folder", where=str(path), cure=USAGE)
    folder = path / "ledger" if (path / "ledger").is_dir() else path
    found = sorted(folder.glob("*.sqlite")) if path.is_dir() else [path]
    lines = sorted(folder.glob("*.jsonl")) if path.is_dir() and not found else []
    if lines or path.suffix == ".jsonl":
        where = str(lines[0] if lines else path)
        what = "a privacy ledger of an earlier version of FedFER"
        raise PrivacyError(what, where=where, cure="Run again in a new folder.")
    if not found:
        cure = "Give the folder of a run with privacy, or a ledger file."
        raise ConfigError("no privacy ledger", where=str(path), cure=cure)
    if wanted is None or path.is_file():
        return found
    chosen = [each for each in found if each.stem == wanted]
    if not chosen:
        cure = nearest(wanted, [each.stem for each in found])
        raise ConfigError(f"no ledger of site {wanted!r}", where=str(path), cure=cure)
    return chosen


def _show(asked: _Asked) -> int:
    """Print every ledger; a damaged one does not hide the others, and decides the exit code."""
    said: list[Statement] = []
    damaged: list[PrivacyError] = []
    for path in ledgers_of(asked.path, asked.site):
        try:
            said.append(state(Ledger(path, asked.site, read_only=True), check=asked.check))
        except PrivacyError as error:
            damaged.append(error)
    if asked.json:
        found = [*map(plain, said), *({"error": str(error)} for error in damaged)]
        sys.stdout.write(json.dumps({"ledgers": found}, indent=1, allow_nan=False) + "\n")
    else:
        _print(said, many=len(said) + len(damaged) > 1)
    if damaged:
        raise damaged[0]
    return 0


def _print(said: list[Statement], *, many: bool) -> None:
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=140)
    if not many:
        for each in said:
            if each.releases:
                console.print(_releases(each))
            for sentence in sentences(each):
                console.print(sentence, soft_wrap=True)
        return
    console.print(_sites(said))
    for note in dict.fromkeys(each.total.note for each in said if each.total.note):
        console.print(note, soft_wrap=True)
    console.print(
        "Sites hold different people, so nobody pays at more than one of them. See one with --site NAME.",
        soft_wrap=True,
    )


def _releases(said: Statement) -> Table:
    names = ("run", "plan", "what", "rounds", "noise", "rate", "steps", "protects", "epsilon", "until (UTC)")
    table = Table(*names)
    for each in said.releases:
        noise = [noise_of(one) for one in each.history]
        rates = ["all" if one.rate == 1 else f"{one.rate:g}" for one in each.history]
        counts = [f"{one.count:,}" for one in each.history]
        table.add_row(
            each.run or "–",
            each.plan[:12],
            each.kind.replace("_", " "),
            ranges(each.rounds) or "–",
            *("\n".join(column) for column in (noise, rates, counts)),
            each.unit,
            figure(each.epsilon),
            each.last.removesuffix("+00:00").replace("T", " "),
        )
    return table


def _sites(said: list[Statement]) -> Table:
    table = Table(
        "site", "releases", "epsilon", "delta", "protects", "limit", "rounds left", "second opinion"
    )
    for each in said:
        table.add_row(
            each.site,
            f"{each.head.number:,}",
            figure(each.total),
            f"{each.delta:g}",
            each.total.unit,
            f"{each.limit.epsilon:g}" if each.limit else "none",
            "–" if each.more is None else f"{each.more:,}",
            ", ".join(f"{one.value:.3f} {one.accountant}" for check in each.checks for one in check[:2])
            or "–",
        )
    return table
