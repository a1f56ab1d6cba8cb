"""The site's own commands: ``fedfer site ...``. They need neither the coordinator's code nor a simulation's."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from client.site_folder import SiteFolder

from client.audit_view import log
from client.ledger import Ledger, close_all
from client.ledger_view import Statement, figure, noise_of, plain, ranges, sentences, state
from client.strict import nearest
from client.words import read_words
from fer_models.errors import ConfigError, PrivacyError

USAGE = """\
fedfer site: what a site runs

  site init DIR --data FOLDER   make a site: keys, policy.yaml, data.yaml; --name NAME --reader imagefolder
  site check DIR [PLAN]         read the data, try a step, and say what a plan would disclose and cost
  site enrol DIR                write the request for the coordinator, with its fingerprint
  site join DIR STUDY           take the coordinator's study.json; --fingerprint F the first time
  site run DIR                  run the site: its agent and its node; --log-json
  site status DIR               how it is doing; --json
  site stop DIR                 end it
  site log DIR                  what was asked of it
  site ledger FILE|RUN|DIR      what the site has released, and what it cost; --site NAME --check --json
"""

LEDGER_USAGE = "Write: fedfer site ledger FILE|RUN [--site NAME] [--check] [--json]."


def site(words: Sequence[str]) -> int:
    """Run a command of the site and return its exit code.

    Raises
    ------
    FedferError : it is written wrongly, or what the command says.
    """
    commands = {
        "init": _init,
        "check": _check,
        "enrol": _enrol,
        "join": _join,
        "run": _run,
        "status": _status,
    }
    commands |= {"stop": _stop, "log": lambda rest: log(rest, "site"), "ledger": _ledger}
    if not words or words[0] not in commands:
        cure = nearest(words[0], commands) if words else f"Use one of {', '.join(commands)}."
        raise ConfigError("site needs a command", where="command line", cure=cure)
    try:
        return commands[words[0]](words[1:])
    finally:
        close_all()


def _init(words: Sequence[str]) -> int:
    """Make a site's folder."""
    usage = "Write: fedfer site init DIR --data FOLDER [--name NAME] [--reader READER]."
    found = read_words(words, usage, valued=("--data", "--name", "--reader"))
    path, given = Path(found.one("site init needs a new folder", usage)), found.options
    if "--data" not in given:
        raise ConfigError("--data is missing", where="command line", cure=usage)
    from client.site_data import REHEARSAL
    from client.site_folder import SiteFolder

    root = Path(given["--data"]).expanduser().absolute()
    dealt = (root / "rehearsal.json").is_file()
    reader = given.get("--reader", REHEARSAL if dealt else "imagefolder")
    folder = SiteFolder.make(path, given.get("--name", path.absolute().name), reader, str(root))
    say = Console(highlight=False).print
    say(
        f"made {path}: keys, policy.yaml and data.yaml of the site {folder.name}",
        soft_wrap=True,
        markup=False,
    )
    say("Read policy.yaml and data.yaml, then run: fedfer site check", path, soft_wrap=True, markup=False)
    return 0


def _check(words: Sequence[str]) -> int:
    """Look at a site, and at a plan."""
    usage = "Write: fedfer site check DIR [PLAN.json]."
    found = read_words(words, usage)
    if len(found.others) not in (1, 2):
        raise ConfigError("site check needs a folder", where="command line", cure=usage)
    from client.site_check import check_site
    from client.site_folder import SiteFolder

    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=120)
    plan = Path(found.others[1]) if found.others[1:] else None
    check_site(SiteFolder.open(Path(found.others[0])), plan, console)
    return 0


def _enrol(words: Sequence[str]) -> int:
    """Write a site's request."""
    usage = "Write: fedfer site enrol DIR."
    path = Path(read_words(words, usage).one("site enrol needs a site's folder", usage))
    from client.site_folder import SiteFolder

    request = SiteFolder.open(path).enrol()
    say = Console(highlight=False).print
    say(f"wrote {path / 'request.json'}: send it to the coordinator", soft_wrap=True, markup=False)
    say(f"fingerprint of {request.site}: {request.fingerprint}", soft_wrap=True, markup=False)
    say("Read it out when the coordinator calls you: it has to be the one that they see.", soft_wrap=True)
    return 0


def _join(words: Sequence[str]) -> int:
    """Take a coordinator's study."""
    usage = "Write: fedfer site join DIR STUDY.json --fingerprint '4df8 cb5a ...'."
    found = read_words(words, usage, valued=("--fingerprint",))
    if len(found.others) != 2:
        raise ConfigError("site join needs a site's folder and a study", where="command line", cure=usage)
    from client.site_folder import SiteFolder
    from client.study import read_study

    folder, study = SiteFolder.open(Path(found.others[0])), read_study(Path(found.others[1]))
    folder.join(study, found.options.get("--fingerprint"))
    say = Console(highlight=False).print
    say(f"joined the study of {study.address}, serial {study.serial}", soft_wrap=True, markup=False)
    say(f"sites: {', '.join(study.sites)}", soft_wrap=True, markup=False)
    return 0


def _folder(words: Sequence[str], command: str, flag: str) -> tuple[SiteFolder, bool]:
    """Return the site that a command names, and whether its flag is there."""
    from client.site_folder import SiteFolder

    usage = f"Write: fedfer site {command} DIR{f' [{flag}]' if flag else ''}."
    found = read_words(words, usage, flags=(flag,) if flag else ())
    path = Path(found.one(f"site {command} needs a site's folder", usage))
    return SiteFolder.open(path), flag in found.options


def _run(words: Sequence[str]) -> int:
    """Run a site."""
    folder, as_json = _folder(words, "run", "--log-json")
    from client.site_run import run

    run(folder, as_json=as_json)


def _status(words: Sequence[str]) -> int:
    """Say how a site is doing."""
    folder, as_json = _folder(words, "status", "--json")
    from client.site_run import sentences, status

    found = status(folder)
    lines = [json.dumps(found, indent=1)] if as_json else sentences(found)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _stop(words: Sequence[str]) -> int:
    """End a site."""
    folder, _ = _folder(words, "stop", "")
    from client.site_run import stop

    ran = stop(folder, lambda said: sys.stdout.write(f"{said}\n"))
    sys.stdout.write("stopped\n" if ran else "it does not run\n")
    return 0


def _ledger(words: Sequence[str]) -> int:
    """Print ledgers."""
    found = read_words(words, LEDGER_USAGE, valued=("--site",), flags=("--check", "--json"))
    given = found.options
    path = Path(found.one("site ledger needs one file or run folder", LEDGER_USAGE))
    return _show(_Asked(path, given.get("--site"), "--check" in given, "--json" in given))


@dataclass(frozen=True)
class _Asked:
    path: Path
    site: str | None = None
    check: bool = False
    json: bool = False


def ledgers_of(path: Path, wanted: str | None) -> list[Path]:
    """Return the ledger files of a run folder, of a folder of ledgers, or the file itself.

    Raises
    ------
    ConfigError : there is none, or none of that site.
    PrivacyError : they are of an earlier version.
    """
    if not path.exists():
        raise ConfigError("no such file or folder", where=str(path), cure=LEDGER_USAGE)
    if (path / "site.json").is_file():  # the folder of a site, which holds other databases, too
        path = path / "ledger.sqlite"
        if not path.exists():
            raise ConfigError("no privacy ledger", where=str(path), cure="The site has released nothing yet.")
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
