"""``fedfer tune-private``: choose levers on a public proxy, within a budget of time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import yaml

from fer_models.errors import PrivacyError
from server.run_folder import RunFolder, write_text
from simulations.compose import composed, json_file
from simulations.display import new_console
from simulations.tuning.facts import draw_proxy, facts_of
from simulations.tuning.outcome import choices, show, to_json
from simulations.tuning.search import Search, Tried, frontier


def tune_private(words: Sequence[str]) -> int:
    """Search, print the frontier, and write ``tune.json`` to the run folder and to the file that ``--json`` names.

    Raises
    ------
    ConfigError : an unknown fact, or a value that cannot be.
    PrivacyError : a word that would read pictures, or noise is all there would be at every choice.
    """
    target, told = json_file(list(words))
    facts = facts_of([word for word in told if not word.startswith("hydra.")])
    hydra = [word for word in told if word.startswith("hydra.")]
    _, folder = composed(["data=faces", "name=tune-private", *hydra])
    console = new_console()
    proxy = draw_proxy(facts)  # a mistake in the facts shows here, before a folder is made
    run = RunFolder(folder)
    run.open({"tune": asdict(facts)}, yaml.safe_dump(json.loads(json.dumps(asdict(facts)))))
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)

    def tell(tried: Tried) -> None:
        found = tried.result.get("refused") or f"accuracy {tried.result['accuracy']:.3f}"
        line = (
            f"{tried.levers.name}, epsilon {tried.epsilon:g}, seed {facts.seed + tried.seed}: {found[:110]}"
        )
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    search = Search(facts, proxy, folder, tell)
    search.run()
    points = frontier(search)
    if not points:
        raise PrivacyError(
            "every trial was refused: noise is all there would be",
            where="tune-private",
            cure="Allow a larger epsilon, or have more pictures a site or more sites.",
        )
    content = _content(search)
    run.write_json("tune.json", content)
    if target is not None:
        write_text(target, json.dumps(content, indent=1, allow_nan=False) + "\n")
    show(points, facts, console)
    if search.stopped:
        line = f"\nThe time is over. The same command with --run-dir {folder} goes on."
        console.print(line, highlight=False, soft_wrap=True)
    else:
        run.finish()
    return 0


def _content(search: Search) -> dict[str, Any]:
    points, facts = frontier(search), search.facts
    chosen = [{"by": name, **to_json(point, facts)} for _, name, point in choices(points, facts.by)]
    return {
        "name": "tune-private",
        "facts": asdict(facts),
        "complete": not search.stopped,
        "chosen": chosen,
        "frontier": [to_json(point, facts) for point in points],
        "trials": [tried.to_json() for tried in search.tried.values()],
    }
