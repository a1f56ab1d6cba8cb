"""Rules that bear malicious sites: by hand, against any update, and in a run with a poisoned site."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.agent import Agent
from client.plan import ServerWork
from fer_models.errors import ConfigError, EngineError, TrainingError
from fer_models.metrics import headline
from server.aggregation import aggregate_of
from server.robust import RobustMean, combine, fewest_updates, require_enough
from server.run_folder import RunFolder
from simulations.federated import Sites, run_local

RULES = ("median", "trimmed_mean", "krum", "multi_krum", "bulyan")


def work(rule, malicious=1):
    return ServerWork(rule=rule, malicious=malicious, weighting="uniform")


def result(rule, malicious, rows):
    total = RobustMean(work(rule, malicious))
    for row in rows:
        total.add(np.asarray(row, total.kind), 1e6)
    return total.mean()


ROWS = [[0, 0], [1, 2], [2, 1], [3, 5], [4, 3], [5, 7], [900, -900]]
"""Six honest updates along a line, and one far off."""


@pytest.mark.parametrize(
    ("rule", "malicious", "found"),
    [
        ("median", 1, [3, 2]),
        ("trimmed_mean", 1, [3, 2.2]),  # without 0 and 900, and without -900 and 7
        ("trimmed_mean", 0, [915 / 7, -882 / 7]),
        ("trimmed_mean", 3, [3, 2]),
        ("krum", 1, [1, 2]),  # 30 from its four nearest; (2, 1) is 32 from its own
        ("multi_krum", 1, [2.5, 2.75]),  # without the ends of the line
        ("bulyan", 1, [2, 2]),  # chosen: all but (5, 7) and the one far off; then 1, 2, 3 and 1, 2, 3
    ],
)
def test_rules_by_hand(rule, malicious, found):
    got = result(rule, malicious, ROWS)
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx(found)
    if rule in ("krum", "multi_krum", "bulyan"):
        assert by_the_papers(rule, malicious, np.array(ROWS, float)) == pytest.approx(found)


def krum_order(rows, malicious):
    """Blanchard et al. 2017: sum of squared distances to the n - f - 2 nearest others; from the best."""
    square = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    near = max(1, len(rows) - malicious - 2)
    scores = [np.sort(np.delete(square[i], i))[:near].sum() for i in range(len(rows))]
    return np.argsort(scores, kind="stable")


def by_the_papers(rule, malicious, rows):
    """The rules as their papers write them, slowly."""
    n = len(rows)
    if rule == "krum":
        return rows[krum_order(rows, malicious)[0]].tolist()
    if rule == "multi_krum":
        return rows[krum_order(rows, malicious)[: n - malicious - 2]].mean(0).tolist()
    left, chosen = list(range(n)), []
    for _ in range(n - 2 * malicious):
        best = left[krum_order(rows[left], malicious)[0]]
        chosen.append(best)
        left.remove(best)
    picked, found = rows[chosen], []
    for column in picked.T:
        middle = np.median(column)
        near = np.argsort(np.abs(column - middle), kind="stable")[: n - 4 * malicious]
        found.append(column[near].mean())
    return found


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32),
    st.integers(0, 2),
    st.integers(0, 4),
    st.sampled_from(["krum", "multi_krum", "bulyan"]),
)
def test_rules_are_those_of_the_papers(seed, malicious, more, rule):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (4 * malicious + 3 + more, 5)).astype(np.float32)
    found = combine(list(rows), rule, malicious)
    assert np.allclose(found, by_the_papers(rule, malicious, rows.astype(float)), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from(RULES), st.floats(1e-3, 1e18))
def test_no_malicious_update_drags_a_rule_out_of_the_honest_ones(seed, malicious, rule, size):
    """Per coordinate for median, trimmed mean and Bulyan; krum takes what is honest where the others are far."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1, (3 * malicious + 3, 4)).astype(np.float32)
    lies = (rng.choice([-1, 1], (malicious, 4)) * size * rng.random((malicious, 4))).astype(np.float32)
    rows = np.concatenate([honest, lies])[rng.permutation(4 * malicious + 3)]
    found = combine(list(rows), rule, malicious)
    if rule in ("median", "trimmed_mean", "bulyan"):
        assert (found >= honest.min(0) - 1e-5).all()
        assert (found <= honest.max(0) + 1e-5).all()
    else:
        assert np.abs(found).max() <= 50
    if size > 1e6:
        assert np.abs(rows.mean(0)).max() > 10 or np.abs(lies).max() < 1e3, "which a mean is"


