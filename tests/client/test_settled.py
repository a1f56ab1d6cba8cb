"""Exact counts of training pictures are told in one way for good: two ways would tell what each of them hides."""

import json
from dataclasses import replace

import numpy as np
import pytest

from client import statistics
from client.answered import Answered
from client.fairness import Fairness
from client.plan import Attribute, Secure, Statistics
from client.settled import Settled, way_of
from fer_models.errors import PolicyError

GROUPS = ("a", "b", "c")
SECURE = Secure(sites=3, threshold=3, minimum=3, clip=16.0)


@pytest.fixture
def asking(plan_of):
    """asking(groups, smallest, **plan_of's): a plan of tables by ward, from so many pictures on."""

    def make(groups=GROUPS, smallest=10, **facts):
        plan = plan_of(groups=(Attribute("ward", groups),), **facts)
        return replace(plan, statistics=Statistics(("ward",), smallest))

    return make


@pytest.fixture
def site_of(agent_of, samples, tmp_path):
    """A site with 12 pictures of ward a, 11 of b, 3 of c and 24 of nobody's, all of one class, started anew."""
    ward = np.full(len(samples), "undisclosed")
    ward[:26] = ["a"] * 12 + ["b"] * 11 + ["c"] * 3
    label = np.zeros_like(samples.label)
    table = replace(samples, label=label, votes=None, groups={"ward": ward})

    def make():
        agent = agent_of(table=table)
        agent._train, agent._answered = np.arange(26), Answered(settled=Settled(tmp_path / "settled.json"))
        return agent

    return make


def told(agent, plan):
    return statistics.split(plan, agent.statistics(plan).counts)["ward"][:, 0].tolist()


def test_two_lists_of_groups_would_tell_three_pictures_and_the_second_is_refused(asking, site_of, tmp_path):
    counts = np.zeros((4, 3), np.int64)
    counts[:, 0] = 12, 11, 3, 0
    whole = statistics.folded(asking(), counts.ravel()).reshape(4, 3)[:, 0]
    counts[:, 0] = 0, 11, 3, 12  # ward a is not asked for, so it is nobody's
    part = statistics.folded(asking(("b", "c")), np.delete(counts, 0, 0).ravel()).reshape(3, 3)[:, 0]
    assert whole[-1] - part[0] == 3, (
        "the attack: what the first hides together, less what the second shows of it"
    )
    assert told(site_of(), asking()) == whole.tolist() == [12, 0, 0, 14]
    with pytest.raises(
        PolicyError, match="by ward of the groups b, c, which the site tells of a, b, c"
    ) as error:
        site_of().statistics(asking(("b", "c")))
    assert error.value.cure.startswith("Plan with these groups, or without ward in statistics.by")
    assert told(site_of(), asking(("c", "b", "a", "undisclosed")))[-1] == 14, "in any order"
    kept = tmp_path / "settled.json"
    assert json.loads(kept.read_text())["groups of ward"] == "a, b, c"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_refused_plan_is_refused_whatever_it_asks_and_settles_nothing(asking, site_of, tmp_path):
    agent = site_of()
    agent.require_willing(asking(smallest=20))
    assert not (tmp_path / "settled.json").exists(), "nothing was told"
    agent.statistics(asking())
    with pytest.raises(PolicyError, match="from 20 pictures on, which the site tells from 10 on") as error:
        agent.require_willing(asking(smallest=20))
    assert "statistics.smallest=10" in error.value.cure
    assert "site-0" not in error.value.cure


def test_other_attributes_and_plans_with_noise_are_free(asking, plan_of, site_of):
    agent = site_of()
    agent.statistics(asking())
    agent.require_willing(plan_of(groups=(Attribute("ward", ("b",)),)))
    noisy = replace(plan_of(privacy={}), statistics=Statistics((), 20, 0.5))
    assert way_of(noisy) == {}
    agent.statistics(noisy)
    agent.statistics(replace(asking(), statistics=Statistics((), 10)))


def test_label_counts_and_tables_are_of_one_kind(asking, plan_of, site_of):
    """One class has three pictures: label counts less tables that leave it out would be these three."""
    counting = plan_of(server={"adjustment": 1.0})
    agent = site_of()
    agent.statistics(asking())
    with pytest.raises(PolicyError, match="in which the site has left small classes out") as error:
        agent.count_labels(counting)
    assert "local.prior" in error.value.cure


def test_label_counts_first_leave_tables_that_agree_with_them(asking, plan_of, site_of):
    agent = site_of()
    agent.samples.label[:3] = 1
    agent.count_labels(plan_of(server={"adjustment": 1.0}))
    with pytest.raises(PolicyError, match="of which the site has told exact label counts"):
        agent.statistics(asking())
    both = asking(server={"adjustment": 1.0})
    table = statistics.split(both, agent.statistics(both).counts)["ward"]
    assert table.sum(0).tolist() == agent.count_labels(both).counts.tolist() == [23, 3, 0]


def test_counts_by_group_as_they_are_leave_tables_that_hide_nothing(plan_of):
    fair = plan_of(fairness=Fairness("age", weighting="counts"), aggregation="secure", secure=SECURE)
    settled = Settled()
    settled.hold(fair, "clinic", telling=True)
    with pytest.raises(PolicyError, match="which the site tells from 1 on since it first did"):
        settled.hold(replace(plan_of(), statistics=Statistics((), 10)), "clinic", telling=True)
    settled.hold(replace(plan_of(), statistics=Statistics((), 1)), "clinic", telling=True)


def test_a_damaged_file_is_not_nothing(asking, tmp_path):
    path = tmp_path / "settled.json"
    for damaged in ('{"smallest": ', "[]", '{"smallest": 3}'):
        path.write_text(damaged)
        with pytest.raises(PolicyError, match="cannot be read"):
            Settled(path).hold(asking(), "clinic", telling=False)
