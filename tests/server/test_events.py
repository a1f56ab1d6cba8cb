"""TensorBoard's own reader reads what was written."""

import multiprocessing
import os
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_models.errors import RunFolderError
from server.events import Events

RECORD = {
    "system": "federated",
    "round": 1,
    "loss": 2.5,
    "accuracy": 0.25,
    "balanced_accuracy": 0.2,
    "worst_recall": None,
    "epsilon": None,
    "worst_class": "fear",
    "parity": {"age": 0.125, "gender": None},
}


def read(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_scalars_are_read_back_by_tensorboard(tmp_path):
    events = Events(tmp_path / "events", [])
    events.write(RECORD)
    events.write({**RECORD, "round": 2, "accuracy": 0.5, "epsilon": 3.0, "worst_recall": 0.0})
    events.write({**RECORD, "system": "pooled", "round": 1.6})
    found = read(tmp_path / "events" / "federated")  # before it is closed: TensorBoard looks on
    events.close()
    assert found["accuracy"] == [(1, 0.25), (2, 0.5)]
    assert found["epsilon"] == [(2, 3.0)]
    assert found["worst_recall"] == [(2, 0.0)]
    assert found["loss"] == [(1, 2.5), (2, 2.5)]
    assert found["parity/age"] == [(1, 0.125), (2, 0.125)]
    assert "parity/gender" not in found
    assert read(tmp_path / "events" / "pooled")["accuracy"] == [(2, 0.25)]


def test_a_resumed_run_is_written_anew(tmp_path):
    for lost in (True, False):
        events = Events(tmp_path / "events", [RECORD])
        events.write({**RECORD, "round": 2})
        if lost:
            events.write({**RECORD, "system": "pooled"})
        events.close()
    assert [path.name for path in (tmp_path / "events").iterdir()] == ["federated"]
    assert read(tmp_path / "events" / "federated")["accuracy"] == [(1, 0.25), (2, 0.25)]


def test_no_thread_is_started_so_that_processes_can_be_forked(tmp_path):
    before = threading.active_count()
    events = Events(tmp_path / "events", [RECORD])
    assert threading.active_count() == before
    child = multiprocessing.get_context("fork").Process(target=os.getpid)
    child.start()
    child.join(30)
    assert child.exitcode == 0
    events.close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "events").write_text("a file")
    with pytest.raises(RunFolderError, match="cannot write") as error:
        Events(tmp_path / "events" / "below", [RECORD])
    assert "--run-dir" in error.value.cure
