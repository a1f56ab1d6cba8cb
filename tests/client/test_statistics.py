"""Statistics at the agent: what is counted, what is too small to leave, the noise, its price, and the policy."""

from dataclasses import replace

import numpy as np
import pytest

from client import statistics
from client.accounting import epsilon_of
from client.fairness import Fairness
from client.limits import Limit, cost_before, whole_run
from client.mechanisms import Mechanism
from client.plan import Attribute, Secure, Statistics, read_plan
from client.policy import asked_statistics, read_policy
from client.policy_template import TEMPLATE
from client.trust import learned_of
from fer_models.errors import ConfigError, DataError, PrivacyError

BOTH = (Attribute("age", ("old", "undisclosed", "young")), Attribute("hair", ("dark", "fair")))
SECURE = Secure(sites=3, threshold=3, minimum=3, clip=16.0)


@pytest.fixture
def asking(plan_of):
    """asking(privacy, **statistics): a plan that asks for tables by age."""

    def make(privacy=None, **facts):
        own = {} if privacy is None else {"privacy": privacy}
        return replace(plan_of(**own), statistics=Statistics(**{"by": ("age",), "smallest": 1, **facts}))

    return make


def test_a_plan_without_statistics_is_what_it_was_and_one_with_them_survives_its_text(plan_of, asking):
    assert "statistics" not in plan_of().text
    plan = asking(smallest=7)
    assert read_plan(plan.text) == plan
    assert plan.digest != plan_of().digest


def test_tables_count_every_picture_by_class_and_group(asking, agent_of, samples):
    plan, agent = asking(), agent_of()
    table = statistics.split(plan, agent.statistics(plan).counts)["age"]
    for index, group in enumerate(("old", "young", "undisclosed")):
        of = samples.label[:50][samples.groups["age"][:50] == group]
        assert np.array_equal(table[index], np.bincount(of, minlength=3)), group
    assert agent.statistics(plan).history == ()
    classes = agent.statistics(replace(plan, statistics=Statistics(smallest=1))).counts
    assert np.array_equal(classes, np.bincount(samples.label[:50], minlength=3))
    agent.opted_out = True
    hidden = statistics.split(plan, agent.statistics(plan).counts)["age"]
    assert np.array_equal(hidden[-1], classes)
    assert not hidden[:-1].any()


def test_no_small_count_leaves_a_site_without_noise(asking):
    plan = asking(smallest=5)
    counts = np.array([9, 4, 2, 5, 1, 0, 0, 0, 2])  # old, young, undisclosed by three classes
    # Of the third class there are four, and who knows how many pictures there are would know it: the second hides them.
    assert statistics.folded(plan, counts).tolist() == [9, 0, 0, 5, 0, 0, 0, 0, 0]
    told = replace(asking(smallest=5), server=replace(plan.server, adjustment=1.0))
    assert statistics.folded(told, counts).tolist() == [9, 0, 0, 5, 0, 0, 0, 5, 4]
    assert counts[1] == 4, "what was given is as it was"


def test_totals_of_two_tables_do_not_tell_what_one_of_them_hides(plan_of):
    """Two of the first class are old and six dark: once their totals differed by the two."""
    plan = replace(plan_of(groups=BOTH), statistics=Statistics(("age", "hair"), 5))
    age, hair = [[2, 9, 6], [20, 9, 0], [0, 0, 0]], [[6, 9, 6], [16, 9, 0], [0, 0, 0]]  # the undisclosed last
    told = statistics.split(plan, statistics.folded(plan, np.array([*age, *hair]).ravel()))
    assert told["age"].tolist() == [[0, 9, 6], [0, 9, 0], [22, 0, 0]]
    assert told["hair"].tolist() == [[6, 9, 6], [16, 9, 0], [0, 0, 0]]
    assert np.array_equal(told["age"].sum(0), told["hair"].sum(0))


