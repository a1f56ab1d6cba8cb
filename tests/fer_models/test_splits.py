"""Copies, units and held-out splits, on hand-made tables and on drawn ones."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_models import splits
from fer_models.errors import ConfigError, DataError
from fer_models.labels import EXPRESSIONS
from fer_models.samples import Samples, picture_store
from fer_models.splits import copies, divided, hold_out, leaks, units


def samples_of(shown, people=None, label=None, split=None):
    """A table whose row i shows picture number ``shown[i]``, 8 x 8."""
    n = len(shown)
    store = np.random.default_rng(7).integers(0, 256, (max(shown, default=0) + 1, 8, 8), np.uint8)
    return Samples(
        pictures=store[np.array(shown, int)],
        label=np.zeros(n, np.int16) if label is None else np.array(label, np.int16),
        labels=EXPRESSIONS,
        source=np.array([f"row:{i}" for i in range(n)], np.str_),
        split=np.full(n, "train") if split is None else np.array(split, np.str_),
        subject=None if people is None else np.array(people, np.str_),
        votes=np.ones((n, 8), np.float32),
        groups={"side": np.array(["left", "right"] * n)[:n]},
    )


def test_copies_point_to_the_first_of_them():
    assert copies(samples_of([3, 1, 3, 0, 1, 3])).tolist() == [0, 1, 0, 3, 1, 0]
    assert copies(samples_of([])).tolist() == []


def test_equal_checksums_are_not_yet_copies(monkeypatch):
    monkeypatch.setattr(splits, "_sums", lambda pictures: np.zeros(len(pictures), np.uint64))
    assert copies(samples_of([3, 1, 3, 0, 1])).tolist() == [0, 1, 0, 3, 1]


def test_sums_tell_pictures_apart_that_differ_in_one_pixel():
    base = np.random.default_rng(0).integers(0, 256, (7, 7, 3), np.uint8)
    several = np.stack([base] * (base.size + 1))
    for pixel in range(base.size):
        several[pixel + 1].flat[pixel] ^= 1
    assert len(np.unique(splits._sums(several))) == base.size + 1


def test_copies_of_a_mapped_colour_store():
    store = picture_store(5, 8, 3, mapped_above=1)
    store[2], store[4] = 9, 9
    store[3, 0, 0, 2] = 1
    base = samples_of([0] * 5)
    mapped = Samples(store, base.label, base.labels, base.source, base.split)
    assert copies(mapped).tolist() == [0, 0, 2, 3, 2]


def test_units_join_people_and_copies_in_chains():
    #        a-b share picture 5, b-c share picture 6, d is alone
    shown, people = [1, 5, 5, 6, 6, 7, 8], ["a", "a", "b", "b", "c", "c", "d"]
    assert units(samples_of(shown, people)).tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert units(samples_of(shown)).tolist() == [0, 1, 1, 2, 2, 3, 4]


def pairs(n=200, seed=0):
    """Half as many different pictures as rows, people with several pictures, three classes."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(0, n // 2, n)
    label = np.array([0, 0, 0, 0, 1, 1, 1, 3, 3, 4])[shown % 10]
    return samples_of(shown.tolist(), None, label)


def across(samples, key):
    return any(
        set(key[samples.rows(a)]) & set(key[samples.rows(b)])
        for a, b in combinations(("train", "validation", "test"), 2)
    )


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(40, 120),
    fraction=st.floats(0.1, 0.6),
    people=st.booleans(),
    drop=st.booleans(),
)
def test_nothing_lies_on_both_sides(seed, n, fraction, people, drop):
    rng = np.random.default_rng(seed)
    shown = rng.integers(0, 4 * n, n).tolist()
    who = [f"p{i}" for i in rng.integers(0, 3 * n, n)] if people else None
    whole = samples_of(shown, who, rng.integers(0, 3, n))
    held = hold_out(whole, fraction, seed=seed, drop_copies_in_target=drop)
    assert not across(held, copies(held))
    if people:
        assert not across(held, held.subject)
    assert len(held) + sum(held.skipped.values()) == n
    assert set(held.source) <= set(whole.source)
    test = held.rows("test")
    assert len(test)
    assert len(held.rows("train"))
    if drop:
        assert len(np.unique(copies(held)[test])) == len(test)
    else:
        assert len(held) == n


def test_the_share_and_the_classes_are_kept():
    whole = pairs(4000)
    different = len(np.unique(copies(whole)))
    held = hold_out(whole, 0.2, seed=1)
    test = held.label[held.rows("test")]
    assert len(test) == pytest.approx(0.2 * different, abs=2)
    first = np.unique(copies(whole))
    for label in np.unique(whole.label):
        assert (test == label).sum() == pytest.approx(0.2 * (whole.label[first] == label).sum(), abs=1)
    rows = hold_out(whole, 0.2, seed=1, drop_copies_in_target=False)
    assert len(rows.rows("test")) == pytest.approx(0.2 * len(whole), abs=8)


def test_whole_people_move():
    people = [f"p{i // 4}" for i in range(80)]
    held = hold_out(samples_of(list(range(80)), people, [0, 1, 2, 3] * 20), 0.25, seed=3)
    assert len(held.rows("test")) == 20
    assert np.bincount(held.label[held.rows("test")]).tolist() == [5, 5, 5, 5]


