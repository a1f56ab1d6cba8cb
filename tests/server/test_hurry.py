"""What the rounds reach into Flower for."""

import subprocess
import sys

import pytest
from flwr.superlink.grid import http_grid

from fer_models.errors import EngineError
from server.hurry import KNOWN, SOON, hurry


def test_the_grid_looks_for_parts_of_replies_sooner(monkeypatch):
    monkeypatch.setattr(http_grid, "pull_objects", http_grid.pull_objects)
    hurry()
    assert http_grid.pull_objects.keywords["initial_backoff"] == SOON


def test_another_flower_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr(http_grid, "pull_objects", lambda ids: {})
    with pytest.raises(EngineError, match="is not the version that the rounds speak to") as error:
        hurry()
    assert error.value.cure == f"Install flwr {KNOWN}."


def test_what_only_keeps_processes_alive_holds_no_torch():
    code = (
        "import sys, client.node, client.site_process, server.gate, server.serving;"
        "print([name for name in ('torch', 'opacus', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
