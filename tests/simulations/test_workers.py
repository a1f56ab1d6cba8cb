"""A pool of real processes: every message is answered once, none outlives its parent, a dead worker is named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from client.messages import facts_of, pack
from fer_models.errors import EngineError
from simulations.grid import take_identity
from simulations.workers import MOST_UNITS, WorkerPool


def messages(count, first=1):
    content = pack(np.arange(3, dtype=np.float32), {"wait": 0.0})
    for number in range(first, first + count):
        found = Message(content, number, "train")
        found.metadata.__dict__["_message_id"] = str(number)
        yield found


def again(head):
    found = Message(head["content"], head["to"], head["type"])
    found.metadata.__dict__["_message_id"] = head["id"]
    return found


def start(slow=(), crash=()):
    """Return what a worker starts with: it answers with its process id; some nodes take long or crash."""

    def begin():
        take_identity(1)

        def answer(heads):
            for head in heads:
                if head["to"] in slow:
                    time.sleep(1.0)
                if head["to"] in crash:
                    os.kill(os.getpid(), signal.SIGKILL)
            return [
                Message(pack(np.zeros(2, np.float32), {"pid": os.getpid()}), reply_to=again(h)) for h in heads
            ]

        return answer

    return begin


@pytest.fixture
def pool_of():
    take_identity(1)
    pools = []

    def make(workers=2, **kinds):
        pools.append(WorkerPool(workers, start(**kinds)))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def drain(pool, count):
    replies = []
    while len(replies) < count:
        found = pool.collect()
        assert found
        replies += found
    return replies


@pytest.mark.parametrize(("workers", "units", "size"), [(1, 5, 1), (2, 1, 3), (3, 100, 1), (2, 40, 4)])
def test_every_message_is_answered_once(pool_of, workers, units, size):
    pool = pool_of(workers)
    for turn in range(2):
        for unit in range(units):
            pool.submit(list(messages(size, 1 + size * unit + 1000 * turn)))
        replies = drain(pool, units * size)
        answered = sorted(int(reply.metadata.reply_to_message_id) for reply in replies)
        assert answered == list(range(1 + 1000 * turn, 1 + units * size + 1000 * turn))
        assert all(r.metadata.src_node_id == int(r.metadata.reply_to_message_id) for r in replies)
        assert pool.collect() == []
    if units > workers > 1:
        assert 1 < len({facts_of(reply.content)["pid"] for reply in replies}) <= workers


def test_replies_do_not_run_ahead_of_a_slow_site(pool_of):
    pool = pool_of(2, slow={1})
    for message in messages(400):
        pool.submit([message])
    before = 0
    while "1" not in (found := {r.metadata.reply_to_message_id for r in pool.collect()}):
        before += len(found)
    assert MOST_UNITS < before < 2 * 2 * MOST_UNITS
    drain(pool, 400 - before - len(found))


def test_a_worker_that_is_killed_at_work_is_named_with_the_cure(pool_of):
    pool = pool_of(2, crash={30})
    for message in messages(60):
        pool.submit([message])
    with pytest.raises(EngineError, match="a worker died with exit code -9") as error:
        drain(pool, 60)
    assert error.value.where in ("worker 0", "worker 1")
    assert "engine.workers=1" in error.value.cure


def test_a_worker_that_is_killed_at_rest_is_named_too(pool_of):
    pool = pool_of(2)
    for message in messages(20):
        pool.submit([message])
    drain(pool, 20)
    victim = pool._processes[1]
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    for message in messages(20, 100):
        pool.submit([message])
    with pytest.raises(EngineError, match=r"exit code -9 \(worker 1\)"):
        drain(pool, 20)


def test_closing_ends_idle_and_busy_workers(pool_of):
    pool = pool_of(2, slow={1})
    for message in messages(4):
        pool.submit([message])
    pool.collect()
    pool.close()
    assert [process.is_alive() for process in pool._processes] == [False, False]
    pool.close()


ORPHANS = """
import json, os, signal, sys, time
from pathlib import Path
from simulations.jobs import run_jobs
from simulations.workers import WorkerPool

def work(progress):
    progress({"pid": os.getpid()})
    time.sleep(600)

def told(record):
    pids.append(record["pid"])
    if len(pids) == 5:
        Path(sys.argv[1]).write_text(json.dumps(pids))
        os.kill(os.getpid(), signal.SIGKILL)

pool = WorkerPool(3, lambda: lambda heads: [])
pids = [process.pid for process in pool._processes]
run_jobs([work, work], 2, told)
"""


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_no_process_outlives_a_parent_that_was_killed(tmp_path):
    command = [sys.executable, "-c", ORPHANS, str(tmp_path / "pids")]
    code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    pids = json.loads((tmp_path / "pids").read_text())
    for _ in range(300):
        if not any(map(running, pids)):
            break
        time.sleep(0.1)
    left = [pid for pid in pids if running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert (code, len(pids), left) == (-signal.SIGKILL, 5, [])
