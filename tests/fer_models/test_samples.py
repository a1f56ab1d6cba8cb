"""The table of samples: words for splits, picture stores, rows taken, and a folder and back."""

from dataclasses import replace

import numpy as np
import pytest

from fer_models import samples as module
from fer_models.errors import DataError, RunFolderError
from fer_models.samples import (
    UNKNOWN_CLASS,
    Samples,
    is_split,
    people_by_group,
    picture_store,
    split_name,
)


def table(n=6, channels=1):
    shape = (n, 8, 8) if channels == 1 else (n, 8, 8, channels)
    rng = np.random.default_rng(0)
    return Samples(
        pictures=rng.integers(0, 256, shape, np.uint8),
        label=np.arange(n).astype(np.int16) % 2,
        labels=("neutral", "happiness"),
        source=np.array([f"{i}.png" for i in range(n)]),
        split=np.array((["train", "validation", "test"] * n)[:n]),
        votes=rng.integers(1, 9, (n, 2)).astype(np.float32),
        subject=np.array([f"p{i // 2}" for i in range(n)]),
        groups={"age": np.array(["0-17", "undisclosed"] * n)[:n], "é/..": np.array(["a"] * n)},
        skipped={"unreadable picture": 1},
        name="drawn",
    )


@pytest.mark.parametrize(
    ("word", "split"),
    [("Training", "train"), ("val", "validation"), ("public test", "validation"), ("Private_Test", "test")],
)
def test_words_for_splits(word, split):
    assert split_name(word, where="a:1") == split
    assert is_split(word)


def test_an_unknown_split_names_the_splits():
    assert not is_split("holdout")
    with pytest.raises(DataError, match=r"'holdout' \(a:1\)\. Use one of train, validation, test"):
        split_name("holdout", where="a:1")


@pytest.mark.parametrize("channels", [1, 3])
def test_stores_in_memory_and_mapped(channels, tmp_path):
    here = picture_store(3, 8, channels)
    mapped = picture_store(3, 8, channels, folder=tmp_path, mapped_above=3)
    assert isinstance(mapped, np.memmap)
    assert not isinstance(here, np.memmap)
    assert here.shape == mapped.shape
    assert not mapped.any()
    mapped[1] = 7
    assert mapped.sum() == 7 * 64 * channels
    assert list(tmp_path.iterdir()) == [], "the file has no name that could be left behind"


def test_a_store_that_the_disk_cannot_hold_is_refused_at_once(tmp_path):
    with pytest.raises(RunFolderError, match="Free disk space"):
        picture_store(1 << 40, 1024, 3, folder=tmp_path)


def test_taken_rows_carry_every_column(monkeypatch):
    whole = table(10)
    rows = np.array([7, 2, 2])
    for above in (module.MAPPED_ABOVE, 1):
        monkeypatch.setattr(module, "MAPPED_ABOVE", above)
        some = whole.take(rows)
        assert isinstance(some.pictures, np.memmap) == (above == 1)
        assert np.array_equal(some.pictures, whole.pictures[rows])
        assert some.source.tolist() == ["7.png", "2.png", "2.png"]
        assert np.array_equal(some.targets(np.arange(3)), whole.targets(rows))
        assert some.subject is not None
        assert some.subject.tolist() == ["p3", "p1", "p1"]
        assert some.groups["age"].tolist() == ["undisclosed", "0-17", "0-17"]


def test_targets_are_shares_of_votes_or_one_hot():
    whole = table()
    assert whole.votes is not None
    expected = whole.votes[[4]] / whole.votes[4].sum()
    assert np.array_equal(whole.targets(np.array([4])), expected)
    bare = Samples(whole.pictures, whole.label, whole.labels, whole.source, whole.split)
    assert bare.targets(np.array([0, 1])).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_and_back(tmp_path, channels):
    whole = table(channels=channels)
    whole.save(tmp_path / "set")
    read = Samples.load(tmp_path / "set")
    assert isinstance(read.pictures, np.memmap)
    assert (read.size, read.channels, len(read)) == (8, channels, 6)
    assert np.array_equal(read.pictures, whole.pictures)
    assert read.groups.keys() == whole.groups.keys()
    assert read.groups["age"].tolist() == whole.groups["age"].tolist()
    assert (read.labels, read.skipped, read.name) == (whole.labels, whole.skipped, whole.name)
    with pytest.raises(DataError, match="no folder of saved samples"):
        Samples.load(tmp_path)


def test_classes_that_a_set_does_not_know(tmp_path):
    known = np.array([[True, True], [False, True]] * 3)
    whole = replace(table(), votes=None, known=known)
    wanted = [[1, 0], [UNKNOWN_CLASS, 1]] * 3
    assert whole.targets(np.arange(6)).tolist() == wanted
    assert whole.take(np.array([3, 0])).targets(np.arange(2)).tolist() == [wanted[3], wanted[0]]
    whole.save(tmp_path / "set")
    assert Samples.load(tmp_path / "set").known.tolist() == known.tolist()
    votes = replace(whole, votes=np.full((6, 2), 2, np.float32))
    assert votes.targets(np.arange(2)).tolist() == [[0.5, 0.5], [UNKNOWN_CLASS, 0.5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"known": np.array([[True, False]] * 6)}, "own class is not among those"),
        ({"known": np.ones((5, 2), bool)}, "column known has 5 rows for 6 pictures"),
        ({"label": np.zeros(5, np.int16)}, "column label has 5 rows for 6 pictures"),
        ({"label": np.full(6, 2, np.int16)}, "outside the label names"),
        ({"label": np.full(6, -1, np.int16)}, "outside the label names"),
        ({"split": np.full(6, "holdout")}, "unknown split 'holdout'"),
        ({"groups": {"age": np.array(["0-17"])}}, "column age has 1 rows"),
        ({"pictures": np.zeros((6, 8, 8), np.float32)}, "pictures are float32"),
    ],
)
def test_columns_that_do_not_fit(change, message):
    with pytest.raises(DataError, match=message):
        Samples(**{**vars(table()), **change})


def test_only_people_are_counted_as_people(tmp_path):
    people, clips = table(), replace(table(), subject_is="clip")
    rows = np.arange(6)
    assert people_by_group(people, rows, {"age": ["0-17"]}) == {"age": {"0-17": 3}}
    assert people_by_group(clips, rows, {"age": ["0-17"]}) == {}
    clips.save(tmp_path)
    assert Samples.load(tmp_path).subject_is == "clip"
    with pytest.raises(DataError, match="unknown kind of subject 'dog'"):
        replace(people, subject_is="dog")
