"""After the last round: sums of features, their groups made alike, and a net that holds it, end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import server.rounds as rounds
from client.finish import Finish
from client.ledger import Ledger
from client.plan import Secure
from client.secagg.terms import least_threshold
from fer_models.clusters import offsets_of
from fer_models.embedding import embed, last_layer
from fer_models.erasure import Moments, eraser_of
from fer_models.errors import ModelError, SecureAggregationError
from fer_models.flat import FlatModel
from fer_models.transforms import for_forward, mirrored_probabilities, to_input
from fer_models.zoo import build
from server.debiasing.finishing import Finishing
from server.run_folder import RunFolder
from server.secagg.transcript import TRANSCRIPTS
from server.secagg.verify import verify
from simulations.federated import run_local

SIZES = (18, 18, 18, 18, 18)
FEATURES = 16


class Killed(Exception):
    """The machine goes away."""


@pytest.fixture(scope="session")
def finished_of(plan_of):
    """finished_of(sigma=None, **plan_of's): a plan that erases age at its end."""

    def make(sigma=None, **options):
        plan = plan_of(private=sigma is not None, rounds=2, **options)
        weight = 64 if plan.server.weighting == "size" else 1
        terms = Secure(5, least_threshold(5, "malicious"), 3, clip=4.0, largest_weight=weight)
        return replace(plan, aggregation="secure", secure=terms, finish=Finish("age", FEATURES, sigma))

    return make


def run(plan, sites, folder, workers=1, observer=lambda _: None, **more):
    return run_local(plan, sites, RunFolder(folder), "federated", workers, observer, **more)


def net_of(plan, vector):
    flat = FlatModel(build(plan.model, plan.seed))
    flat.load_(vector)
    return flat.module.eval()


def test_the_finished_net_gives_the_logits_of_erased_features(finished_of, sites_of, small, tmp_path):
    """As if all training pictures lay in one place: the same map, folded into the last layer of the same net."""
    plan = finished_of()
    result = run(plan, sites_of(SIZES), tmp_path / "run")
    without = run(replace(plan, finish=None), sites_of(SIZES), tmp_path / "without")
    before, after = net_of(plan, without.vector), net_of(plan, result.vector)
    x = for_forward(to_input(small.pictures))
    last = last_layer(before, plan.model)
    z = embed(before, last, x).double().numpy()
    train, group = small.split == "train", np.searchsorted(["old", "young"], small.groups["age"])
    expected = eraser_of(Moments.of(z[train], group[train], 2))
    weight, bias = last.weight.detach().double().numpy(), last.bias.detach().double().numpy()
    with torch.inference_mode():
        found = after(x).double().numpy()
    assert np.abs(found - (expected(z) @ weight.T + bias)).max() < 2e-3
    assert np.abs(found - (z @ weight.T + bias)).max() > 2e-3, "it changes something"
    changed = [
        n for n, p in after.named_parameters() if not torch.equal(p, dict(before.named_parameters())[n])
    ]
    assert changed == ["7.weight", "7.bias"]
    assert result.finish["rank"] == 1
    assert result.finish["groups"] == ["old", "young"]
    means = [result.eraser(z[train])[group[train] == g].mean(0) for g in (0, 1)]
    assert np.abs(means[0] - means[1]).max() < 0.02 * np.abs(z).max(), "up to those cut to the radius"
    assert result.counts != without.counts or result.totals.bytes_up > without.totals.bytes_up


def test_the_last_line_of_the_metrics_is_of_the_finished_net(finished_of, sites_of, tmp_path):
    told = []
    result = run(finished_of(evaluate_every=1), sites_of(SIZES), tmp_path, observer=told.append)
    assert [line["round"] for line in told] == [1, 2]
    right = sum(int(np.trace(counts.overall)) for counts in result.counts.values())
    assert told[-1]["accuracy"] == pytest.approx(right / result.overall.rows)


def test_private_sums_are_in_every_ledger_and_in_the_total(finished_of, sites_of, tmp_path):
    plan = finished_of(6.0)
    result = run(plan, sites_of(SIZES, ledgers=tmp_path / "ledger"), tmp_path / "run")
    for site in sites_of(SIZES).names:
        events = Ledger(tmp_path / "ledger" / f"{site}.sqlite", read_only=True).events
        kinds = [(event.kind, event.round) for event in events]
        assert kinds == [("training", 1), ("training", 2), ("moments", 3), ("moments", 4)]
    without = run(replace(plan, finish=None), sites_of(SIZES), tmp_path / "without")
    assert without.totals.epsilon < result.totals.epsilon
    assert 0 <= result.finish["meant"] < 1


def killed(monkeypatch, at, work):
    """Run something until it is about to write its checkpoint for the ``at``-th time."""
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)
    saved, kept = rounds.Coordinator._checkpoint, []

    def fail(self):
        kept.append(1)
        if len(kept) == at:
            raise Killed
        saved(self)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(rounds.Coordinator, "_checkpoint", fail)
        work()