@pytest.mark.parametrize("label_counts", [False, True])
def test_whatever_is_counted_no_count_and_no_difference_of_totals_is_small(plan_of, label_counts):
    """Differences to the other table, to the number of pictures, and where they are told to the label counts."""
    own = plan_of(groups=BOTH, server={"adjustment": float(label_counts)})
    plan, hiding = replace(own, statistics=Statistics(("age", "hair"), 5)), 0
    draws = np.random.default_rng(0)
    for _ in range(300):
        label, age, hair = (draws.integers(0, most, draws.integers(1, 80)) for most in (3, 3, 3))
        size = min(map(len, (label, age, hair)))
        cells = [np.bincount(own[:size] * 3 + label[:size], minlength=9) for own in (age * (age != 1), hair)]
        counts = np.concatenate(cells)
        first, second = statistics.split(plan, statistics.folded(plan, counts)).values()
        total, shown = np.bincount(label[:size], minlength=3), first.sum(0)
        assert np.array_equal(shown, second.sum(0))
        for table in (first, second):
            cells = table[:-1] if label_counts else table
            assert ((cells == 0) | (cells >= 5)).all()
            assert ((table == 0) | (table >= 5) | (table == total)).all(), "what label counts tell"
        if label_counts:
            assert np.array_equal(shown, total)
            continue
        out = shown != total
        hiding += out.any()
        assert (shown[out] == 0).all()
        assert total[out].sum() == 0 or total[out].sum() >= 5 or out[total > 0].all()
    assert label_counts or hiding > 50


def test_noise_is_paid_for_before_it_leaves_and_repeats(asking, agent_of, plan_of):
    plan, agent = asking({}, epsilon=0.5), agent_of()
    found = agent.statistics(plan)
    (event,) = agent._ledger.events
    assert (event.kind, event.round, event.mechanism) == ("statistics", 0, Mechanism("pure", 2.0))
    assert found.head == agent._ledger.head
    true = statistics.counted(plan, agent.samples, np.arange(50), opted_out=False)
    assert (found.counts != true).any()
    assert np.array_equal(agent.statistics(plan, found.head).counts, found.counts)
    assert len(agent._ledger.events) == 1
    assert epsilon_of(whole_run(plan), 1e-5).value > epsilon_of(whole_run(plan_of(privacy={})), 1e-5).value


def test_no_entry_no_tables(asking, agent_of):
    plan = asking({}, epsilon=50.0)
    agent = agent_of(limit=Limit(20.0, 1e-5))
    with pytest.raises(PrivacyError, match="would pass the site's limit"):
        agent.statistics(plan)
    assert not agent._ledger.events


def test_statistics_and_label_counts_are_each_paid_for_once(plan_of, agent_of):
    plan = plan_of(server={"adjustment": 0.5}, privacy={"counts_epsilon": 0.5})
    plan = replace(plan, statistics=Statistics(("age",), 1, 0.25))
    assert {each.noise for each in cost_before(plan)} == {2.0, 4.0}
    assert [each.noise for each in cost_before(plan, frozenset({"statistics"}))] == [2.0]
    agent = agent_of(limit=Limit(epsilon_of(whole_run(plan), 1e-5).value + 1e-6, 1e-5))
    agent.statistics(plan)
    agent.count_labels(plan)  # the ledger has room for all that the plan asks for, and not for more
    assert [each.kind for each in agent._ledger.events] == ["statistics", "label_counts"]


