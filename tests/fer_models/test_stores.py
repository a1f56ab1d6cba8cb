"""Stores of decoded pictures: made once, gone on with after a kill, made anew when stale or damaged, owner-only."""

import ast
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_models import stores
from fer_models.errors import DataError, RunFolderError
from fer_models.fingerprint import fingerprint
from fer_models.readers import pictures, read
from fer_models.stores import Cache

COUNT = 12


@pytest.fixture
def tree(tmp_path):
    """Class folders of twelve drawn pictures, the fourth damaged."""
    for index in range(COUNT):
        path = tmp_path / "set" / ("happy", "sad")[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * index).save(path)
    (tmp_path / "set/sad/03.png").write_bytes(b"no picture")
    return tmp_path / "set"


@pytest.fixture
def cached(tree, tmp_path, monkeypatch):
    """cached(**options): read through a store; how many pictures that decoded; and what was told."""
    calls, told = [], []
    real = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda *a: calls.append(a) or real(*a))

    def run(**options):
        calls.clear()
        told.clear()
        cache = Cache(tmp_path / "cache", 0, 0, told.append)
        found = read("classfolders", tree, cache=cache, size=8, unreadable="skip", **options)
        return found, len(calls), list(told)

    return run


def folder_of(tmp_path):
    (found,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    return found


def same(one, other):
    assert np.array_equal(one.pictures, other.pictures)
    assert one.source.tolist() == other.source.tolist()
    assert one.label.tolist() == other.label.tolist()
    assert one.labels == other.labels
    assert one.skipped == other.skipped


def test_the_second_read_decodes_nothing_and_is_the_same(cached, tree, tmp_path):
    plain = read("classfolders", tree, size=8, unreadable="skip")
    first, decoded, told = cached()
    again, decoded_again, told_again = cached()
    assert (decoded, decoded_again) == (COUNT, 0)
    assert len(plain) == COUNT - 1
    same(first, plain)
    same(again, plain)
    assert isinstance(again.pictures, np.memmap)
    assert [line for line in told if str(folder_of(tmp_path)) in line]
    assert told_again == []


def test_a_store_is_for_its_owner_alone_and_holds_no_objects(cached, tmp_path):
    cached()
    folder = folder_of(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    for path in folder.glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype != object
    folder.chmod(0o755)
    with pytest.raises(RunFolderError, match="open to others"):
        cached()


@pytest.mark.parametrize("change", ["content", "new file", "removed", "readers"])
def test_a_stale_store_is_made_anew_in_its_place(cached, tree, tmp_path, monkeypatch, change):
    cached()
    if change == "content":
        Image.new("L", (9, 9), 3).save(tree / "happy/00.png")
    elif change == "new file":
        Image.new("L", (8, 8), 3).save(tree / "happy/99.png")
    elif change == "removed":
        (tree / "happy/00.png").unlink()
    else:
        monkeypatch.setattr(stores, "code_digest", lambda: "of other readers")
    found, decoded, told = cached()
    assert decoded == COUNT + {"new file": 1, "removed": -1}.get(change, 0)
    assert "have changed" in told[0]
    same(found, read("classfolders", tree, size=8, unreadable="skip"))
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_other_options_have_another_store(cached, tmp_path):
    cached()
    found, decoded, _ = cached(leave_out=["sadness"])
    assert (len(found), decoded) == (COUNT / 2, COUNT / 2)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("damage", ["short pictures", "column", "facts", "missing"])
def test_a_damaged_store_is_made_anew(cached, tree, tmp_path, damage):
    cached()
    folder = folder_of(tmp_path)
    if damage == "short pictures":
        os.truncate(folder / "pictures.npy", 300)
    elif damage == "column":
        data = bytearray((folder / "label.npy").read_bytes())
        data[-1] ^= 1
        (folder / "label.npy").write_bytes(data)
    elif damage == "facts":
        facts = json.loads((folder / "store.json").read_text())
        (folder / "store.json").write_text(json.dumps(facts | {"files": "none"}))
    else:
        (folder / "split.npy").unlink()
    found, decoded, told = cached()
    assert decoded == COUNT
    assert "is damaged" in told[0]
    same(found, read("classfolders", tree, size=8, unreadable="skip"))


SLOW = """
import sys, time
from pathlib import Path
from fer_models import stores
from fer_models.readers import pictures, read
stores.MARK_SECONDS = 0.0
real = pictures.decode
def slow(path, *rest):
    time.sleep(0 if path.stem < "08" else 60)
    return real(path, *rest)
pictures.decode = slow
read("classfolders", Path(sys.argv[1]), cache=stores.Cache(Path(sys.argv[2]), 0, 0), size=8, unreadable="skip")
"""


def test_a_killed_process_goes_on_where_it_stopped(cached, tree, tmp_path):
    command = [sys.executable, "-c", SLOW, str(tree), str(tmp_path / "cache")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        end = time.monotonic() + 60
        done = 0
        # happy comes first: 00, 02, 04, 06, then 08 sleeps
        while done < 4 and time.monotonic() < end:
            time.sleep(0.02)
            for journal in (tmp_path / "cache").glob("*.part/journal.json"):
                done = json.loads(journal.read_text())["done"]
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert done == 4
    found, decoded, _ = cached()
    assert decoded == COUNT - 4
    same(found, read("classfolders", tree, size=8, unreadable="skip"))
    assert list((tmp_path / "cache").glob("*.part")) == []


def test_a_journal_of_no_use_is_thrown_away(cached, tree, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "MARK_SECONDS", 0.0)
    real = pictures.decode
    with monkeypatch.context() as patch:

        def killed(path, *rest):
            if path.stem == "05":
                raise KeyboardInterrupt
            return real(path, *rest)

        patch.setattr(pictures, "decode", killed)
        with pytest.raises(KeyboardInterrupt):
            cached()
    (journal,) = (tmp_path / "cache").glob("*.part/journal.json")
    assert json.loads(journal.read_text())["failed"] == {"7": "unreadable picture"}
    journal.write_text(journal.read_text().replace('"done": 8', '"done": "x"'))
    found, decoded, _ = cached()
    assert decoded == COUNT
    same(found, read("classfolders", tree, size=8, unreadable="skip"))


def test_a_full_disk_is_an_error_that_says_what_to_do(cached, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunFolderError, match=r"No space left.*Free disk space, set data\.cache"):
        cached()


def test_a_picture_that_stops_the_reader_leaves_no_store(tree, tmp_path):
    with pytest.raises(DataError, match="unreadable"):
        read("classfolders", tree, cache=Cache(tmp_path / "cache", 0, 0), size=8)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_small_sets_get_no_store(tree, tmp_path):
    cache = Cache(tmp_path / "cache")
    read("classfolders", tree, cache=cache, size=8, unreadable="skip")
    assert not cache.folder.exists()
    found = fingerprint([tree])
    assert found.files == COUNT
    assert not cache.worth(found)
    assert Cache(tmp_path, from_bytes=found.size).worth(found)
    assert Cache(tmp_path, from_files=COUNT).worth(found)


def test_a_fingerprint_follows_links_once_and_names_what_changed(tree, tmp_path):
    (tree / "again").symlink_to(tree)
    (tree / "nothing").symlink_to(tmp_path / "missing")
    before = fingerprint([tree])
    assert before.files == COUNT
    assert fingerprint([tree], deep=False).files == 0
    os.utime(tree / "sad/01.png", (1, 1))
    assert fingerprint([tree]).digest != before.digest


def test_a_store_is_made_anew_when_anything_changes_that_readers_read_with():
    """Every module that a reader imports is behind the digest, but those that only carry, count or judge."""
    folder = Path(stores.__file__).parent
    others = {"errors", "stores", "fingerprint", "splits", "readers", "plugins"}
    found = set()
    for path in (folder / "readers").glob("*.py"):
        if path.name in ("predictions.py", "joined.py"):  # of audits, which read no picture
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fer_models."):
                found.add(node.module.split(".")[1])
    assert {f"{name}.py" for name in found - others} == set(stores.READ_WITH)