@pytest.mark.parametrize("sigma", [None, 6.0])
@pytest.mark.parametrize("at", [3, 4, 5])
def test_a_run_killed_in_the_steps_goes_on_to_the_same_bits(
    finished_of, sites_of, tmp_path, monkeypatch, sigma, at
):
    """Killed before the checkpoint of the first step, of the second, and of the last evaluation."""
    plan = finished_of(sigma)
    whole = run(plan, sites_of(SIZES, ledgers=tmp_path / "1"), tmp_path / "whole")
    killed(monkeypatch, at, lambda: run(plan, sites_of(SIZES, ledgers=tmp_path / "2"), tmp_path / "parts"))
    resumed = run(plan, sites_of(SIZES, ledgers=tmp_path / "2"), tmp_path / "parts")
    assert torch.equal(resumed.vector, whole.vector)
    assert (resumed.counts, resumed.epsilon, resumed.finish) == (whole.counts, whole.epsilon, whole.finish)


def test_processes_give_the_same_bits(finished_of, sites_of, tmp_path):
    plan = finished_of(6.0)
    one = run(plan, sites_of(SIZES), tmp_path / "1")
    assert torch.equal(run(plan, sites_of(SIZES), tmp_path / "2", workers=2).vector, one.vector)


def test_sites_that_drop_out_are_borne_and_a_sum_of_too_few_is_not(finished_of, sites_of, tmp_path):
    plan = finished_of()
    sites = replace(sites_of(SIZES), dropout=0.03)
    run(plan, sites, tmp_path / "some")
    with pytest.raises(SecureAggregationError):
        run(
            replace(plan, secure=replace(plan.secure, threshold=5)),
            replace(sites, dropout=0.3),
            tmp_path / "many",
        )


def test_sites_that_are_not_in_every_round_take_part_in_the_end(finished_of, sites_of, tmp_path):
    plan = finished_of(participation=0.6)
    terms = replace(plan.secure, sites=3, threshold=3, everybody=5)
    result = run(replace(plan, secure=terms), sites_of(SIZES), tmp_path)
    assert result.finish["rank"] == 1
    assert result.overall.rows == 30


def test_every_step_can_be_verified_by_an_auditor(finished_of, sites_of, tmp_path):
    plan, sites = finished_of(), sites_of(SIZES)
    run(plan, sites, tmp_path, transcripts=True)
    found = [verify(path, sites.roster) for path in sorted((tmp_path / TRANSCRIPTS).iterdir())]
    assert [each.purpose for each in found][-3:] == ["moments", "moments", "evaluate"]


def test_without_two_groups_nothing_is_erased_and_the_report_says_why(finished_of, sites_of, small, tmp_path):
    alone = replace(small, groups={"age": np.full(len(small), "old")})
    plan = finished_of()
    result = run(plan, sites_of(SIZES, samples=alone), tmp_path / "1")
    assert result.finish["note"] == (
        "nothing was erased: 1 disclosed groups have pictures, and erasure compares two or more"
    )
    assert result.eraser is None
    without = run(replace(plan, finish=None), sites_of(SIZES, samples=alone), tmp_path / "2")
    assert torch.equal(result.vector, without.vector)


