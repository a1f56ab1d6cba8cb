"""The privacy ledger: on disk before anything leaves, never less than what was spent."""

import fcntl
import json
import multiprocessing
import os
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ledger import Ledger, Release
from client.mechanisms import gaussian, merged
from fer_models.errors import PrivacyError, RunFolderError

FIRST = Release(plan="p", round=1, steps=3, rate=0.25, noise_multiplier=2.0, key="k1")
SECOND = replace(FIRST, round=2, key="k2")


def total(ledger):
    return sum(each.count for each in ledger.history())


def test_one_line_a_release(tmp_path):
    path = tmp_path / "deep" / "site.jsonl"
    ledger = Ledger(path)
    assert ledger.history() == ()
    assert not path.exists()
    ledger.record(FIRST)
    ledger.record(SECOND)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [asdict(FIRST), asdict(SECOND)]
    assert path.stat().st_mode & 0o077 == 0, "nobody else may read it"
    assert Ledger(path).history() == ledger.history() == gaussian(2.0, 0.25, 6)


def test_the_line_is_synced_before_record_returns(tmp_path, monkeypatch):
    path, events, write = tmp_path / "site.jsonl", [], os.fsync
    ledger = Ledger(path)

    def seen(descriptor):
        kind = "folder" if os.path.samestat(os.fstat(descriptor), tmp_path.stat()) else "file"
        events.append((kind, path.read_bytes().count(b"\n")))
        write(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    ledger.record(FIRST)
    assert events == [("file", 1), ("folder", 1)], "a new file's name has to be synced too"
    ledger.record(SECOND)
    assert events[2:] == [("file", 2)]


def test_a_replay_with_the_same_key_counts_once_another_key_again(tmp_path):
    ledger = Ledger(tmp_path / "site.jsonl")
    for release in (FIRST, FIRST, replace(FIRST, key="other"), replace(FIRST, plan="q"), SECOND):
        ledger.record(release)
    assert total(ledger) == 12
    assert ledger.history("q") == gaussian(2.0, 0.25, 3)
    ledger.record(replace(FIRST, steps=5))
    assert total(ledger) == 17, "the same key with other work is no replay"
    assert total(Ledger(tmp_path / "site.jsonl")) == 17


def test_a_ledger_in_memory():
    ledger = Ledger()
    ledger.record(FIRST)
    ledger.record(FIRST)
    ledger.record(SECOND)
    ledger.refresh()
    assert total(ledger) == 6


def test_the_history_keeps_mechanisms_apart():
    ledger = Ledger()
    for release in (FIRST, replace(SECOND, rate=0.5), replace(FIRST, round=3, noise_multiplier=1.0)):
        ledger.record(release)
    assert ledger.history() == merged(
        (*gaussian(1.0, 0.25, 3), *gaussian(2.0, 0.25, 3), *gaussian(2.0, 0.5, 3))
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 120))
def test_a_torn_last_line_is_ignored_and_overwritten(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("ledger") / "site.jsonl"
    ledger = Ledger(path)
    ledger.record(FIRST)
    first = path.read_bytes()
    ledger.record(replace(SECOND, plan="a longer line than the next" * 3))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(first), len(whole) - cut)])
    torn = Ledger(path)
    assert total(torn) == 3
    torn.record(SECOND)
    assert path.read_bytes() == first + json.dumps(asdict(SECOND), separators=(",", ":")).encode() + b"\n"
    assert total(Ledger(path)) == total(torn) == 6


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no json",
        b"[]",
        b"\x00\x00\x00",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"plan":"p"}',
        json.dumps({**asdict(FIRST), "more": 1}).encode(),
        json.dumps({**asdict(FIRST), "steps": "3"}).encode(),
        json.dumps({**asdict(FIRST), "steps": 3.5}).encode(),
        json.dumps({**asdict(FIRST), "steps": -3}).encode(),
        json.dumps({**asdict(FIRST), "rate": 0}).encode(),
        json.dumps({**asdict(FIRST), "noise_multiplier": float("nan")}).encode(),
    ],
)
def test_damage_before_the_last_line_is_refused(tmp_path, line):
    path = tmp_path / "site.jsonl"
    Ledger(path).record(FIRST)
    path.write_bytes(path.read_bytes() + line + b"\n" + json.dumps(asdict(SECOND)).encode() + b"\n")
    with pytest.raises(PrivacyError) as error:
        Ledger(path)
    assert error.value.where == f"{path}:2"
    assert "copy" in error.value.cure


@pytest.mark.parametrize("lost", ["a line", "the file"])
def test_a_ledger_that_shrinks_under_a_running_agent_is_refused(tmp_path, lost):
    path = tmp_path / "site.jsonl"
    ledger = Ledger(path)
    ledger.record(FIRST)
    once = path.read_bytes()
    ledger.record(SECOND)
    path.write_bytes(once) if lost == "a line" else path.unlink()
    left = path.exists()
    for use in (ledger.refresh, lambda: ledger.record(replace(FIRST, round=3))):
        with pytest.raises(PrivacyError, match=r"lost lines|gone"):
            use()
    assert path.exists() == left, "no empty ledger takes the place of a lost one"


def test_what_another_ledger_wrote_is_seen(tmp_path):
    path = tmp_path / "site.jsonl"
    one, two = Ledger(path), Ledger(path)
    one.record(FIRST)
    assert total(two) == 0
    two.refresh()
    assert total(two) == 3
    two.record(SECOND)
    one.record(SECOND)
    assert total(one) == 6, "the other's line is no second release"
    assert path.read_bytes().count(b"\n") == 2


def _write(path, worker, start=None):
    if start is not None:
        start.wait(30)
    ledger = Ledger(path)
    for number in range(25):
        ledger.record(replace(FIRST, round=number, key=f"{worker}"))


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "site.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert total(Ledger(path)) == 3 * 25 * 3


def test_a_writer_waits_for_the_other(tmp_path):
    path = tmp_path / "site.jsonl"
    Ledger(path).record(FIRST)
    context = multiprocessing.get_context("fork")
    locked = context.Event()
    worker = context.Process(target=_write, args=(path, "w", locked))
    worker.start()  # before the lock, which a fork would share
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        locked.set()
        worker.join(0.5)
        assert worker.is_alive()
    worker.join()
    assert worker.exitcode == 0
    assert total(Ledger(path)) == 26 * 3


def test_a_full_disk_stops_the_release(tmp_path):
    path = tmp_path / "site.jsonl"
    path.symlink_to("/dev/full")
    ledger = Ledger(path)
    with pytest.raises(RunFolderError, match=r"cannot write the privacy ledger: No space left"):
        ledger.record(FIRST)
    assert ledger.history() == (), "what was not written was not released"


@pytest.mark.parametrize("use", [Ledger, lambda path: Ledger(path / "below" / "x").record(FIRST)])
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path, use):
    (tmp_path / "below").write_text("") if use is not Ledger else None
    with pytest.raises(RunFolderError, match="the privacy ledger: "):
        use(tmp_path)


def test_fingerprints_tell_keys_apart_and_hide_them():
    prints = {Release.fingerprint(bytes([i]) * 32) for i in range(100)}
    assert len(prints) == 100
    assert all(len(each) == 16 for each in prints)
    assert Release.fingerprint(bytes(32)) != bytes(32).hex()[:16]
