"""Dealing a data set out to folders, one a site: to rehearse a deployment with the sites of a simulation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_models.errors import RunFolderError
from server.run_folder import write_text, writing
from simulations.federated import Sites
from simulations.planning import require_of_plan
from simulations.prepare import prepare
from simulations.settings import Settings

PLAN = "plan.json"
"""Where the plan of the dealt sites lies."""


def deal(settings: Settings, folder: Path) -> Iterator[str]:
    """Write the pictures of every site of a simulation, and the plan; yield a line for each.

    A site that is given such a folder draws the randomness of the simulated site of that name and seed, so that a
    rehearsal ends where the simulation of the plan does.

    Raises
    ------
    ConfigError : the settings ask for what no plan says.
    RunFolderError : the folder holds something, or cannot be written.
    """
    require_of_plan(settings)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(
            "the folder is not empty", where=str(folder), cure="Give a new one with --run-dir."
        )
    prepared = prepare(settings)
    sites = Sites(prepared.samples, prepared.partition, settings.seed, None)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sites.names):
        rows = np.flatnonzero(prepared.partition.site == number)
        prepared.samples.take(rows).save(folder / name)
        facts = json.dumps({"site": name, "seed": settings.seed})
        write_text(folder / name / "rehearsal.json", facts)
        yield f"{folder / name}: {len(rows):,} pictures"
    groups = tuple(
        each.open for each in prepared.plan.groups
    )  # for pictures whose group a site does not tell
    write_text(folder / PLAN, replace(prepared.plan, groups=groups).text)
    yield f"{folder / PLAN}: what the sites are asked for"
