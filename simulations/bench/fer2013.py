"""The main job on FER2013: pooled and federated accuracy, and what each takes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_models.errors import ConfigError
from server.run_folder import RunFolder
from simulations.bench.run import Figures, Options
from simulations.comparison import Comparison
from simulations.compose import composed
from simulations.display import Display, new_console


def bench(options: Options) -> Figures:
    """Run ``experiment=fer2013`` pooled and federated on the folder ``options.data``.

    Raises
    ------
    ConfigError : no folder is given.
    """
    words = ["experiment=fer2013", f"data.root='{data_of(options)}'", *options.overrides]
    with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary:
        systems = systems_of(options.run_dir or Path(temporary) / "run", words, ["pooled", "federated"])
    pooled, federated = systems["pooled"], systems["federated"]
    figures = {
        "pooled_accuracy": pooled["accuracy"],
        "federated_accuracy": federated["accuracy"],
        "visits_ratio": federated["visits"] / pooled["visits"],
        "pooled_cpu_s": pooled["cpu_seconds"],
        "federated_cpu_s": federated["cpu_seconds"],
        "rounds": federated["rounds"],
        "bytes_up": federated["bytes_up"],
    }
    for name, system in (("pooled", pooled), ("federated", federated)):
        figures[f"{name}_balanced_accuracy"] = system["balanced_accuracy"]
        figures[f"{name}_worst_recall"] = system["worst_recall"]
        figures[f"{name}_accuracy_low"], figures[f"{name}_accuracy_high"] = system["accuracy_interval"]
    return figures


def data_of(options: Options) -> Path:
    """Return the folder of FER2013.

    Raises
    ------
    ConfigError : none is given.
    """
    if options.data is None:
        raise ConfigError("the folder of FER2013 is missing", where="command line", cure="Give --data DIR.")
    return options.data


def systems_of(folder: Path, words: Sequence[str], systems: list[str]) -> dict[str, Any]:
    """Run systems, or what is missing of them in a run folder, and return what its summary says of each."""
    settings, _ = composed(list(words))
    with Display(new_console()) as display:
        comparison = Comparison(settings, folder, systems, display)
        comparison.prepare()
        comparison.run()
    return RunFolder(folder).read_json("summary.json")["systems"]
