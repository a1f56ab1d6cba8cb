"""What the rounds reach into Flower for."""

import subprocess
import sys
import time

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

import server.hurry
from client.versions import FLOWER
from fer_models.errors import EngineError
from server.hurry import SOON, hurry


def test_the_grid_looks_for_parts_of_replies_sooner(monkeypatch):
    monkeypatch.setattr(http_grid, "pull_objects", http_grid.pull_objects)
    hurry()
    waiting, began = [0], time.monotonic()

    def part(name):
        waiting[0] += 1
        if waiting[0] < 3:
            raise ObjectUnavailableError(name)
        return name.encode()

    assert http_grid.pull_objects(object_ids=["a"], pull_object_fn=part) == {"a": b"a"}
    assert time.monotonic() - began < 1  # by itself it waits a second, and then two
    assert SOON < 0.1


def test_a_reply_of_which_no_part_comes_is_given_up(monkeypatch):
    """A site that was killed while it sent one would be waited for, in place of all others."""
    monkeypatch.setattr(http_grid, "pull_objects", http_grid.pull_objects)
    monkeypatch.setattr(server.hurry, "STALLED", 0.1)
    hurry()
    came = []

    def part(name):
        if name == "b":
            raise ObjectUnavailableError(name)
        came.append(name)
        return b""

    with pytest.raises(ObjectPullError, match="no part of the reply came for 0 seconds"):
        http_grid.pull_objects(object_ids=["a", "b"], pull_object_fn=part)
    assert came == ["a"]


def test_another_flower_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr(http_grid, "pull_objects", lambda ids: {})
    with pytest.raises(EngineError, match="is not the version that the rounds speak to") as error:
        hurry()
    assert error.value.cure == f"Install flwr {FLOWER}."


def test_what_only_keeps_processes_alive_holds_no_torch():
    code = (
        "import sys, client.node, client.site_process, server.gate, server.serving;"
        "print([name for name in ('torch', 'opacus', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
