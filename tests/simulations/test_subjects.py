"""Who is on test pictures, by hand; and when nothing is sure that rests on them."""

from dataclasses import replace

import numpy as np
import pytest

from client.evaluation import count
from fer_models.flat import FlatModel
from fer_models.metrics import summarise
from fer_models.zoo import build
from simulations.compose import composed
from simulations.partition import Partition
from simulations.prepare import prepare
from simulations.subjects import (
    CURE,
    NOISY,
    alike,
    count_people,
    doubt,
    knowing_people,
    people_of_models,
    several,
)

WORDS = [
    "experiment=quickstart",
    "data.options.count=120",
    "partition.sites=3",
    "model=hog_linear",
    "data.size=32",
]


@pytest.fixture(scope="module")
def prepared():
    return prepare(composed(WORDS)[0])


@pytest.fixture
def known(prepared):
    """Six test pictures of three people, and which of two sites holds each."""
    samples, rows = prepared.samples, prepared.samples.rows("test")[:6]
    subject = np.array(["a", "a", "b", "b", "c", "c"])
    split = np.full(len(samples), "train")
    split[rows] = "test"
    who = np.array([f"other {i}" for i in range(len(samples))])
    who[rows] = subject
    site = np.zeros(len(samples), np.int32)
    site[rows] = [0, 0, 0, 1, 1, 1]
    return replace(samples, subject=who, split=split), Partition(site, 2)


def test_people_with_pictures_at_several_sites_are_told(known):
    samples, division = known
    assert alike(samples, division) == {"over": "people", "several": True, "at_several_sites": 1}
    assert alike(replace(samples, subject=None), division) is None
    clips = replace(samples, subject_is="clip")
    assert alike(clips, division) == {"over": "clips", "several": True, "at_several_sites": 1}


def test_whoever_is_at_two_sites_counts_once_where_all_pictures_are_in_one_place(known):
    samples, division = known
    rows = samples.rows("test")
    predicted = samples.label[rows]
    whole = count_people(samples, rows, predicted, {})
    parts = [rows[division.site[rows] == site] for site in (0, 1)]
    sites = [count_people(samples, own, samples.label[own], {}) for own in parts]
    assert whole.people.sums[""].moments[0, 0, 0] == 3
    assert (sites[0] + sites[1]).people.sums[""].moments[0, 0, 0] == 4


def test_people_of_other_counts_are_not_known(prepared):
    """As where messages were lost: sums over all people do not belong to counts of some."""
    plan, samples = prepared.plan, prepared.samples
    vector = FlatModel(build(plan.model, plan.seed)).full_vector.clone()
    some = samples.rows("test")[:-1]
    fewer = count_people(samples, some, np.zeros(len(some), int), plan.attributes)
    assert several(samples)
    assert knowing_people(fewer, plan, vector, samples, "cpu") is None


def test_there_is_doubt_where_people_repeat_and_their_sums_are_missing(known):
    samples, _ = known
    rows = samples.rows("test")
    counts = count_people(samples, rows, samples.label[rows], {})
    assert doubt(counts, samples) == {}
    alone = replace(counts, people=None)
    assert doubt(alone, samples)["doubt"].endswith(CURE)
    assert doubt(alone, samples, noisy=True)["doubt"].endswith(NOISY)
    assert doubt(alone, samples, noisy=True, one_each=True) == {}
    assert doubt(alone, replace(samples, subject=np.arange(len(samples)).astype(str))) == {}


def test_models_that_say_the_same_say_as_much_as_one(known):
    """And several that differ, as much as their mean answer, whose variance over people is worked out by hand."""
    samples, _ = known
    rows, label = samples.rows("test"), samples.label[samples.rows("test")].astype(np.int64)
    other = (label + 1) % len(samples.labels)
    said = np.where([True, True, False, True, False, True], label, other)
    one = count_people(samples, rows, said, {})
    thrice = replace(
        one, overall=3 * one.overall, people=people_of_models(samples, rows, np.stack([said] * 3), {})
    )
    single, same = (summarise(each, repeats=k) for each, k in ((one, 1), (thrice, 3)))
    keys = [key for key in single if key.endswith("_interval")]
    assert keys
    assert {key: same[key] for key in keys} == {key: single[key] for key in keys}
    assert (
        summarise(replace(thrice, people=None), repeats=3)["accuracy_interval"] != single["accuracy_interval"]
    )

    pair = np.stack([said, np.where([True, True, True, True, False, False], label, other)])
    both = people_of_models(samples, rows, pair, {})
    table = sum(count(samples, rows, each, {}).overall for each in pair)
    share = both.effects({"": table[None]})[""].share("accuracy")[0, 0]
    mean = (pair == label).mean(0).reshape(3, 2).sum(1)  # of each person's two pictures
    rate = mean.sum() / 6
    variance = 3 / 2 * np.square(mean - 2 * rate).sum() / 36
    few = (1.959964 / 4.302653) ** 2
    assert share == pytest.approx(max(1, rate * (1 - rate) / variance * few) / 6)
