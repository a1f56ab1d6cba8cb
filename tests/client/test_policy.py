"""A site's policy: strict to read, careful as written, and each rule refuses by its name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.accounting import epsilon_of
from client.agent import Agent
from client.app import evaluate_many
from client.by_site import BySite
from client.failures import error_from_wire, error_to_wire
from client.finish import Finish
from client.judging import evaluate_sites
from client.ledger import Ledger
from client.limits import whole_run
from client.messages import pack, scalar
from client.plan import Attribute, Secure
from client.policy import asked_statistics, passes, read_policy
from client.policy_template import TEMPLATE
from client.randomness import SystemEntropy
from client.workbench import Benches
from fer_models.errors import ConfigError, PolicyError

GROUPS = (Attribute("age", ("old", "undisclosed", "young")),)
SECURE = Secure(sites=3, threshold=3, minimum=3, clip=16.0)


@pytest.fixture
def read(tmp_path):
    """read(old, new): the policy of the template with one place changed."""

    def make(old="", new=""):
        assert old in TEMPLATE
        (tmp_path / "policy.yaml").write_text(TEMPLATE.replace(old, new, 1))
        return read_policy(tmp_path / "policy.yaml")

    return make


@pytest.fixture
def good(plan_of):
    """A plan that the template allows."""
    plan = plan_of("hog_linear", local={"amount": 1}, server={"rounds": 3}, privacy={"noise_multiplier": 2.0})
    return replace(plan, aggregation="secure", secure=SECURE)


def rules(policy, plan, pictures=100):
    return [each.rule for each in policy.refusals(plan, pictures)]


def test_the_template_is_careful_and_allows_a_careful_plan(read, good):
    policy = read()
    assert policy.privacy.required
    assert policy.aggregation.secure
    assert policy.aggregation.profile == "malicious"
    assert not policy.statistics.by_site
    assert (policy.limit.epsilon, policy.limit.delta) == (10.0, 1e-5)
    assert rules(policy, good) == []


def test_every_rule_refuses_by_its_name(read, good, plan_of):
    policy = read()
    plain = replace(good, aggregation="plain", secure=None)
    assert rules(policy, replace(good, privacy=None)) == ["privacy.required"]
    assert rules(policy, replace(good, privacy=replace(good.privacy, delta=1e-4))) == ["privacy.delta"]
    noisy = replace(good.privacy, noise_multiplier=0.3)
    assert rules(policy, replace(good, privacy=noisy)) == ["privacy.epsilon_a_run"]
    assert rules(policy, plain) == ["aggregation.secure", "statistics.by_site"]
    semi = replace(SECURE, profile="semi-honest")
    assert rules(policy, replace(good, secure=semi)) == ["aggregation.profile"]
    timm = replace(good, model=replace(good.model, name="timm:resnet18"))
    assert rules(policy, timm) == ["training.models"]
    long = replace(good, privacy=replace(good.privacy, noise_multiplier=60.0))
    assert rules(policy, replace(long, server=replace(long.server, rounds=5001))) == ["training.epochs"]
    assert rules(policy, replace(good, groups=(Attribute("age", ("old", "young")),))) == [
        "statistics.smallest_group"
    ]
    assert rules(read("unit: record", "unit: subject"), good) == ["privacy.unit"]
    larger = read("smallest_cohort: 3", "smallest_cohort: 5")
    assert rules(larger, good) == ["aggregation.smallest_cohort"]
    assert rules(read("losses: [cross_entropy, focal", "losses: [focal"), good) == ["training.losses"]
    assert rules(read("[label_counts, group_counts, test_counts", "[label_counts"), good) == [
        "statistics.allowed"
    ]
    guarded = read("exact_test_counts: true", "exact_test_counts: false")
    assert rules(guarded, good) == ["statistics.exact_test_counts"]
    noisy = replace(good.privacy, audit_epsilon=1.0, noise_multiplier=60.0)
    once = replace(good.server, evaluate_every=good.server.rounds)
    assert rules(guarded, replace(good, privacy=noisy, server=once)) == []


def test_a_site_whose_pictures_do_not_fit_its_policy_takes_part_in_nothing(read):
    def refused(policy, pictures, tested, rule, said):
        with pytest.raises(PolicyError, match=said) as error:
            policy.require_held(pictures, tested, "clinic")
        assert error.value.where == f"clinic, {rule}"

    policy = read()
    policy.require_held(10, 5, "clinic")
    refused(
        policy, 9, 5, "statistics.minimum_counts", "label_counts may be over 10 pictures or more, .* has 9"
    )
    refused(
        policy, 10, 4, "statistics.minimum_counts", "test_counts may be over 5 pictures or more, .* has 4"
    )
    refused(policy, 10, 0, "statistics.minimum_counts", "no test pictures, and test_counts are allowed")
    policy.require_held(99_999, 5, "clinic")
    refused(policy, 100_000, 5, "privacy.delta", "delta 1e-05 is not below 1 / 100000")
    read("test_counts: 5", "test_counts: 0").require_held(10, 0, "clinic")
    read("[label_counts, group_counts, test_counts, site_statistics]", "[test_counts]").require_held(
        1, 5, "clinic"
    )


def test_a_coordinator_that_asks_with_many_plans_does_not_learn_how_many_pictures_a_site_holds(read, good):
    """By bisection over delta or the passes, the answers once told the number."""
    policy = read("required: true", "required: false")
    steps = replace(good.local, loss="logit_adjusted")
    plans = [
        replace(good, local=steps, privacy=replace(good.privacy, counts_epsilon=0.5, delta=10.0**-power))
        for power in range(2, 12)
    ]
    plans += [replace(good, server=replace(good.server, rounds=3 * 4**power)) for power in range(7)]
    answers = {
        tuple(tuple(policy.refusals(plan, pictures)) for plan in plans) for pictures in (1, 40, 90_000)
    }
    assert len(answers) == 1
    # Without privacy a number of steps is held against the power of two below it: only that is to be had.
    bare = replace(good, privacy=None, local=replace(good.local, rate=0.0, amount=5, batch=10))
    plans = [replace(bare, server=replace(bare.server, rounds=rounds)) for rounds in range(1000, 20_000, 50)]

    def said(pictures):
        return tuple("training.epochs" in rules(policy, plan, pictures) for plan in plans)

    assert said(64) == said(100) == said(127) != said(128)


def test_a_site_that_has_opted_out_refuses_by_the_rule_of_sites_that_have_not(read, good):
    closed = replace(good, groups=(Attribute("age", ("old", "young")),))
    careful, bold = read(), read("smallest_group: 10", "smallest_group: 1")
    assert bold.refusals(closed, 100) == ()
    assert bold.refusals(closed, 100, opted_out=True) == careful.refusals(closed, 100)
    assert bold.refusals(good, 100, opted_out=True) == ()


def test_colluders_ask_for_a_higher_threshold(read, good):
    text = "smallest_cohort: 3"
    policy = read(
        text + TEMPLATE.split(text)[1].split("colluders: 0")[0] + "colluders: 0",
        "smallest_cohort: 5\n  colluders: 2",
    )
    wide = replace(SECURE, sites=12, threshold=9, minimum=9)
    assert rules(policy, replace(good, secure=wide)) == []
    narrow = replace(SECURE, sites=5, threshold=4, minimum=5)
    assert rules(policy, replace(good, secure=narrow)) == []
    assert policy.floors.colluders == 2


def test_passes_count_what_a_site_sees(plan_of):
    epochs = plan_of(local={"unit": "epochs", "amount": 2}, server={"rounds": 5})
    steps = plan_of(local={"amount": 4, "batch": 25}, server={"rounds": 5})
    assert passes(epochs, 100) == 10
    assert passes(steps, 100) == 5  # 5 rounds of 4 batches of a quarter
    assert passes(plan_of(local={"rate": 0.2, "amount": 1}, server={"rounds": 5}), 100) == pytest.approx(1)


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ("  required: true\n", "", "policy.yaml.privacy.required", "missing"),
        ("required: true", "requird: true", "policy.yaml.privacy", "requird"),
        ("required: true", "required: maybe", "policy.yaml.privacy.required", "expected bool"),
        ("epsilon: 10.0", "epsilon: .inf", "policy.yaml.privacy.epsilon", "not finite"),
        ("epsilon: 10.0", "epsilon: -1", "privacy.epsilon", "an epsilon of -1"),
        ("epsilon: 10.0", "epsilon: 10.0\n  epsilon: 99.0", "policy.yaml, line", "duplicate key"),
        ("smallest_cohort: 3", "smallest_cohort: 2", "aggregation.smallest_cohort", "hides none"),
        ("profile: malicious", "profile: trusting", "policy.yaml.aggregation.profile", "unknown value"),
        ("[label_counts, group", "[names, group", "policy.yaml.statistics.allowed", "unknown value 'names'"),
        ("smallest_group: 10", "smallest_group: 0", "statistics.smallest_group", "a group of 0"),
        ("feature_sums: 10", "feature_sum: 10", "statistics.minimum_counts.feature_sum", "no statistic"),
        (", feature_sums: 10", "", "statistics.minimum_counts.feature_sums", "missing"),
        ("test_counts: 5", "test_counts: -5", "statistics.minimum_counts.test_counts", "at least -5"),
        ("hours: 48.0", "hours: 0.0", "training.hours", "0 hours of work"),
        ("00:00-24:00", "00:00-24:01", "training.times", "is no time of the day"),
        ("00:00-24:00", "8-17", "training.times", "is no time of the day"),
        ("00:00-24:00", "08:00-08:00", "training.times", "is no time of the day"),
        ("keys: []", "keys: [4df8]", "coordinator.keys", "is no fingerprint"),
        ("signed: true", "signed: yes please", "policy.yaml.coordinator.signed", "expected bool"),
        ("privacy:\n", "privacy: [\n", "policy.yaml, line", "cannot be read"),
    ],
)
def test_a_policy_is_read_strictly(read, old, new, where, said):
    with pytest.raises(ConfigError) as error:
        read(old, new)
    assert where in error.value.where
    assert said in error.value.what


def test_no_policy_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_policy(tmp_path / "policy.yaml")
    (tmp_path / "policy.yaml").write_text("#" * 70_000)
    with pytest.raises(ConfigError, match="more than"):
        read_policy(tmp_path / "policy.yaml")


def agent(samples, policy, ledger):
    rows = np.arange(50), np.arange(100, 150)
    own = {"entropy": SystemEntropy(), "ledger": ledger, "benches": Benches(torch.device("cpu"))}
    return Agent("clinic", samples, *rows, policy=policy, **own)


def test_an_agent_refuses_by_a_rule_before_anything_is_released(read, good, samples):
    ledger = Ledger(site="clinic")
    refusing = agent(samples, read("epsilon_a_run: 8.0", "epsilon_a_run: 0.01"), ledger)
    vector = np.zeros(0, np.float32)
    for work in (
        lambda: refusing.train(good, 1, vector),
        lambda: refusing.count_labels(good),
        lambda: refusing.moments(good, 4, vector, 1.0),
    ):
        with pytest.raises(PolicyError) as error:
            work()
        assert error.value.where == "clinic, privacy.epsilon_a_run"
    assert ledger.events == {}
    again = error_from_wire(error_to_wire(error.value), "clinic")
    assert isinstance(again, PolicyError)
    assert str(again) == str(error.value)


def test_a_site_that_is_drawn_for_some_rounds_counts_each(read, good, samples):
    plan = replace(good, server=replace(good.server, rounds=50, participation=0.5))
    drawn = agent(samples, read("epsilon_a_run: 8.0", "epsilon_a_run: 1.5"), ledger := Ledger(site="clinic"))
    bench = Benches(torch.device("cpu")).of(plan)
    vector = bench.flat.full_vector.numpy().copy()
    with pytest.raises(PolicyError, match="the run would cost epsilon") as error:
        for number in range(1, 51):
            drawn.train(plan, number, vector)
    assert error.value.where == "clinic, privacy.epsilon_a_run"
    assert 0 < len(ledger.events) < 50
    assert ledger.epsilon(1e-5).value <= 1.5


def test_rounds_that_are_asked_for_again_cost_no_more_than_a_run_may(read, good, samples):
    """The plan as a whole is allowed; new noise for a round that was answered is a release of its own."""
    cost = epsilon_of(whole_run(good), 1e-5).value
    policy = read("epsilon_a_run: 8.0", f"epsilon_a_run: {cost + 0.01:.4f}")
    asked = agent(samples, policy, ledger := Ledger(site="clinic"))
    vector = Benches(torch.device("cpu")).of(good).flat.full_vector.numpy().copy()
    for number in (1, 2, 2):
        asked.train(good, number, vector)
    with pytest.raises(PolicyError) as error:
        asked.train(good, 2, vector)
    assert error.value.where == "clinic, privacy.epsilon_a_run"
    assert len(ledger.events) == 3


def test_a_real_site_keeps_its_time_to_itself(read, samples, plan_of):
    plan = plan_of()
    vector = Benches(torch.device("cpu")).of(plan).flat.full_vector.numpy().copy()
    real = agent(samples, None, Ledger(site="clinic"))
    (answer,) = evaluate_many([real], pack(vector, {"plan": plan.text, "prove": 0}))
    assert scalar(answer, "cpu_seconds") == 0


def test_statistics_are_named_by_what_is_counted(read, good, plan_of):
    policy = read("[label_counts, group_counts, test_counts, site_statistics]", "[]")
    adjusted = replace(good.local, loss="logit_adjusted")
    counted = replace(good, local=adjusted, privacy=replace(good.privacy, counts_epsilon=0.5))
    finished = replace(good, finish=Finish("age", 32, 3.0))
    told = {
        name: list(asked_statistics(plan)) for name, plan in (("c", counted), ("f", finished), ("", good))
    }
    assert told == {
        "c": ["test_counts", "label_counts"],
        "f": ["test_counts", "feature_sums"],
        "": ["test_counts"],
    }
    both = plan_of(local={"loss": "logit_adjusted"}, server={"by_site": BySite("q_ffl")})
    assert list(asked_statistics(both)) == ["test_counts", "group_counts", "label_counts"]
    assert rules(policy, counted) == ["statistics.allowed"] * 2
    assert rules(read(), finished) == ["statistics.allowed"]


def test_small_groups_are_hidden_in_exact_counts_and_not_by_a_rule_where_noise_hides_them(
    read, plan_of, bench_of, agent_of, samples
):
    """A rule that looks at counts lets one picture move many, which noise for one would not hide."""
    plan = plan_of(privacy={"noise_multiplier": 4.0}, server={"rounds": 1})
    noisy = replace(plan, privacy=replace(plan.privacy, audit_epsilon=1.0))
    table = replace(samples, split=np.where(np.arange(len(samples)) < 100, "train", "test"))
    agent, vector = agent_of(table=table), bench_of(plan).flat.full_vector.clone().numpy()
    open_ = evaluate_sites([agent], plan, vector, prove=False)[0]
    agent._policy, hidden = read("smallest_group: 10", "smallest_group: 1000"), 1
    assert plan.attributes["age"][hidden] == "undisclosed"
    del agent.blurred
    agent._allowed = {plan.digest, noisy.digest}
    exact = evaluate_sites([agent], plan, vector, prove=False)[0].by_group["age"]
    assert exact.sum() == exact[hidden].sum() == len(agent.test)
    raw = evaluate_sites([agent], noisy, vector, prove=False)[0].by_group["age"]
    assert np.array_equal(raw, open_.by_group["age"])