def test_a_net_without_a_last_bias_is_refused(finished_of):
    plan = finished_of()
    flat = FlatModel(build(plan.model, 0))
    last_layer(flat.module, plan.model).bias = None
    with pytest.raises(ModelError, match="has no bias"):
        Finishing(plan, FlatModel(flat.module))
    assert isinstance(Finishing(plan, FlatModel(build(plan.model, 0))), Finishing)


# Clusters


def clustered(plan, erase="", sigma=None):
    model = replace(plan.model, clusters=4)
    return replace(plan, model=model, finish=Finish(erase, FEATURES, sigma, clusters=4))


def seen_by(module, last, samples):
    """Features, probabilities and training rows, all in one place."""
    x = for_forward(to_input(samples.pictures))
    z = embed(module, last, x)
    with torch.inference_mode():
        return z.double().numpy(), last(z).double().softmax(1).numpy(), samples.split == "train"


def test_clusters_and_biases_are_those_of_all_pictures_in_one_place(finished_of, sites_of, small, tmp_path):
    plan = clustered(finished_of())
    result = run(plan, sites_of(SIZES), tmp_path / "run")
    net = net_of(plan, result.vector)
    last = last_layer(net, plan.model)
    z, given, train = seen_by(net, last, small)
    z, given, label = z[train], given[train], small.label[train]
    assert np.linalg.norm(z, axis=1).max() < 2 * np.median(np.linalg.norm(z, axis=1)), (
        "nearly all lie in the radius"
    )
    centres, offsets = net.centres.double().numpy(), net.offsets.double().numpy()
    cell = np.square(z[:, None] - centres).sum(2).argmin(1)
    shown = (cell == np.arange(4)[:, None]).astype(float)
    expected = offsets_of(shown @ np.eye(3)[label], shown @ given)
    assert np.abs(offsets - expected).max() < 5e-3
    assert np.abs(offsets).max() > 1e-3
    sizes = result.finish["clusters"]
    assert sum(sizes) == train.sum()
    assert result.finish["largest_bias"] == pytest.approx(np.abs(offsets).max(), abs=1e-3)
    assert "erased" not in result.finish


def test_biases_change_answers_as_the_net_that_is_kept_says(finished_of, sites_of, small, tmp_path):
    plan = clustered(finished_of())
    result = run(plan, sites_of(SIZES), tmp_path / "run")
    net, test = net_of(plan, result.vector), np.flatnonzero(small.split == "test")
    with torch.inference_mode():
        told = mirrored_probabilities(net, to_input(small.pictures[test])).argmax(1).numpy()
    right = int((told == small.label[test]).sum())
    assert int(np.trace(result.overall.overall)) == right


@pytest.mark.parametrize("at", [3, 5, 9, 10])
def test_a_run_killed_between_clusters_goes_on_to_the_same_bits(
    finished_of, sites_of, tmp_path, monkeypatch, at
):
    plan = clustered(finished_of(6.0), "age", 6.0)
    whole = run(plan, sites_of(SIZES, ledgers=tmp_path / "1"), tmp_path / "whole")
    killed(monkeypatch, at, lambda: run(plan, sites_of(SIZES, ledgers=tmp_path / "2"), tmp_path / "parts"))
    resumed = run(plan, sites_of(SIZES, ledgers=tmp_path / "2"), tmp_path / "parts")
    assert torch.equal(resumed.vector, whole.vector)
    assert (resumed.counts, resumed.epsilon, resumed.finish) == (whole.counts, whole.epsilon, whole.finish)
    ledger = Ledger(tmp_path / "2" / "site-0.sqlite", read_only=True)
    kinds = [event.kind for event in ledger.events]
    assert kinds == ["training"] * 2 + ["moments"] * 8, "norms, moments, spread, four times cells, scores"
