# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""Losses in a plan: what is trained, sent, clipped and given noise, what the guard refuses, and what is no plan."""

import json

import pytest
import torch

from client.bookkeeping.book import NOTHING, flat_order
from client.bookkeeping.gradients import PrivateGradients
from client.bookkeeping.units import Units
from client.nets import model_of, net_of, with_critic
from client.plan import LocalWork, read_plan
from client.private_training import train_private
from client.randomness import SeededEntropy
from client.training import LocalRows, dropout_seeded, train_plain
from client.work import OWN_LOSSES
from client.workbench import Workbench
from fer_models.errors import ConfigError, PrivacyError
from fer_models.flat import FlatModel
from fer_models.loss_table import TABLE
from fer_models.mixing import MIXING
from fer_models.penalties import adareg
from fer_models.terms import TERMS
from fer_models.zoo import build

CPU = torch.device("cpu")
COUPLED = ("ad_corre", "relative_uncertainty", *MIXING)
SIMILAR = ((8.0, 1.0, 1.0), (1.0, 8.0, 1.0), (1.0, 1.0, 8.0))


def named(plan_of, loss, **rest):
    local = {"loss": loss, "amount": 2, **({"similar": SIMILAR} if loss == "pdls" else {})}
    if loss in ("class_balanced", "logit_adjusted", "ldam"):
        local["prior"] = (0.5, 0.3, 0.2)
    local |= rest.pop("local", {})
    return plan_of("dan_lite" if loss == "dan_partition" else "fer_nano", local=local, **rest)


def rows(samples):
    own = samples.rows("train")[:24]
    return LocalRows(samples, own, torch.from_numpy(samples.targets(own)))


def test_the_table_knows_every_loss_of_a_plan():
    assert set(TABLE) == set(OWN_LOSSES)
    for name in TABLE:
        facts = {"similar": SIMILAR} if name == "pdls" else {}
        assert LocalWork(loss=name, **facts).loss == name


@pytest.mark.parametrize("loss", [name for name in TABLE if TABLE[name].sees != "logits"])
def test_a_site_trains_with_it_and_what_the_loss_owns_travels(plan_of, samples, loss):
    plan = named(plan_of, loss)
    assert read_plan(plan.text) == plan
    bench = Workbench(plan, CPU)
    before, flat = bench.flat.full_vector.clone(), bench.flat
    with dropout_seeded(plan, b"k" * 32):
        train_plain(bench, rows(samples), plan.local, 1, SeededEntropy(0, "a"), "a")
    ways = flat.full_vector - before
    moved = {slot.name: bool(ways[slot.start : slot.stop].any()) for slot in flat.slots}
    assert all(moved.values())
    own = [name for name in moved if name.startswith("terms.")]
    assert bool(own) == (loss in TERMS and loss != "dan_partition")
    alone = FlatModel(build(plan.model, plan.seed))
    found = model_of(bench.flat, bench.flat.full_vector)
    assert len(found) == len(alone)
    assert torch.equal(with_critic(bench.flat, found), bench.flat.full_vector)
    alone.load_(found)
    x = torch.randn(2, 1, 48, 48)
    torch.testing.assert_close(alone.module.eval()(x), bench.flat.module.eval()(x))


OTHERS = [name for name in TABLE if TABLE[name].sees != "logits"]


@pytest.mark.parametrize("loss", ["ldam", "pdls", "vote_kl", *OTHERS])
def test_the_guard_decides(plan_of, loss):
    plan = named(plan_of, loss, privacy={})
    if loss not in COUPLED:
        assert Workbench(plan, CPU).gradients.proven
        return
    with pytest.raises(PrivacyError, match="the loss of one picture reacts to another"):
        Workbench(plan, CPU)


