"""``fedfer audit-privacy``: which of the two audits the words ask for, and where what was found goes."""

from __future__ import annotations

import json
from pathlib import Path

from server.run_folder import write_text
from simulations.compose import composed
from simulations.display import Display, new_console
from simulations.privacy_audit.canary_run import CanaryRun
from simulations.privacy_audit.finished import FinishedRun, run_among
from simulations.privacy_audit.page import write_page
from simulations.privacy_audit.show import show
from simulations.privacy_audit.verdict import require_kept


def run(words: list[str], file: Path | None = None) -> int:
    """Audit, print what was found, and write the page.

    Parameters
    ----------
    file : where what was found goes as JSON besides, None for nowhere.

    Raises
    ------
    AuditError : more leaks than is claimed.
    """
    folder, rest = run_among(words)
    console = new_console()
    with Display(console) as display:
        if folder is not None:
            facts = FinishedRun(folder, rest, display).run()
        else:
            settings, folder = composed(rest)
            canaries = CanaryRun(settings, folder, display)
            canaries.prepare()
            for warning in canaries.prepared.warnings:
                console.print(f"warning: {warning}", highlight=False, soft_wrap=True, markup=False)
            console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
            facts = canaries.run()
    path = write_page(folder, facts)
    show(facts, console)
    console.print(f"page: {path}", highlight=False, soft_wrap=True)
    if file is not None:
        write_text(file, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    require_kept(facts, path)
    return 0
