"""The audit log: appended alone, chained, and with no place for what may not be told."""

import hashlib
import json
import multiprocessing
import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.audit_log import KINDS, START, AuditLog, next_hash
from fer_models.errors import ConfigError, RunFolderError, SignatureError


@pytest.fixture
def log(tmp_path):
    """A log of four entries."""
    made = AuditLog(tmp_path / "audit.jsonl")
    made.write("founded", owner="study", fingerprint="ab cd")
    for name in ("a", "b", "c"):
        made.write("site_revoked", site=name)
    return made


def test_an_entry_is_what_was_written_and_chained_to_the_one_before(log):
    entries = list(log.entries())
    assert [each.number for each in entries] == [1, 2, 3, 4]
    assert [each.facts.get("site") for each in entries] == [None, "a", "b", "c"]
    text = json.dumps([START, 1, entries[0].time, "founded", {"fingerprint": "ab cd", "owner": "study"}],
                      separators=(",", ":"))  # fmt: skip
    assert entries[0].hash == hashlib.sha256(text.encode()).hexdigest()
    assert entries[1].hash == next_hash(entries[0].hash, 2, entries[1].time, "site_revoked", {"site": "a"})
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.verify() == entries[-1]


def lines_of(log):
    return log.path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [lines[0], lines[1].replace('"a"', '"z"'), *lines[2:]],
        lambda lines: [lines[0].replace("study", "stud\\u0079 "), *lines[1:]],
        lambda lines: [*lines[:3], lines[3].replace("+00:00", "+01:00")],
        lambda lines: [lines[0], "\n", *lines[1:]],
        lambda lines: [lines[0], "{}\n", *lines[1:]],
        lambda lines: [lines[0], "[" * 3000 + "\n", *lines[1:]],
        lambda lines: [*lines, "x" * 5000 + "\n"],
    ],
)
def test_what_is_not_what_was_written_is_found(change, log):
    log.path.write_text("".join(change(lines_of(log))))
    with pytest.raises(SignatureError, match="damaged"):
        log.verify()


def test_a_later_log_holds_an_earlier_head_and_a_cut_one_does_not(log):
    heads = [each.head for each in log.entries()]
    log.write("site_revoked", site="d")
    assert all(log.verify(head) for head in heads)
    log.path.write_text("".join(lines_of(log)[:2]))
    assert log.verify(heads[1]).number == 2  # the chain alone does not tell
    with pytest.raises(SignatureError, match="does not hold the head"):
        log.verify(heads[3])
    # What is written after the cut makes other hashes.
    for name in ("b", "x"):
        log.write("site_revoked", site=name)
    with pytest.raises(SignatureError):
        log.verify(heads[3])


@pytest.mark.parametrize("kept", [1, 20, 100])
def test_an_entry_that_a_kill_tore_never_was_one(kept, log):
    whole = log.path.read_bytes()
    last = lines_of(log)[-1].encode()
    log.path.write_bytes(whole[: len(whole) - len(last) + kept])
    assert log.verify().number == 3
    log.write("site_revoked", site="again")
    assert [each.facts.get("site") for each in log.entries()] == [None, "a", "b", "again"]


@pytest.mark.parametrize("content", [b"nothing\n", b"{}\n", b"x" * 10_000])
def test_nothing_is_written_after_what_is_no_entry(content, log):
    log.path.write_bytes(content)
    with pytest.raises(SignatureError, match="damaged"):
        log.write("site_revoked", site="a")
    assert log.path.read_bytes().startswith(content[:5])


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("unknown", {}),
        ("site_revoked", {}),
        ("site_revoked", {"site": "a", "accuracy": 1}),
        ("site_revoked", {"site": 0.93}),
        ("site_revoked", {"site": True}),
        ("site_revoked", {"site": ["a"]}),
        ("site_revoked", {"site": "a\nb"}),
        ("site_revoked", {"site": "a" * 201}),
        ("site_revoked", {"site": b"picture"}),
    ],
)
def test_what_an_entry_may_not_say_is_not_written(kind, facts, log):
    before = log.path.read_bytes()
    with pytest.raises(ValueError):
        log.write(kind, **facts)
    assert log.path.read_bytes() == before


def test_no_kind_of_entry_has_a_place_for_data():
    words = {"picture", "pixels", "label", "labels", "accuracy", "recall", "count", "counts", "loss", "epsilon",
             "update", "weights", "group", "prediction", "text", "message"}  # fmt: skip
    assert all(not words & fields for fields in KINDS.values())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=50), max_size=4))
def test_any_short_text_is_read_as_written(tmp_path_factory, names):
    log = AuditLog(tmp_path_factory.mktemp("log") / "log")
    for name in names:
        log.write("site_revoked", site=name)
    assert [each.facts["site"] for each in log.entries()] == names if names else not log.path.exists()


def _write(path, name, count):
    for i in range(count):
        AuditLog(path).write("site_revoked", site=f"{name}{i}")


def test_processes_share_a_log(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "log"
    writers = [context.Process(target=_write, args=(path, name, 20)) for name in "ab"]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
        assert each.exitcode == 0
    assert AuditLog(path).verify().number == 40


def test_a_log_that_is_not_there_or_cannot_be_written_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        AuditLog(tmp_path / "gone").verify()
    with pytest.raises(RunFolderError, match="cannot write"):
        AuditLog(tmp_path / "no folder" / "log").write("site_revoked", site="a")


def test_entries_are_shown_as_they_are_written(log):
    seen = []
    entry = AuditLog(log.path, seen.append).write("site_revoked", site="d")
    assert seen == [entry]
    assert entry.words.endswith("site revoked site=d")
    assert json.loads(entry.line)["number"] == 5


def test_an_entry_that_does_not_fit_on_the_disk_is_an_error_and_none(log):
    """A full disk takes the first bytes without an error; the log is whole again once there is room."""
    size, (soft, hard) = log.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(RunFolderError, match="cannot write the audit log"):
            log.write("site_revoked", site="d")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.verify().number == 4
    assert log.write("site_revoked", site="d").number == 5
    assert log.verify().facts == {"site": "d"}