def test_a_seed_is_a_split():
    whole = pairs()
    first, again, other = (hold_out(whole, 0.3, seed=seed) for seed in (5, 5, 6))
    assert first.source.tolist() == again.source.tolist()
    assert first.split.tolist() == again.split.tolist()
    assert first.split.tolist() != other.split.tolist()


def test_rows_keep_their_columns():
    whole = pairs()
    held = hold_out(whole, 0.3, seed=5)
    index = [int(source.partition(":")[2]) for source in held.source]
    assert index == sorted(index)
    assert np.array_equal(held.pictures, whole.pictures[index])
    assert np.array_equal(held.label, whole.label[index])
    assert np.array_equal(held.groups["side"], whole.groups["side"][index])
    assert held.votes is not None
    assert held.votes.shape == (len(held), 8)
    assert whole.split.tolist() == ["train"] * 200, "the table handed in stays as it was"


def test_validation_is_not_cut_to_the_width_of_train():
    held = hold_out(pairs(), 0.3, seed=5, target="validation")
    assert set(held.split) == {"train", "validation"}
    assert not across(held, copies(held))


def test_units_that_cross_already_are_repaired():
    #                 0 in train and test, 1 twice in test, 2 in train and validation
    shown = [0, 0, 1, 1, 2, 2, *range(3, 43)]
    split = ["train", "test", "test", "test", "train", "validation", *["train"] * 40]
    whole = samples_of(shown, None, None, split)
    held = hold_out(whole, 0.25, seed=0)
    same = copies(held)
    assert not set(same[held.rows("train")]) & set(same[held.rows("test")])
    assert held.skipped == {"pixel-identical copy within test": 2}
    where = dict(zip(held.source.tolist(), held.split.tolist(), strict=True))
    assert where["row:0"] == "test"
    assert "row:1" not in where
    assert where["row:4"] == "train", "a unit with a row in a third split stays"
    moved = [source for source in held.source[held.rows("test")] if int(source[4:]) > 5]
    assert len(moved) == pytest.approx(0.25 * 42 - 1, abs=1), "what had to move counts"


def test_skipped_reasons_add_up():
    whole = samples_of([0, 0, 0, *range(1, 20)], None, None, ["test"] * 3 + ["train"] * 19)
    once = hold_out(whole, 0.2, seed=0)
    assert once.skipped == {"pixel-identical copy within test": 2}
    assert hold_out(once, 0.2, seed=0).skipped == {"pixel-identical copy within test": 2}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_impossible_fractions(fraction):
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        hold_out(pairs(), fraction, seed=0)


@pytest.mark.parametrize(("source", "target"), [("train", "train"), ("train", "holdout"), ("all", "test")])
def test_impossible_splits(source, target):
    with pytest.raises(ConfigError, match="Use two of train, validation, test"):
        hold_out(pairs(), 0.2, seed=0, source=source, target=target)


def test_an_empty_side_is_refused():
    one_person = samples_of([0, 1, 2], ["a", "a", "a"])
    for fraction in (0.1, 0.9):
        with pytest.raises(DataError, match="without an empty split"):
            hold_out(one_person, fraction, seed=0)
    with pytest.raises(DataError, match="without an empty split"):
        hold_out(pairs(), 0.2, seed=0, source="validation")
    assert splits.units(one_person).tolist() == [0, 0, 0]


# What is left out and what is told of an official test part

PARTS = ["train", "train", "train", "validation", "test", "test"]


def official(people=None):
    """Pictures 1 1 2 3 | 2 3, of which 2 and 3 lie in test too."""
    return samples_of([1, 1, 2, 3, 2, 3], people, split=PARTS)


@pytest.mark.parametrize(
    ("copies_out", "kept", "reason"),
    [
        ("leaked", [0, 1, 4, 5], {"copy of a test picture": 2}),
        ("all", [0, 4, 5], {"pixel-identical copy": 3}),
        ("keep", [0, 1, 2, 3, 4, 5], {}),
    ],
)
def test_copies_are_left_out_as_asked(copies_out, kept, reason):
    found = divided(official(), "official", 0.2, 0, copies_out)
    assert found.source.tolist() == [f"row:{row}" for row in kept]
    assert found.skipped == reason


@pytest.mark.parametrize("copies_out", ["leaked", "all", "keep"])
def test_copies_never_cross_a_held_out_split(copies_out):
    shown = [*range(30), *range(10), *range(10)]
    found = divided(samples_of(shown), "holdout", 0.3, 0, copies_out)
    assert leaks(found, pictures=True) == []
    assert len(found) == {"leaked": len(found), "all": 30, "keep": 50}[copies_out]
    test = found.rows("test")
    assert copies_out == "keep" or len(np.unique(copies(found.take(test)))) == len(test)


def test_an_unknown_choice_of_copies_is_refused():
    with pytest.raises(ConfigError, match="Use one of leaked, all, keep"):
        divided(official(), "official", 0.2, 0, "some")


def test_what_lies_on_both_sides_is_said():
    told = leaks(official(["a", "b", "c", "d", "a", "e"]), pictures=True)
    assert [text.partition(": what")[0] for text in told] == [
        "2 pictures lie in test and in another part too, such as row:2",
        "1 people lie in test and in another part too, such as a",
    ]
    clips = replace(official(["a", "b", "c", "d", "a", "e"]), subject_is="clip")
    assert leaks(clips, pictures=False)[0].startswith("1 clips lie in test")
