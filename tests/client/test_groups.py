"""Groups of a site's pictures: who is undisclosed, what each weighs, and the tally."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.fairness import Fairness
from client.groups import Grouped, Tally, fair_round, grouped
from client.plan import Attribute, Secure
from client.told import NOTHING, Told
from fer_models.errors import ConfigError, DataError

DATA = Grouped(np.array([0, 1, 2, 0]), np.array([0, 1, 1, 2]), 2, 3)
WEIGHTS = ((1.0, 0.5, 0.25), (0.5, 0.75, 0.5), (0.9, 0.8, 0.7))
TOLD = Told((), 0.0, WEIGHTS, (0.5, 1.0), (0.5, 0.25))


@pytest.fixture
def fair_plan(plan_of):
    def make(**given_):
        fairness = Fairness(**{"attribute": "age", "adversary": "critic", **given_})
        secure = Secure(sites=3, threshold=3, minimum=3, clip=16.0)
        return plan_of(aggregation="secure", secure=secure, fairness=fairness)

    return make


def test_values_that_the_plan_does_not_name_are_undisclosed(fair_plan, samples):
    plan = replace(fair_plan(), groups=(Attribute("age", ("old", "young", "undisclosed")),))
    odd = samples.groups["age"].copy()
    odd[0] = "ancient"
    table = replace(samples, groups={"age": odd})
    found = grouped(plan, table, np.arange(50), opted_out=False)
    names = np.array(["old", "young", "undisclosed"])
    expected = np.where(odd[:50] == "ancient", "undisclosed", odd[:50])
    assert (names[found.group] == expected).all()
    assert (found.label == samples.label[:50]).all()
    assert (found.cells == found.group * 3 + found.label).all()


def test_who_opts_out_discloses_nobody_and_needs_no_column(fair_plan, samples):
    bare = replace(samples, groups={})
    found = grouped(fair_plan(), bare, np.arange(20), opted_out=True)
    assert (found.group == 2).all()
    with pytest.raises(DataError, match="no column tells 'age'"):
        grouped(fair_plan(), bare, np.arange(20), opted_out=False)


def test_weights_by_hand():
    own, critics = DATA.weights(TOLD)
    assert own.tolist() == pytest.approx([1.0, 0.75, 0.8, 0.25])
    assert critics.tolist() == [0.5, 1.0, 0.0, 0.5]
    own, critics = DATA.weights(NOTHING)
    assert own.tolist() == [1, 1, 1, 1]
    assert critics.tolist() == [1, 1, 0, 1], "nobody's group is no reason to teach the critic"


def test_columns_by_hand():
    plain = DATA.columns(TOLD, private=False)
    assert plain[:, :2].tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]
    assert plain[:, 2].tolist() == pytest.approx([2.0, 1.5, 1.6, 0.5]), "divided by their mean"
    assert plain[:, 3].tolist() == pytest.approx([2.0, 4.0, 0.0, 2.0])
    private = DATA.columns(TOLD, private=True)
    assert (private[:, 2:] == 1).all(), "weights come after the clip"
    assert torch.equal(private[:, :2], plain[:, :2])


def test_units_weigh_what_their_pictures_do_on_average(fair_plan):
    found = fair_round(fair_plan(), DATA, TOLD)
    own, critics = found.unit_weights(np.array([0, 0, 1, 2, 3]), [2, 1, 2])
    assert own.tolist() == pytest.approx([1.0, 0.75, (0.8 + 0.25) / 2])
    assert critics.tolist() == pytest.approx([0.5, 1.0, 0.25])
    assert own.dtype == np.float32
    assert [len(w) for w in found.unit_weights(np.zeros(0, int), [])] == [0, 0], "batches may be empty"
    alone = fair_round(fair_plan(adversary="none", weighting="counts"), DATA, TOLD)
    assert len(alone.unit_weights(np.array([0]), [1])) == 1


def test_what_is_told_for_other_groups_is_refused(fair_plan):
    with pytest.raises(ConfigError, match="weights for other than"):
        fair_round(fair_plan(), DATA, Told(weights=WEIGHTS[:2]))


def test_a_tally_by_hand():
    tally = Tally(DATA, parity=False)
    tally(torch.tensor([0, 0]))
    tally(torch.tensor([1, 2]))
    tally.note(np.arange(4))
    right = tally.total.reshape(3, 3, 2)
    assert right[0, 0].tolist() == [0, 1]
    assert right[1, 1].tolist() == [1, 0]
    assert right[2, 1].tolist() == [0, 1]
    assert right[0, 2].tolist() == [0, 1]
    assert right.sum() == 4
    parity = Tally(DATA, parity=True)
    parity(torch.tensor([2, 0, 1, 2]))
    parity.note(np.arange(4))
    assert parity.total.reshape(3, 3, 3)[0, 0, 2] == 1
    assert parity.total.sum() == 4


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_a_unit_adds_one_and_no_more(sizes, data):
    """Whatever its pictures, classes and answers: what the noise of the tally is accounted for."""
    rows = np.array(data.draw(st.lists(st.integers(0, 3), min_size=sum(sizes), max_size=sum(sizes))))
    predicted = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=sum(sizes), max_size=sum(sizes))))

    def total(many):
        tally, count = Tally(DATA, parity=False), sum(sizes[:many])
        tally(predicted[:count])
        tally.note(rows[:count], sizes[:many])
        return tally.total

    moved = total(len(sizes)) - total(len(sizes) - 1)
    assert moved.sum() == pytest.approx(1)
    assert np.linalg.norm(moved) <= 1 + 1e-9
    assert (moved >= -1e-12).all()


def test_an_empty_batch_counts_nothing():
    tally = Tally(DATA, parity=False)
    tally.note(np.zeros(0, int), [])
    assert tally.total.sum() == 0
