"""The bundle that Flower asks for where a run begins: a line that names what is installed at the coordinator.

No site fetches it. Flower takes no bundle without an app for the sites, so the app of the rounds stands in its place.
"""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version

from flwr.cli.build import build_fab_from_files

PYPROJECT = """\
[project]
name = "fedfer-study"
version = "{version}"
description = "Names the rounds of the FedFER that is installed"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fedfer"
fab-include = ["*.py"]

[tool.flwr.app.components]
serverapp = "fedfer_rounds:app"
clientapp = "fedfer_rounds:app"

[tool.flwr.app.config]
folder = ""
"""

FILES = {
    "fedfer_rounds.py": '"""The rounds of a study."""\n\nfrom server.deployed import app\n\n__all__ = ["app"]\n',
}


def bundle() -> bytes:
    """Return the bundle."""
    try:
        installed = version("fedfer")
    except PackageNotFoundError:
        installed = "0.0.0"
    files = {name: text.encode() for name, text in FILES.items()}
    files["pyproject.toml"] = PYPROJECT.format(version=installed).encode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GitWildMatchPattern", DeprecationWarning)  # which Flower uses
        return build_fab_from_files(files)[0]
