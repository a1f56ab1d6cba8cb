"""``fedfer server statistics``: the first step of a plan alone, which tells what there is to train on."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from client.words import read_words
from fer_models.errors import ConfigError
from server.deployed import UNTIL
from server.following import followed, start
from server.statistics import FILE, show
from server.studying import OPTIONS, USAGE, Composing, asked, keep_patience, patience_of, prepared, run_folder
from server.watching import watching


def statistics(words: Sequence[str], compose: Composing) -> int:
    """Ask the sites for a plan's statistics and print them; ``server run`` goes on in the same run folder."""
    usage = USAGE.replace("server run", "server statistics")
    found = read_words(words, usage, valued=OPTIONS)
    if not found.others:
        raise ConfigError("server statistics needs a folder and a plan", where="command line", cure=usage)
    coordinator, plan = asked(found, compose)
    if plan.statistics is None:
        raise ConfigError(
            "the plan asks for no statistics", where="statistics", cure="Plan with statistics.enabled=true."
        )
    patience = patience_of(found)
    folder = prepared(coordinator, plan, run_folder(found, coordinator, plan))
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=140)
    if folder.read_json(FILE) is None:
        folder.write_json(UNTIL, FILE)
        keep_patience(folder, patience)
        start(coordinator, folder)
        with watching(console) as tell:
            for event in followed(coordinator, folder):
                tell(event)
    show(folder, console)
    console.print(f"kept in {folder.path / FILE}; server run goes on from here", soft_wrap=True, markup=False)
    return 0
