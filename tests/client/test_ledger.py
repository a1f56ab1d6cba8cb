"""The privacy ledger: on disk before anything leaves, never less than what was spent, and no copy passes for it."""

import multiprocessing
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import client.ledger.store as store
from client.ledger import Event, Ledger, close_all, fingerprint
from client.mechanisms import Mechanism, gaussian, merged
from fer_models.errors import ConfigError

STEPS = Mechanism("gaussian", 2.0, 0.25, 3)
FIRST = Event("training", "r1", "p", 1, "k1", 1e-5, STEPS)
SECOND = replace(FIRST, round=2, key="k2")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "site.sqlite"
    close_all()


def total(ledger):
    return sum(each.count for each in ledger.history())


# What is written


def test_one_row_a_release_with_all_there_is_to_know(path):
    ledger = Ledger(path, "clinic")
    assert (ledger.history(), ledger.head.number, path.exists()) == ((), 0, False)
    ledger.record(FIRST)
    head = ledger.record(SECOND)
    assert head == ledger.head
    assert head.number == 2
    assert Ledger(path).history() == ledger.history() == gaussian(2.0, 0.25, 6)
    assert list(Ledger(path).events) == [FIRST, SECOND]
    assert Ledger(path).head == head
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00", when) for when in ledger.events.values())
    rows = sqlite3.connect(path).execute("SELECT * FROM events").fetchall()
    assert rows[1][2:-1] == ("training", "r1", "p", 2, "k2", 1e-5, "gaussian", 2.0, 0.25, 3, "record", 0.0)


def test_nobody_else_may_read_it(path):
    before = os.umask(0)
    try:
        Ledger(path).record(FIRST)
        kept = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert kept == dict.fromkeys(("site.sqlite", "site.sqlite-wal", "site.sqlite-shm"), 0o600)


def test_every_commit_is_synced_in_write_ahead_mode(path):
    ledger = Ledger(path)
    ledger.record(FIRST)
    with ledger._store.transaction(write=False) as connection:
        modes = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]
    assert modes == ["wal", 2]


def test_a_new_files_name_is_synced_too(path, monkeypatch):
    synced, sync = [], os.fsync

    def seen(descriptor):
        synced.append(os.path.samestat(os.fstat(descriptor), path.parent.stat()) and path.exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    Ledger(path).record(FIRST)
    assert synced == [True]


def test_a_replay_with_the_same_key_counts_once_another_key_again(path):
    ledger = Ledger(path)
    for event in (FIRST, FIRST, replace(FIRST, key="other"), replace(FIRST, plan="q"), SECOND, FIRST):
        ledger.record(event)
    assert (total(ledger), ledger.head.number) == (12, 4)
    assert ledger.history("q") == gaussian(2.0, 0.25, 3)
    ledger.record(replace(FIRST, mechanism=replace(STEPS, count=5)))
    assert total(ledger) == 17, "the same key with other work is no replay"
    ledger.record(replace(FIRST, run="r2"))
    assert total(Ledger(path)) == 20, "another run of the same plan is no replay"


def test_a_ledger_in_memory():
    ledger = Ledger()
    for event in (FIRST, FIRST, SECOND):
        ledger.record(event)
    ledger.refresh()
    assert total(ledger) == 6
    assert total(Ledger()) == 0, "each has its own"


def test_kinds_of_releases_are_kept_apart_and_composed():
    ledger = Ledger()
    counts = replace(FIRST, kind="label_counts", round=0, mechanism=Mechanism("pure", 2.0))
    for event in (FIRST, counts, replace(SECOND, mechanism=replace(STEPS, rate=0.5))):
        ledger.record(event)
    parts = (*gaussian(2.0, 0.25, 3), *gaussian(2.0, 0.5, 3), counts.mechanism)
    assert ledger.history() == merged(parts)
    assert ledger.epsilon(1e-5).accountant == "pld"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": ""},
        {"kind": "Training steps"},
        {"run": "a b"},
        {"plan": "\n"},
        {"key": "k" * 101},
        {"round": -1},
        {"delta": 0.0},
        {"delta": float("nan")},
    ],
)
def test_what_is_no_event_is_refused(changes):
    with pytest.raises(ConfigError) as error:
        replace(FIRST, **changes)
    assert error.value.where in changes


