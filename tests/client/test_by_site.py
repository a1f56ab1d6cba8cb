"""Rules for sites in a plan: what is refused, with the reason of the method's declaration, and what a site counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.by_site import RULES, BySite, own_attributes
from client.methods.registry import METHODS
from client.own_counts import MOST, count_own
from client.plan import Attribute, Secure, read_plan
from client.randomness import KeyedStream
from fer_models.errors import ConfigError, PrivacyError

TERMS = {"q_ffl": {}, "afl": {}, "fairfed": {"attribute": "age"}}
SECURE = Secure(sites=4, threshold=3, minimum=3, clip=16.0)


def with_rule(plan, rule, **terms):
    return replace(plan, server=replace(plan.server, by_site=BySite(rule, **{**TERMS[rule], **terms})))


@pytest.mark.parametrize("rule", RULES)
def test_a_plan_with_a_rule_is_read_as_it_was_written(plan_of, rule):
    plan = with_rule(plan_of(), rule)
    assert read_plan(plan.text) == plan
    assert plan.digest != plan_of().digest
    assert "by_site" not in plan_of().text, "a plan without a rule is what it was"


@pytest.mark.parametrize("rule", RULES)
def test_sums_alone_and_noise_are_refused_with_the_declared_reason(plan_of, rule):
    with pytest.raises(PrivacyError) as refused:
        with_rule(
            replace(plan_of(server={"weighting": "uniform"}), aggregation="secure", secure=SECURE), rule
        )
    assert METHODS[rule].secure in str(refused.value)
    with pytest.raises(PrivacyError) as refused:
        with_rule(plan_of(privacy={}), rule)
    assert METHODS[rule].private in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "terms", "said"),
    [
        ("q_ffl", {"q": -0.1}, "fairness.q"),
        ("q_ffl", {"q": float("nan")}, "fairness.q"),
        ("afl", {"mixture_step": float("inf")}, "fairness.mixture_step"),
        ("fairfed", {"beta": -1.0}, "fairness.beta"),
        ("fairfed", {"attribute": ""}, "no attribute says whose"),
        ("afl", {"attribute": "age"}, "knows no groups"),
        ("fairfed", {"attribute": "gender"}, "no site tells 'gender'"),
    ],
)
def test_terms_that_are_none_are_refused(plan_of, rule, terms, said):
    with pytest.raises(ConfigError) as refused:
        with_rule(plan_of(), rule, **terms)
    assert said in str(refused.value)


@pytest.mark.parametrize("rule", ["afl", "fairfed"])
def test_sites_that_are_set_against_each_other_all_take_part(plan_of, rule):
    with pytest.raises(ConfigError, match="only some answer"):
        with_rule(plan_of(server={"participation": 0.5}), rule)
    assert with_rule(plan_of(server={"participation": 0.5}), "q_ffl").server.by_site is not None


def test_two_rules_for_updates_are_refused(plan_of):
    with pytest.raises(ConfigError, match="both say"):
        with_rule(plan_of(server={"weighting": "uniform", "rule": "median"}), "q_ffl")


# What a site counts


def test_a_site_may_always_hide_groups(plan_of):
    shown = with_rule(plan_of(groups=(Attribute("age", ("old", "young")),)), "fairfed")
    assert own_attributes(shown) == {"age": ("old", "young", "undisclosed")}
    assert own_attributes(with_rule(plan_of(), "fairfed")) == {"age": ("old", "undisclosed", "young")}
    assert own_attributes(with_rule(plan_of(), "afl")) is own_attributes(plan_of()) is None


@pytest.mark.parametrize("model", ["cnn_tiny", "hog_linear"])
def test_own_counts_are_those_of_the_training_pictures(plan_of, bench_of, rows_of, samples, model):
    plan = with_rule(plan_of(model, norm="none" if model == "hog_linear" else "gn"), "fairfed")
    bench, data = bench_of(plan), rows_of(range(100))
    attributes = own_attributes(plan)
    found = count_own(bench, data, attributes, KeyedStream(bytes(32)), opted_out=False)
    own = samples.groups["age"][:100]
    assert found.overall.sum(1).tolist() == np.bincount(samples.label[:100]).tolist()
    assert found.by_group["age"].sum((1, 2)).tolist() == [(own == value).sum() for value in attributes["age"]]
    with torch.no_grad():
        bench.flat.module.eval()
        answers = bench.flat.module(bench.seen(data.inputs(np.arange(100), bench.device))).argmax(1)
    assert found.overall.sum(0).tolist() == np.bincount(answers.numpy(), minlength=3).tolist()
    hidden = count_own(bench, data, attributes, KeyedStream(bytes(32)), opted_out=True)
    assert hidden.by_group["age"].sum((1, 2)).tolist() == [0, 100, 0]
    assert np.array_equal(hidden.overall, found.overall)


def test_no_more_pictures_are_counted_than_are_said(plan_of, bench_of, rows_of):
    plan = with_rule(plan_of(), "fairfed")
    bench, data = bench_of(plan), rows_of(np.tile(np.arange(150), 2))
    found = [
        count_own(bench, data, own_attributes(plan), KeyedStream(bytes([key]) * 32), opted_out=False)
        for key in (1, 1, 2)
    ]
    assert [each.rows for each in found] == [MOST] * 3
    assert found[0] == found[1] != found[2]
