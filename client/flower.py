"""Flower's programs as processes of their own: where they are, and in what environment they run."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from fer_models.errors import EngineError

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    # Else every run installs the app's dependencies anew, which takes minutes and gigabytes.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Flower tells nobody of its use, and fetches nothing."""

ROOT = Path(__file__).resolve().parent.parent
"""Where this package is installed."""


def program(name: str) -> str:
    """Return the path of one of Flower's programs, such as flower-superlink.

    Raises
    ------
    EngineError : it is not installed.
    """
    try:
        for file in distribution("flwr").files or ():
            if file.name == name and (path := Path(str(file.locate())).resolve()).is_file():
                return str(path)
    except PackageNotFoundError:
        pass
    raise EngineError(
        f"{name} is not installed", where="flwr", cure="Install FedFER with its dependencies again."
    )


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a program of Flower.

    Parameters
    ----------
    home : a folder where Flower keeps what it remembers, in place of one that all of a user's programs share.
    """
    found = {**os.environ, **QUIET, "FLWR_HOME": str(home.absolute())}
    folder = str(Path(program("flower-superlink")).parent)  # it starts its helpers by their names
    found["PATH"] = os.pathsep.join((folder, found.get("PATH", os.defpath)))
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), found.get("PYTHONPATH"))))
    return found