def test_one_picture_moves_one_count_of_each_table_so_noise_is_shared_among_them(plan_of, samples):
    hair = np.where(np.arange(150) % 2, "dark", "fair")
    both = replace(samples, groups={**samples.groups, "hair": hair})
    plan = replace(plan_of(groups=BOTH, privacy={}), statistics=Statistics(("age", "hair"), 1, 1.0))
    rows = np.arange(50)
    moved = np.abs(
        statistics.counted(plan, both, rows, opted_out=False)
        - statistics.counted(plan, both, rows[1:], opted_out=False)
    )
    assert (moved.sum(), moved.max()) == (2, 1)
    zero = np.zeros(statistics.statistics_size(plan), np.int64)
    drawn = np.concatenate([statistics.with_noise(plan, zero, bytes([i]) * 32) for i in range(200)])
    assert drawn.std() == pytest.approx(statistics.deviation(plan, 1), rel=0.1)
    alone = replace(plan, statistics=Statistics(("age",), 1, 0.5))
    assert statistics.deviation(plan, 3) == pytest.approx(statistics.deviation(alone, 3)), (
        "half of epsilon each"
    )


def test_what_a_plan_cannot_ask_for(plan_of, agent_of, asking):
    with pytest.raises(ConfigError, match="no site tells 'hair'"):
        replace(plan_of(), statistics=Statistics(("hair",)))
    with pytest.raises(ConfigError, match="an attribute twice"):
        Statistics(("age", "age"))
    with pytest.raises(ConfigError, match="counts of 0 pictures"):
        Statistics(smallest=0)
    with pytest.raises(PrivacyError, match="exact counts of a private plan"):
        replace(plan_of(privacy={}), statistics=Statistics())
    with pytest.raises(PrivacyError, match="beside exact counts by group that tell the rest"):
        plan_of(
            groups=BOTH,
            fairness=Fairness("age", weighting="counts"),
            aggregation="secure",
            secure=SECURE,
            statistics=Statistics(("hair",)),
        )
    with pytest.raises(PrivacyError, match="noise that no privacy asks for"):
        replace(plan_of(), statistics=Statistics(epsilon=1.0))
    with pytest.raises(PrivacyError, match="does not ask for statistics"):
        agent_of().statistics(plan_of())
    bare = agent_of(table=replace(agent_of().samples, groups={}))
    with pytest.raises(DataError, match="no column tells 'age'"):
        bare.statistics(asking())


def test_a_policy_says_whether_and_from_how_many_pictures_on(plan_of, tmp_path):
    plan = plan_of("hog_linear", local={"amount": 1}, server={"rounds": 1}, privacy={"noise_multiplier": 2.0})
    plan = replace(plan, aggregation="secure", secure=SECURE)

    def rules(smallest, old="", new=""):
        (tmp_path / "policy.yaml").write_text(TEMPLATE.replace(old, new, 1))
        asked = replace(plan, statistics=Statistics(("age",), smallest, 0.5))
        refusals = read_policy(tmp_path / "policy.yaml").refusals(asked, 100)
        return [each.rule for each in refusals]

    assert rules(10) == []
    assert rules(9) == ["statistics.minimum_counts"]
    assert rules(9, "site_statistics: 10}", "site_statistics: 9}") == []
    assert rules(10, ", site_statistics]", "]") == ["statistics.allowed"]
    assert rules(5000) == [], "noise settles nothing"
    loose = replace(plan, privacy=None, local=replace(plan.local, rate=0.0))
    exact = [
        read_policy(tmp_path / "policy.yaml").refusals(replace(loose, statistics=Statistics((), most)), 100)
        for most in (100, 101)
    ]
    assert [[each.rule for each in refusals] for refusals in exact] == [
        ["privacy.required"],
        ["privacy.required", "statistics.largest_minimum"],
    ]
    assert exact[1][1].cure == "Plan statistics.smallest=100 or less."
    with pytest.raises(ConfigError, match="at most 9 pictures, where 10 are the fewest"):
        rules(10, "largest_minimum: 100", "largest_minimum: 9")
    found = replace(plan, statistics=Statistics(("age",), 10, 0.5))
    assert asked_statistics(found)["site_statistics"].startswith("training pictures by age, class")
    assert "by class and age; with noise of epsilon 0.5 at each site, none below 10 shown" in learned_of(
        found
    )
    assert "Before training" not in learned_of(plan)
