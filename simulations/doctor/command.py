"""The command ``fedfer doctor``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fer_models.errors import ConfigError, InstallationError
from server.run_folder import write_text
from simulations.compose import json_file
from simulations.display import new_console
from simulations.doctor import machine, randomness, speeds, versions
from simulations.doctor.finding import LEVELS, Finding

COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def doctor(words: list[str]) -> int:
    """Look at everything, print what was found and what to do, and refuse what has to be put right first.

    Raises
    ------
    ConfigError : a word that is none of the command's.
    InstallationError : something was found at level "error".
    """
    file, words = json_file(words)
    if words:
        cure = "Write: fedfer doctor, or fedfer doctor --json FILE."
        raise ConfigError(f"doctor takes no {words[0]!r}", where="command line", cure=cure)
    console, found = new_console(), list[Finding]()
    for part in (versions.look(), randomness.look(), machine.look(Path.cwd()), speeds.look()):
        for finding in part:
            show(finding, console)
            found.append(finding)
    if file is not None:
        write_text(file, as_json(found))
    require(found)
    return 0


def show(finding: Finding, console: Console) -> None:
    """Print a finding, and in a line of its own what to do."""
    line = f"{finding.level:8}{finding.area}: {finding.what}"
    console.print(line, style=COLOURS[finding.level], highlight=False, soft_wrap=True, markup=False)
    if finding.cure:
        console.print(f"{'':8}{finding.cure}", highlight=False, soft_wrap=True, markup=False)


def as_json(found: Sequence[Finding]) -> str:
    """Return the findings for a program: ``{"level": the worst, "findings": [...]}``."""
    worst = max((LEVELS.index(each.level) for each in found), default=0)
    rows = [each._asdict() for each in found]
    return json.dumps({"level": LEVELS[worst], "findings": rows}, indent=1) + "\n"


def require(found: Sequence[Finding]) -> None:
    """Refuse an installation with which something was wrong.

    Raises
    ------
    InstallationError : with the first error, and how many there are.
    """
    wrong = [each for each in found if each.level == "error"]
    if wrong:
        more = f", and {len(wrong) - 1} more" if wrong[1:] else ""
        raise InstallationError(f"{wrong[0].what}{more}", where=wrong[0].area, cure=wrong[0].cure)
