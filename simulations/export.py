"""The command ``fedfer export``."""

from __future__ import annotations

from fer_models.errors import ConfigError
from simulations.compose import out_folder

COMPARISON = "comparison"
"""Folder of what an exported model does otherwise than its net, beside it."""

MARK = f"{COMPARISON}/comparison.json"
"""What tells the folder of an earlier export from others."""

USAGE = "Write: fedfer export RUN format=int8 --out DIR."


def run(words: list[str]) -> int:
    """Export a net to the folder that ``--out DIR`` names.

    Raises
    ------
    ConfigError : no folder; and see :func:`simulations.exporting.command.export`.
    """
    folder, rest = out_folder(words, MARK)
    if folder is None:
        raise ConfigError("export without a folder to write to", where="command line", cure=USAGE)
    from simulations.exporting.command import export  # after what needs no torch

    return export(rest, folder)
