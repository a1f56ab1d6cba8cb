"""Rules that weigh sites, over rounds: equal bits on any number of workers and when resumed, and what they weigh."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import server.rounds as rounds
from client.by_site import RULES, BySite
from fer_models.counts import Counts
from server.debiasing.by_site import Said, SiteMean
from server.run_folder import RunFolder
from simulations.federated import run_local

SIZES = (20, 30, 25, 15)
STRONG = {"q_ffl": {"q": 2.0}, "afl": {"mixture_step": 0.5}, "fairfed": {"beta": 1.0, "attribute": "age"}}


def with_rule(plan, rule, **terms):
    terms = {**STRONG[rule], **terms}
    return replace(plan, server=replace(plan.server, rounds=4, by_site=BySite(rule, **terms)))


def run(plan, sites, path, workers=1, observer=lambda _: None):
    return run_local(plan, sites, RunFolder(path), "federated", workers, observer)


def plain(plan):
    return replace(plan, server=replace(plan.server, rounds=4))


# In memory


def table(plan, right, of):
    """Counts by age of a site that gets ``right`` of ``of`` pictures right for the old, all for the young."""
    true = [0] * (2 * of)
    predicted = [0] * right + [1] * (of - right) + [0] * of
    ages = ["old"] * of + ["young"] * of
    return Counts.of(true, predicted, plan.labels, {"age": ages}, {"age": ("old", "young", "undisclosed")})


def answers(plan, losses, rights=(4, 4)):
    updates = (np.array([1, 0], np.float32), np.array([0, 1], np.float32))
    return [
        Said(f"site-{i}", update, 10.0, loss, table(plan, right, 8))
        for i, (update, loss, right) in enumerate(zip(updates, losses, rights, strict=True))
    ]


def mean_of(rule, said):
    for each in said:
        rule.hear(each)
    return rule.mean().tolist()


def test_a_mixture_moves_after_the_round_and_is_kept(plan_of):
    rule = SiteMean(with_rule(plan_of(), "afl", mixture_step=0.1))
    assert mean_of(rule, answers(plan_of(), (3.0, 1.0))) == [0.5, 0.5], (
        "as sites weigh before anything is known"
    )
    assert rule.facts() == pytest.approx({"site-0": 0.6, "site-1": 0.4})
    other = SiteMean(with_rule(plan_of(), "afl", mixture_step=0.1))
    other.take_up(rule.facts())
    assert mean_of(other, answers(plan_of(), (3.0, 1.0))) == pytest.approx([0.6, 0.4])
    assert other.facts() == pytest.approx({"site-0": 0.7, "site-1": 0.3})


def test_a_site_whose_gap_is_far_off_weighs_less_in_the_same_round(plan_of):
    """Gaps of 1 and 0, of both together .5: two sites as far off. Then .25 and 1 of .625, and .5 and 1 of .75."""
    rule = SiteMean(with_rule(plan_of(), "fairfed", beta=1.0))
    assert mean_of(rule, answers(plan_of(), (1.0, 1.0), (0, 8))) == pytest.approx([0.5, 0.5])
    said = answers(plan_of(), (1.0, 1.0), (8, 8))
    half = replace(
        said[1], counts=table(plan_of(), 0, 2)
    )  # gap 1 of four pictures; of all 2 of 10 old ones wrong
    assert mean_of(rule, [said[0], half]) == pytest.approx([0.5 + 0.3, 0.5 - 0.3])
    assert rule.facts() == pytest.approx({"site-0": 0.8, "site-1": 0.2})


def test_the_order_of_answers_changes_no_bit(plan_of):
    said = answers(plan_of(), (0.3, 0.7))
    for rule in RULES:
        means = [mean_of(SiteMean(with_rule(plan_of(), rule)), each) for each in (said, said[::-1])]
        assert means[0] == means[1]


# Over rounds


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_equal_bits_on_any_number_of_workers_and_other_weights(
    plan_of, sites_of, tmp_path, rule
):
    plan = with_rule(plan_of(), rule)
    one, two = (run(plan, sites_of(SIZES), tmp_path / str(n), n) for n in (1, 2))
    assert torch.equal(one.vector, two.vector)
    assert not torch.allclose(one.vector, run(plain(plan_of()), sites_of(SIZES), tmp_path / "plain").vector)


@pytest.mark.parametrize(("rule", "strength"), [("q_ffl", "q"), ("afl", "mixture_step"), ("fairfed", "beta")])
def test_a_rule_without_strength_is_the_plain_mean(plan_of, sites_of, tmp_path, rule, strength):
    found = run(with_rule(plan_of(), rule, **{strength: 0.0}), sites_of(SIZES), tmp_path / rule)
    expected = run(plain(plan_of()), sites_of(SIZES), tmp_path / "plain")
    torch.testing.assert_close(found.vector, expected.vector, rtol=0, atol=1e-5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("rule", ["afl", "fairfed"])
def test_a_resumed_run_weighs_sites_as_before(plan_of, sites_of, tmp_path, monkeypatch, rule):
    plan = with_rule(plan_of(), rule)
    whole = run(plan, sites_of(SIZES), tmp_path / "1")
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)

    def observe(record):
        if record["round"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run(plan, sites_of(SIZES), tmp_path / "2", observer=observe)
    assert torch.equal(run(plan, sites_of(SIZES), tmp_path / "2").vector, whole.vector)
