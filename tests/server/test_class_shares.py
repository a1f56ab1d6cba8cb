"""Shares of the classes, from label counts to the loss or to the bias of the finished model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import server.rounds as rounds
from client.ledger import Ledger
from client.mechanisms import Mechanism
from client.messages import pack
from fer_models.errors import EngineError, PrivacyError
from fer_models.flat import FlatModel
from fer_models.scope import restrict
from fer_models.zoo import build
from server.class_shares import MOST, Adjustment, from_answers, shares_of
from server.run_folder import RunFolder
from simulations.federated import run_local


def run(plan, sites, folder, workers=1, observer=lambda _: None, together=1):
    return run_local(plan, sites, RunFolder(folder), "federated", workers, observer, together)


def private(plan_of, counts=0.5, **changes):
    plan = plan_of(private=True)
    changed = {"server": replace(plan.server, **{"rounds": 3, **changes.get("server", {})})}
    changed["local"] = replace(plan.local, **changes.get("local", {}))
    return replace(plan, privacy=replace(plan.privacy, counts_epsilon=counts), **changed)


def kinds(folder, site):
    return [(e.kind, e.round) for e in Ledger(folder / f"{site}.sqlite", read_only=True).events]


def test_shares_are_those_of_the_sum(plan_of):
    answers = [pack(np.array(counts, np.int64), {}) for counts in ([50, -3, 10], [10, 1, -8])]
    assert from_answers(answers, 3).tolist() == [60, -2, 2]
    assert shares_of(plan_of(), from_answers(answers, 3)) == pytest.approx((60 / 63, 1 / 63, 2 / 63))
    for counts in ([MOST + 1, 0, 0], [1, 2]):
        with pytest.raises(EngineError):
            from_answers([pack(np.array(counts, np.int64), {})], 3)


@pytest.mark.parametrize(
    ("name", "scope"), [("cnn_tiny", "all"), ("hog_linear", "all"), ("cnn_tiny", "head")]
)
def test_adjusted_weights_give_adjusted_logits(plan_of, small, name, scope):
    """Menon et al. 2021, equation 9: logits - tau log prior, and nothing else changes."""
    plan = plan_of(adjustment=0.5)
    plan = replace(plan, model=replace(plan.model, name=name), local=replace(plan.local, scope=scope))
    flat = FlatModel(restrict(build(plan.model, 1), plan.model, scope))
    x = torch.from_numpy(small.pictures[:5, None].astype(np.float32) / 255)
    before, start = flat.module.eval()(x), flat.full_vector.clone()
    found = Adjustment(plan, flat, 0.5).apply(start, (0.7, 0.2, 0.1))
    assert torch.equal(flat.full_vector, start), "the weights that go on training are left alone"
    assert int((found != start).sum()) == 3
    flat.load_(found)
    expected = before - 0.5 * torch.tensor([0.7, 0.2, 0.1]).log()
    torch.testing.assert_close(flat.module(x), expected)


def test_both_releases_are_in_every_ledger_and_the_total(plan_of, sites_of, tmp_path):
    plan, sites = private(plan_of, server={"adjustment": 0.5}), sites_of(ledgers=tmp_path / "ledger")
    result = run(plan, sites, tmp_path / "run")
    for site in sites.names:
        assert kinds(tmp_path / "ledger", site) == [
            ("label_counts", 0),
            *(("training", r) for r in (1, 2, 3)),
        ]
        assert Mechanism("pure", 2.0) in Ledger(tmp_path / "ledger" / f"{site}.sqlite").history()
    without = run(replace(plan_of(private=True, rounds=3)), sites_of(), tmp_path / "other")
    assert without.totals.epsilon < result.totals.epsilon < without.totals.epsilon + 0.51
    assert list(result.prior) == list(plan.labels)
    assert sum(result.prior.values()) == pytest.approx(1)


def test_adjustment_of_a_plain_run_moves_the_bias_alone(plan_of, sites_of, tmp_path):
    plain = run(plan_of(rounds=3), sites_of(), tmp_path / "1")
    plan = plan_of(rounds=3, adjustment=2.0)
    adjusted = run(plan, sites_of(), tmp_path / "2")
    moved = adjusted.vector - plain.vector
    bias = moved[-3:]
    assert (moved[:-3] == 0).all()
    train = sites_of().samples.label[sites_of().samples.split == "train"]
    shares = np.bincount(train) / len(train)
    assert tuple(adjusted.prior.values()) == pytest.approx(tuple(shares))
    torch.testing.assert_close(bias, -2 * torch.tensor(shares).log().float(), rtol=1e-4, atol=1e-5)


LOSSES = [{"loss": "logit_adjusted", "tau": 0.7}, {"loss": "class_balanced"}]


@pytest.mark.parametrize("local", LOSSES, ids=[each["loss"] for each in LOSSES])
@pytest.mark.parametrize("secret", [True, False])
def test_any_number_of_workers_gives_equal_bits(plan_of, sites_of, tmp_path, local, secret):
    plan, sizes = private(plan_of, local=local), (10, 15, 20, 25, 20)
    if not secret:
        plan = plan_of(local=local, rounds=3)
    one, two = (
        run(plan, sites_of(sizes, tmp_path / f"ledger-{n}"), tmp_path / str(n), workers=n) for n in (1, 2)
    )
    assert torch.equal(one.vector, two.vector)
    assert one.prior == two.prior
    assert one.epsilon == two.epsilon


class Killed(BaseException):
    pass


@pytest.mark.parametrize("local", [{}, {"loss": "logit_adjusted"}])
def test_a_resumed_run_keeps_its_shares(plan_of, sites_of, tmp_path, monkeypatch, local):
    plan = private(plan_of, local=local, server={} if local else {"adjustment": 0.5})
    whole = run(plan, sites_of(ledgers=tmp_path / "whole"), tmp_path / "1")
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)

    def observe(record):
        if record["round"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run(plan, sites_of(ledgers=tmp_path / "parts"), tmp_path / "2", observer=observe)
    parts = run(plan, sites_of(ledgers=tmp_path / "parts"), tmp_path / "2")
    assert torch.equal(parts.vector, whole.vector)
    assert (parts.prior, parts.epsilon) == (whole.prior, whole.epsilon)
    for site in sites_of().names:
        assert kinds(tmp_path / "parts", site) == kinds(tmp_path / "whole", site)


def test_a_run_killed_between_counts_and_checkpoint_counts_once(plan_of, sites_of, tmp_path, monkeypatch):
    plan = private(plan_of, server={"adjustment": 0.5})

    def fail(*_):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(rounds.Coordinator, "_checkpoint", fail)
        run(plan, sites_of(ledgers=tmp_path / "ledger"), tmp_path / "1")
    assert kinds(tmp_path / "ledger", "site-0") == [("label_counts", 0)]
    done = run(plan, sites_of(ledgers=tmp_path / "ledger"), tmp_path / "1")
    assert torch.equal(done.vector, run(plan, sites_of(), tmp_path / "2").vector)
    assert [kind for kind, _ in kinds(tmp_path / "ledger", "site-0")].count("label_counts") == 1


def test_a_private_plan_without_noise_on_its_counts_is_refused(plan_of):
    plan = plan_of(private=True)
    cure = r"let the sites add noise: privacy\.counts_epsilon=0\.5"
    with pytest.raises(PrivacyError, match=cure):
        replace(plan, server=replace(plan.server, adjustment=0.5))
    with pytest.raises(PrivacyError, match=cure):
        replace(plan, local=replace(plan.local, loss="logit_adjusted"))
    with pytest.raises(PrivacyError, match="nothing uses them"):
        replace(plan, privacy=replace(plan.privacy, counts_epsilon=0.5))
