"""Fair training over rounds: equal bits on any number of workers, resumed, with sites that drop out, and verified."""

from dataclasses import replace

import pytest
import torch

import server.rounds as rounds
from client.fairness import Fairness
from client.ledger import Ledger
from client.plan import Secure
from client.secure_site import SecureSite
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.run_folder import RunFolder
from server.secagg.transcript import TRANSCRIPTS
from server.secagg.verify import verify
from simulations.federated import run_local
from simulations.pooled_private import without_fairness

SIZES = (20, 30, 25, 15)
SECURE = Secure(sites=4, threshold=3, minimum=3, clip=16.0)


def fair(plan, **given):
    fairness = Fairness(**{"attribute": "age", "adversary": "critic", "weighting": "errors", **given})
    server = replace(plan.server, rounds=4, weighting="uniform")
    privacy = plan.privacy and replace(plan.privacy, counts_epsilon=0.5)
    return replace(
        plan, aggregation="secure", secure=SECURE, fairness=fairness, server=server, privacy=privacy
    )


def run(plan, sites, path, workers=1, observer=lambda _: None, **given):
    return run_local(plan, sites, RunFolder(path), "federated", workers, observer, **given)


@pytest.mark.parametrize("private", [False, True])
def test_any_number_of_workers_gives_equal_bits(plan_of, sites_of, tmp_path, private):
    plan = fair(plan_of(private=private))
    one, two = (run(plan, sites_of(SIZES, tmp_path / f"l{n}"), tmp_path / str(n), n) for n in (1, 2))
    assert torch.equal(one.vector, two.vector)
    assert one.steering == two.steering
    assert len(one.vector) == len(FlatModel(build(plan.model, 0)).full_vector), "the critic stays behind"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("private", [False, True])
def test_a_resumed_run_steers_on(plan_of, sites_of, tmp_path, monkeypatch, private):
    plan = fair(plan_of(private=private), tolerance=0.01)
    whole = run(plan, sites_of(SIZES, tmp_path / "whole"), tmp_path / "1")
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)

    def observe(record):
        if record["round"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run(plan, sites_of(SIZES, tmp_path / "parts"), tmp_path / "2", observer=observe)
    parts = run(plan, sites_of(SIZES, tmp_path / "parts"), tmp_path / "2")
    assert torch.equal(parts.vector, whole.vector)
    assert parts.steering == whole.steering
    assert len(whole.steering["record"]) == 4


def test_every_release_is_in_the_ledger_at_the_plan_s_own_noise(plan_of, sites_of, tmp_path):
    plan, sites = fair(plan_of(private=True)), sites_of(SIZES, tmp_path / "ledger")
    run(plan, sites, tmp_path / "run")
    for name in sites.names:
        events = list(Ledger(tmp_path / "ledger" / f"{name}.sqlite").events)
        assert [event.kind for event in events] == ["label_counts", *["training"] * 4]
        assert {event.mechanism.noise for event in events[1:]} == {plan.privacy.noise_multiplier}


def test_a_site_that_drops_out_of_a_round_changes_no_other_meaning(plan_of, sites_of, tmp_path, monkeypatch):
    plan = fair(plan_of(private=True))
    began, lost = SecureSite.begin, []

    def begin(self, content, plan, purpose, round_number):
        if (self.agent.name, purpose, round_number) == ("site-1", "train", 2):
            lost.append(1)
            raise ConnectionError
        return began(self, content, plan, purpose, round_number)

    monkeypatch.setattr(SecureSite, "begin", begin)
    found = run(plan, sites_of(SIZES, tmp_path / "ledger"), tmp_path / "run")
    assert lost
    assert sum(found.steering["shares"]) == pytest.approx(1, abs=1e-3)
    assert torch.isfinite(found.vector).all()


@pytest.mark.parametrize("noise", ["none", "site", "distributed"])
def test_transcripts_lead_to_the_same_weights(plan_of, sites_of, tmp_path, noise):
    plan = fair(plan_of(private=noise != "none"))
    if noise == "distributed":
        size = len(FlatModel(build(plan.model, 0)).full_vector) + 2 * 16 + 2 + plan.tally_size
        own = {
            "noise": "distributed",
            "threshold": 3,
            "parameters": size,
            "nominal_units": 1000,
            "delta": 1e-5,
        }
        plan = replace(plan, privacy=replace(plan.privacy, **own), local=replace(plan.local, amount=1))
    sites = sites_of(SIZES, tmp_path / "ledger")
    run(plan, sites, tmp_path / "run", transcripts=True)
    folders = sorted(path for path in (tmp_path / "run" / TRANSCRIPTS).iterdir() if path.is_dir())
    assert len(folders) == 6  # label counts, four rounds, the last evaluation
    found = [verify(folder, sites.roster) for folder in folders]
    assert sum("next model: the weights that the sum leads to" in each.checks for each in found) == 4


def test_without_fairness_nothing_of_it_is_left(plan_of):
    plan = plan_of(private=True)
    assert without_fairness(fair(plan)).privacy.counts_epsilon is None
    adjusted = replace(fair(plan), server=replace(fair(plan).server, adjustment=0.5))
    assert without_fairness(adjusted).privacy.counts_epsilon == 0.5
    assert without_fairness(plan) is plan