@pytest.mark.parametrize("loss", [name for name in TERMS if name not in COUPLED])
def test_clipped_sums_of_net_and_loss_are_exact(plan_of, loss):
    plan = named(plan_of, loss)
    bench = Workbench(plan, CPU)
    module = net_of(plan).double()
    bench.flat, bench._terms = FlatModel(module), module.terms
    bench.loss = _loss(bench)
    x = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.eye(3, dtype=torch.float64)
    alone = []
    for index in range(3):
        module.zero_grad(set_to_none=True)
        bench.losses(x[[index]], y[[index]]).sum().backward()
        alone.append(
            {
                n: flat_order(p.grad[None])[0].clone()
                for n, p in module.named_parameters()
                if p.grad is not None
            }
        )
    names = list(alone[0])
    norms = torch.stack([torch.cat([each[n] for n in names]).norm() for each in alone])
    clip = float(norms.median())
    gradients = PrivateGradients(module)
    with gradients.recording(Units.single(3)):
        losses = bench.losses(x, y)
    settled = gradients.settle(losses.sum(), clip)
    gradients.close()
    factors = (clip / (norms + NOTHING)).clamp(max=1.0)
    assert set(settled.sums) == set(names)
    apart = [
        found - sum(f * each[n] for f, each in zip(factors, alone, strict=True))
        for n, found in settled.sums.items()
    ]
    assert float(torch.cat(apart).norm()) <= 1e-12 * clip


def _loss(bench):
    from client.workbench import loss_of

    return loss_of(bench.plan, (), terms=bench._terms)


def test_a_penalty_is_added_after_the_noise(plan_of, samples):
    """The same noise with and without it: the weights differ by the penalty's gradient alone, of the last layer."""
    ends = []
    for loss in ("cross_entropy", "adareg"):
        local = {"amount": 1, "optimizer": "sgd", "learning_rate": 0.5}
        plan = named(plan_of, loss, local=local, privacy={"clip": 0.01})
        bench = Workbench(plan, CPU)
        start = bench.flat.vector.clone()
        train_private(bench, rows(samples), plan, 1, SeededEntropy(0, "a"), "a")
        ends.append(bench.flat.vector - start)
    bench.flat.vector.copy_(start)
    weight, own = bench._penalised
    e = weight.detach().clone().requires_grad_()
    adareg(e).backward()
    assert e.grad is not None
    expected = torch.zeros_like(start)
    expected[own] = -0.5 * e.grad.flatten()
    torch.testing.assert_close(ends[1] - ends[0], expected, rtol=1e-3, atol=1e-6)
    assert expected.any()


def test_plans_without_the_new_fields_are_as_they_were(plan_of):
    given = json.loads(plan_of("fer_nano").text)
    assert not {"strength", "similar"} & set(given["local"])
    assert "attention" not in given["model"]
    plan = named(plan_of, "pdls", local={"strength": 0.6})
    assert json.loads(plan.text)["local"]["strength"] == 0.6


@pytest.mark.parametrize(
    ("local", "rest", "what"),
    [
        ({"loss": "pdls"}, {}, "pdls without distributions"),
        ({"loss": "pdls", "similar": ((1.0, 0.0), (0.0, 1.0))}, {}, "not 3 of 3 shares"),
        ({"similar": SIMILAR}, {}, "only pdls uses"),
        ({"loss": "focal", "strength": 0.5}, {}, "has no strength"),
        ({"loss": "pdls", "similar": SIMILAR, "strength": 2.0}, {}, r"not in \[0, 1\]"),
        (
            {"loss": "adareg", "amount": 1, "optimizer": "sgd"},
            {"privacy": {"noise": "distributed", "threshold": 3}},
            "take no step of their own",
        ),
    ],
)
def test_what_is_no_plan_is_refused(plan_of, local, rest, what):
    with pytest.raises(ConfigError, match=what):
        plan_of("fer_nano", local=local, **rest)


def test_pictures_whose_classes_are_not_all_known_need_a_loss_of_logits(plan_of):
    from client.told import NOTHING as TOLD

    with pytest.raises(ConfigError, match="every class"):
        Workbench(named(plan_of, "centre"), CPU).expect(TOLD, partial=True)


@pytest.mark.parametrize(
    ("loss", "local", "where"),
    [("cross_entropy", {"smoothing": 0.1}, "local.smoothing"), ("pdls", {}, "local.loss")],
)
def test_targets_that_are_spread_need_sets_that_know_every_class(plan_of, loss, local, where):
    from client.told import NOTHING as TOLD

    with pytest.raises(ConfigError, match="do not know") as caught:
        Workbench(named(plan_of, loss, local=local), CPU).expect(TOLD, partial=True)
    assert where in str(caught.value)