@pytest.mark.parametrize(("rule", "needed"), list(zip(RULES, (5, 5, 7, 7, 11), strict=True)))
def test_how_many_updates_a_rule_needs(rule, needed):
    assert fewest_updates(work(rule, 2)) == needed
    require_enough(work(rule, 2), needed)
    with pytest.raises(ConfigError, match=f"{rule} bears 2 malicious of {needed} sites or more") as error:
        require_enough(work(rule, 2), needed - 1)
    assert error.value.where == "server.malicious"
    with pytest.raises(ConfigError):
        result(rule, 2, [[0.0]] * (needed - 1))
    assert result(rule, 2, [[1.0]] * needed).tolist() == [1.0], "all alike"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_one_of_the_malicious(rule, bad):
    honest = [[float(i), 1.0] for i in range(10)]
    found = result(rule, 2, [*honest, [bad, 0.0]])
    assert found.tolist() == combine([np.array(row, np.float32) for row in honest], rule, 1).tolist()
    with pytest.raises(EngineError, match="3 updates that are not finite"):
        result(rule, 2, [*honest, *[[bad, 0.0]] * 3])


# Runs


@dataclass(frozen=True)
class Poisoned(Sites):
    """Sites of which the first sends the opposite of its update, many times as long."""

    by: float = -30.0

    def agent(self, site: int) -> Agent:
        """Return a site's agent."""
        agent = super().agent(site)
        if site == 0 and not hasattr(agent, "poisoned"):
            honest = agent.train

            def train(*given, **named):
                update = honest(*given, **named)
                return replace(update, delta=update.delta * np.float32(self.by))

            agent.train, agent.poisoned = train, True
        return agent


@pytest.fixture(scope="module")
def plans(plan_of):
    def make(rule, malicious=1):
        server = {"rule": rule, "malicious": 0 if rule == "mean" else malicious, "weighting": "uniform"}
        return plan_of(local={"amount": 4, "learning_rate": 0.1}, rounds=8, **server)

    return make


def run(plan, sites, folder, workers=1):
    return run_local(plan, sites, RunFolder(folder), "federated", workers, lambda _: None)


def accuracy(result):
    return headline(result.overall)["accuracy"]


@pytest.mark.slow
def test_a_poisoned_site_breaks_the_mean_and_no_rule(plans, sites_of, tmp_path):
    clean = sites_of((13,) * 6 + (12,))
    poisoned = Poisoned(clean.samples, clean.partition, clean.seed, None)
    assert accuracy(run(plans("mean"), clean, tmp_path / "clean")) > 0.9
    try:
        broken = accuracy(run(plans("mean"), poisoned, tmp_path / "mean"))
    except TrainingError:
        broken = 0.0
    assert broken < 0.5
    for rule in RULES:
        assert accuracy(run(plans(rule), poisoned, tmp_path / rule)) > 0.85, rule


def test_a_rule_gives_the_same_bits_for_any_number_of_workers(plans, sites_of, tmp_path):
    plan = plans("multi_krum")
    plan = replace(plan, server=replace(plan.server, rounds=2))
    one, two = (run(plan, sites_of((18,) * 5), tmp_path / str(n), n) for n in (1, 2))
    assert torch.equal(one.vector, two.vector)
    assert one.totals.bytes_up == 2 * 5 * 4 * len(one.vector)


def test_the_plan_decides(plans):
    assert isinstance(aggregate_of(plans("krum"), 3), RobustMean)
    assert not isinstance(aggregate_of(plans("mean"), 3), RobustMean)


def test_updates_that_are_private_by_themselves_may_be_compared(plan_of, sites_of, tmp_path):
    """What is made of them costs no more epsilon: the guarantee is of each update."""
    plan = plan_of(private=True, rule="median", rounds=1)
    mean = plan_of(private=True, rounds=1)
    found, beside = (run(p, sites_of(), tmp_path / n) for p, n in ((plan, "a"), (mean, "b")))
    assert found.epsilon == beside.epsilon
    assert not torch.equal(found.vector, beside.vector)
