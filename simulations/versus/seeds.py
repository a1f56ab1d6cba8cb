"""Runs of several methods with the same seeds, paired by seed, from the counts in their folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from client.strict import nearest
from fer_models.counts import Counts
from fer_models.errors import ConfigError, DataError
from server.run_folder import RunFolder, reading
from simulations.run_audit import count_run
from simulations.versus.asked import Asked, runs_in


def paired(wanted: Asked) -> tuple[list[int], list[list[Counts]]]:
    """Return the seeds that all folders have, and each folder's counts in their order.

    Raises
    ------
    ConfigError : a wrong word, two runs of a seed in a folder, or fewer than two seeds in common.
    DataError : runs that count other classes or groups.
    RunFolderError : a run is not whole, or of a version that kept no counts.
    """
    system = _system(wanted.words)
    places = [_by_seed(path) for path in wanted.paths]
    seeds = sorted(set.intersection(*(set(found) for found in places)))
    if len(seeds) < 2:
        raise ConfigError(
            f"{len(seeds)} seeds in common, and one says nothing about how trainings differ",
            where="compare",
            cure="Run both with the same seeds: seed=0,1,2,3,4 --multirun.",
        )
    found = [[count_run([f"run={runs[seed]}", *system])[1] for seed in seeds] for runs in places]
    first = found[0][0]
    for path, runs in zip(wanted.paths, found, strict=True):
        if any((each.labels, dict(each.groups)) != (first.labels, dict(first.groups)) for each in runs):
            cure = "Compare runs on the same data, with the same groups."
            raise DataError("runs that count other classes or groups", where=str(path), cure=cure)
    return seeds, found


def _system(words: tuple[str, ...]) -> list[str]:
    for word in words:
        key = word.partition("=")[0]
        if key != "system":
            what = f"a comparison of runs takes no {word!r}"
            raise ConfigError(what, where="command line", cure=nearest(key, ["system"]))
    return list(words)


def _by_seed(folder: Path) -> Mapping[int, Path]:
    found: dict[int, Path] = {}
    for run in runs_in(folder):
        with reading(run / "plan.json"):
            seed = int(RunFolder(run).read_json("plan.json")["seed"])
        if seed in found:
            raise ConfigError(
                f"{found[seed].name} and {run.name} have the same seed",
                where=str(folder),
                cure="Give a folder with one run a seed.",
            )
        found[seed] = run
    return found
