"""Independent jobs: each runs once, errors keep their kind, a failure ends the others."""

import os
import signal
import time

import pytest
import torch

from fer_models.errors import DataError, EngineError, TrainingError
from simulations.jobs import run_jobs


def writer(folder, name, wait=0.0):
    def job(progress):
        progress({"name": name, "step": 1})
        time.sleep(wait)
        (folder / name).write_text(f"{os.getpid()} {torch.get_num_threads()}")
        progress({"name": name, "step": 2, "text": "größer"})

    return job


@pytest.mark.parametrize("workers", [-1, 1, 2, 3])
def test_every_job_runs_once_and_tells_of_its_progress(tmp_path, workers):
    told = []
    run_jobs([writer(tmp_path, f"job-{i}") for i in range(5)], workers, told.append)
    for i in range(5):
        own = [record for record in told if record["name"] == f"job-{i}"]
        assert own == [{"name": f"job-{i}", "step": 1}, {"name": f"job-{i}", "step": 2, "text": "größer"}]
    written = [(tmp_path / f"job-{i}").read_text().split() for i in range(5)]
    assert {threads for _, threads in written} == {"1"}
    processes = {int(process) for process, _ in written}
    assert processes == {os.getpid()} if workers < 2 else len(processes) == 5 and os.getpid() not in processes


def test_as_many_jobs_run_at_a_time_as_there_are_workers(tmp_path):
    """Each of the first two ends only when it has seen the other; the third begins when one has ended."""
    now, most = set(), [0]

    def watch(record):
        now.symmetric_difference_update({record["name"]})
        most[0] = max(most[0], len(now))

    def meeting(name, other):
        def job(progress):
            progress({"name": name})
            (tmp_path / name).touch()
            while not (tmp_path / other).exists():
                time.sleep(0.01)
            progress({"name": name})

        return job

    run_jobs([meeting("a", "b"), meeting("b", "a"), meeting("c", "a"), meeting("d", "b")], 2, watch)
    assert most == [2]
    assert not now


def test_no_jobs():
    run_jobs([], 2, lambda _: None)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", [TrainingError, DataError])
def test_an_error_keeps_its_kind_and_ends_the_others(tmp_path, workers, kind):
    def failing(progress):
        raise kind("it went wrong", where="pooled, step 3", cure="Try again.")

    with pytest.raises(kind) as error:
        run_jobs([failing, writer(tmp_path, "late", 60)], workers, lambda _: None)
    assert str(error.value) == "it went wrong (pooled, step 3). Try again."
    assert not (tmp_path / "late").exists()


def test_a_process_that_dies_is_named_with_the_cure(tmp_path):
    def dying(progress):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(EngineError, match="a process died with exit code -9") as error:
        run_jobs([writer(tmp_path, "late", 60), dying], 2, lambda _: None)
    assert "engine.workers=1" in error.value.cure
    assert not (tmp_path / "late").exists()


def test_an_error_of_the_observer_ends_the_jobs(tmp_path):
    def observer(record):
        raise TrainingError("the disk of metrics is full")

    with pytest.raises(TrainingError):
        run_jobs([writer(tmp_path, f"late-{i}", 60) for i in range(2)], 2, observer)
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_threads_is_put_back(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_jobs([writer(tmp_path, "job")], 1, lambda _: None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