def test_fingerprints_tell_keys_apart_and_hide_them():
    prints = {fingerprint(bytes([i]) * 32) for i in range(100)}
    assert len(prints) == 100
    assert all(len(each) == 16 for each in prints)
    assert fingerprint(bytes(32)) != bytes(32).hex()[:16]


# Several that write


def test_what_another_ledger_wrote_is_seen(path):
    one, two = Ledger(path), Ledger(path)
    one.record(FIRST)
    assert total(two) == 0
    two.refresh()
    assert total(two) == 3
    two.record(SECOND)
    one.record(SECOND)
    assert total(one) == 6, "the other's event is no second release"
    assert one.head == two.head


def _write(path, worker, rounds=15, start=None):
    if start is not None:
        start.wait(30)
    ledger = Ledger(path)
    for number in range(rounds):
        ledger.record(replace(FIRST, round=number, key=f"{worker}"))


def test_processes_that_write_at_once_lose_nothing(path):
    """Also not where all of them find no ledger yet."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert total(Ledger(path)) == 3 * 15 * 3


def test_threads_that_write_at_once_lose_nothing(path):
    ledgers = [Ledger(path), Ledger(path)]

    def write(number):
        for round_number in range(8):
            ledgers[number % 2].record(replace(FIRST, round=round_number, key=f"t{number}"))

    workers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert total(Ledger(path)) == 4 * 8 * 3


def test_a_connection_is_not_taken_across_a_fork(path):
    ledger = Ledger(path)
    ledger.record(FIRST)
    context = multiprocessing.get_context("fork")

    def child():
        assert not store._open
        ledger.record(SECOND)
        gone.wait(30)  # the parent opens and closes the file meanwhile, and is not the last to do so
        ledger.record(replace(FIRST, round=3))

    gone = context.Event()
    worker = context.Process(target=child)
    worker.start()
    while ledger.head.number < 2:
        ledger.refresh()
    close_all()
    gone.set()
    worker.join()
    assert worker.exitcode == 0
    ledger.record(replace(FIRST, round=4))
    assert total(Ledger(path)) == 12


def test_a_writer_waits_for_the_other(path):
    Ledger(path).record(FIRST)
    context = multiprocessing.get_context("fork")
    locked = context.Event()
    worker = context.Process(target=_write, args=(path, "w", 2, locked))
    worker.start()  # before the lock, which a fork would share
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    locked.set()
    worker.join(0.3)
    assert worker.is_alive()
    blocker.execute("ROLLBACK")
    blocker.close()
    worker.join()
    assert worker.exitcode == 0
    assert total(Ledger(path)) == 9


def test_few_files_are_open_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST_OPEN", 3)
    ledgers = [Ledger(tmp_path / f"{i}.sqlite") for i in range(6)]
    for event in (FIRST, SECOND):
        for ledger in ledgers:
            ledger.record(event)
    assert len(store._open) == 3
    assert [total(ledger) for ledger in ledgers] == [6] * 6
    close_all()
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"{i}.sqlite" for i in range(6)]


# Killed at any moment

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from client.ledger import Event, Ledger
from client.mechanisms import Mechanism
ledger = Ledger(Path(sys.argv[1]))
start = ledger.head.number
event = Event("training", "r", "p", 1, "k", 1e-5, Mechanism("gaussian", 2.0, 0.25, 1))
for number in range(start + 1, start + 10_000):
    ledger.record(replace(event, round=number))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_killed_in_the_midst_of_writing_nothing_that_was_released_is_lost(path):
    """kill -9, again and again: what was told to be on disk is there, and at most one release more."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    known = 0
    for attempt in range(6):
        command = [sys.executable, "-c", WRITER, str(path)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(1 + 3 * attempt)]
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        assert process.returncode == -signal.SIGKILL
        whole = [int(line) for line in told if line.endswith("\n")]
        assert whole[0] == known + 1 or attempt
        ledger = Ledger(path)
        assert whole[-1] <= ledger.head.number <= whole[-1] + 1
        assert total(ledger) == ledger.head.number
        known = ledger.head.number
        if attempt % 2:
            close_all()


@pytest.mark.parametrize("at", ["link", "fsync"])
def test_killed_while_it_is_made(path, at, monkeypatch):
    """A file is there whole or not at all."""

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, at, kill)
        with pytest.raises(Killed):
            Ledger(path).record(FIRST)
    Ledger(path).record(FIRST)
    assert total(Ledger(path)) == 3
