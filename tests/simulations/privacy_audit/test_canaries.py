"""Canaries: made up, thrown in by fair coins that nobody else draws, and absent where a coin says so."""

from dataclasses import replace

import numpy as np
import pytest

from fer_models.errors import ConfigError
from simulations.partition import Partition
from simulations.privacy_audit.canaries import extremes, insert, make_canaries


@pytest.fixture
def division(small):
    return Partition((np.arange(len(small)) % 2).astype(np.int32), 2)


@pytest.mark.parametrize("kind", ["patches", "faces"])
def test_canaries_follow_from_the_seed(small, kind):
    one, again, other = (make_canaries(kind, 40, small, 2, seed) for seed in (1, 1, 2))
    for name in ("pictures", "label", "site", "included"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))
    assert one.pictures.shape == (40, 48, 48)
    assert np.bincount(one.site).tolist() == [20, 20]
    assert set(one.label) == {0, 1, 2}
    assert len(np.unique(one.pictures, axis=0)) == 40


def test_coins_are_fair_and_tell_nothing_of_label_and_site(small):
    found = make_canaries("patches", 4000, small, 2, 0)
    assert abs(found.included.mean() - 0.5) < 4 * 0.5 / 4000**0.5
    for column in (found.label, found.site):
        assert abs(np.corrcoef(column, found.included)[0, 1]) < 4 / 4000**0.5


def test_a_canary_that_is_out_is_nowhere_in_the_table(small, division):
    canaries = make_canaries("patches", 30, small, 2, 0)
    table, longer = insert(replace(small, subject=np.array([f"p{i}" for i in range(90)])), division, canaries)
    count = int(canaries.included.sum())
    assert 0 < count < 30
    assert len(table) == len(small) + count == len(longer.site)
    assert np.array_equal(table.pictures[90:], canaries.pictures[canaries.included])
    assert np.array_equal(longer.site[90:], canaries.site[canaries.included])
    assert set(table.split[90:]) == {"train"}
    assert sorted(table.subject)[-count:] == sorted(
        table.subject[90:]
    )  # they come last in any order of people
    assert np.array_equal(table.pictures[:90], small.pictures)


def test_colour_tables_get_colour_canaries(small):
    colour = replace(small, pictures=np.repeat(small.pictures[..., None], 3, 3))
    assert make_canaries("patches", 4, colour, 2, 0).pictures.shape == (4, 48, 48, 3)
    assert make_canaries("faces", 4, colour, 2, 0).pictures.shape == (4, 48, 48, 3)
    names, found = extremes(colour)
    assert found.shape == (len(names), 48, 48, 3)
    assert len(np.unique(found, axis=0)) == len(names)


@pytest.mark.parametrize(
    ("kind", "count", "said"), [("birds", 9, "patches or faces"), ("faces", 1, "2 or more")]
)
def test_other_canaries_are_refused(small, kind, count, said):
    with pytest.raises(ConfigError, match=said):
        make_canaries(kind, count, small, 2, 0)
