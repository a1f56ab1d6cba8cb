"""From settings to the terms of secure aggregation, and whom the noise is divided among."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from client.accounting import epsilon_of
from client.grid import LARGEST, plan_grid
from client.limits import with_rounds
from client.trust import WORKED_OUT
from fer_models.errors import ConfigError, SecureAggregationError
from server.drawing import cohort
from server.run_folder import RunFolder
from simulations.cli import main
from simulations.compose import composed
from simulations.pooled_private import pooled_private
from simulations.prepare import prepare
from simulations.secure import largest_weight, terms_of, without_privacy

TINY = ["data=faces", "data.options.count=240", "partition.sites=6", "model=cnn_tiny", "server.rounds=3"]
SHARED = ["privacy=distributed", "local=private", "local.amount=1", "server=fedadam_distributed"]
SHARED += ["server.rounds=40", "privacy.allow_useless=true"]


def prepared(*words):
    return prepare(composed([*TINY, *words])[0])


def test_secure_terms_follow_from_the_sites():
    ready = prepared("aggregation=secure")
    secure = ready.plan.secure
    assert ready.plan.aggregation == "secure"
    assert (secure.sites, secure.threshold, secure.minimum, secure.fewest) == (6, 5, 3, 5)
    assert (secure.profile, secure.degree, secure.colluders, secure.clip) == ("malicious", 0, 0, 16.0)
    sizes = [len(ready.partition.rows(site, ready.samples, "train")) for site in range(6)]
    assert secure.largest_weight / 2 < max(sizes) <= secure.largest_weight
    assert secure.largest_weight == largest_weight(ready.samples, ready.partition)


def test_a_part_of_the_sites_is_what_a_round_invites():
    secure = prepared("aggregation=secure", "server.participation=0.7").plan.secure
    assert secure.sites == len(cohort(0, 1, range(6), 0.7)) == 4
    assert secure.threshold == 3


def test_evaluation_asks_everybody():
    secure = prepared("aggregation=secure", "server.participation=0.7").plan.secure
    assert (secure.of("train").sites, secure.of("evaluate").sites) == (4, 6)
    assert secure.of("label_counts").threshold == 5


def test_plain_terms_are_none():
    plan = prepared("aggregation=plain").plan
    assert (plan.aggregation, plan.secure) == ("plain", None)


def test_three_sites_are_enough_by_default():
    assert prepared("partition.sites=3").plan.aggregation == "secure"
    assert prepared("partition.sites=2").plan.aggregation == "plain"
    assert prepared("server.participation=0.3").plan.aggregation == "plain", "two of six a round"
    assert prepared("aggregation.colluders=4").plan.aggregation == "plain"
    assert prepared("aggregation.colluders=3").plan.secure.minimum == 6


@pytest.mark.parametrize(
    ("words", "where", "cure"),
    [
        (["aggregation=secure", "partition.sites=2"], "aggregation", "Run 3 or more sites"),
        (["aggregation=secure", "server.participation=0.3"], "aggregation", "server.participation"),
        (["aggregation=secure", "aggregation.colluders=4"], "aggregation", "Run 7 or more sites"),
        (["aggregation.kind=masked"], "aggregation", "Use auto, secure or plain."),
        (["aggregation=secure", "aggregation.profile=honest"], "aggregation.profile", ""),
        (["aggregation=secure", "aggregation.threshold=3"], "aggregation.threshold", "Give 5 to 6"),
        (["aggregation=secure", "aggregation.degree=4"], "aggregation.degree", "semi-honest"),
    ],
)
def test_terms_that_do_not_hold_are_refused_before_a_run(words, where, cure):
    with pytest.raises(ConfigError) as error:
        prepared(*words)
    assert error.value.where == where
    assert cure in error.value.cure


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "krum", "multi_krum", "bulyan"])
def test_robust_rules_and_secure_aggregation_exclude_each_other(rule):
    words = [f"server.rule={rule}", "server.malicious=1", "partition.sites=7"]
    with pytest.raises(ConfigError, match="the coordinator sees none") as error:
        prepared(*words, "aggregation=secure")
    assert (error.value.where, "aggregation=plain" in error.value.cure) == ("server.rule", True)
    assert prepared(*words, "aggregation=plain").plan.server.weighting == "uniform"


def test_the_default_gives_no_robust_rule_the_updates():
    with pytest.raises(ConfigError, match="compares single updates"):
        prepared("server.rule=median")


@pytest.mark.parametrize(
    ("rule", "malicious", "needed"),
    [("median", 3, 7), ("trimmed_mean", 3, 7), ("krum", 2, 7), ("bulyan", 1, 7)],
)
def test_more_malicious_sites_than_a_rule_bears_are_refused(rule, malicious, needed):
    with pytest.raises(ConfigError, match=f"of {needed} sites or more, and a round has 6") as error:
        prepared(f"server.rule={rule}", f"server.malicious={malicious}", "aggregation=plain")
    assert error.value.where == "server.malicious"


def test_more_than_200_sites_take_a_sparse_graph():
    def found(*words, sites=201, everybody=201):
        return terms_of(composed([*TINY, *words])[0], sites, everybody, 1, "uniform")

    assert found(sites=200, everybody=200).threshold == 134
    assert found() is None, "plain by default"
    assert found(sites=20) is None, "all 201 evaluate"
    with pytest.raises(ConfigError, match="201 sites that all share masks with all") as error:
        found("aggregation=secure")
    assert "aggregation.degree=48" in error.value.cure
    sparse = found("aggregation=secure", "aggregation.degree=48", "aggregation.profile=semi-honest")
    assert (sparse.threshold, sparse.fewest) == (25, 101)


def test_shared_noise_is_divided_among_the_fewest_of_a_sum():
    plan = prepared(*SHARED, "aggregation=secure", "privacy.colluders=1").plan
    assert (plan.secure.colluders, plan.privacy.colluders) == (1, 1)
    assert plan.privacy.threshold == plan.secure.fewest == 5
    assert plan.most_sites == 6
    grid = plan_grid(plan)
    assert grid.share == pytest.approx(plan.privacy.noise_multiplier * grid.sensitivity / 4**0.5)
    assert 6 * grid.bound < LARGEST
    assert epsilon_of(with_rounds((), plan, 40), plan.privacy.delta).value <= 8.0
    plain = prepared(*SHARED, "aggregation=plain", "privacy.colluders=1").plan
    assert plain.privacy.threshold == 6
    assert plain.privacy.noise_multiplier == pytest.approx(plan.privacy.noise_multiplier, rel=1e-4)
    assert plain.privacy.delta == plan.privacy.delta, (
        "below one over the records of all sites, not of the fewest"
    )


def test_the_systems_beside_keep_to_what_they_can():
    ready = prepared(*SHARED, "aggregation=secure")
    plan, heaviest = ready.plan, largest_weight(ready.samples, ready.partition)
    open_one = without_privacy(plan, heaviest)
    assert (open_one.privacy, open_one.aggregation) == (None, "secure")
    assert open_one.secure.largest_weight == heaviest
    assert plan.secure.largest_weight == 1
    alone = pooled_private(plan, 6)
    assert (alone.aggregation, alone.secure) == ("plain", None), "one site has nobody to hide among"


# What is left of single sites


@pytest.fixture(scope="module")
def secure_run(tmp_path_factory):
    """The folder of a run of three rounds with transcripts, made by the command, and of the same run in plain."""
    folder = tmp_path_factory.mktemp("secure")
    words = [*TINY, "server=fedavg", "server.rounds=3", "server.evaluate_every=2", "engine.workers=1"]
    for kind in ("secure", "plain"):
        more = [f"aggregation={kind}", "aggregation.transcripts=true", "--run-dir", str(folder / kind)]
        with pytest.raises(SystemExit) as ended:
            main(["simulate", *words, *more])
        assert ended.value.code == 0
    return folder / "secure", folder / "plain"


def federated(path):
    return json.loads((path / "summary.json").read_text())["systems"]["federated"]


def test_a_total_alone_is_enough_for_summary_report_and_card(secure_run):
    path, plain = secure_run
    system, seen = federated(path), federated(plain)
    assert (system["aggregation"], system["secure"]["threshold"]) == ("secure", 5)
    # Figures of single sites are the simulation's own, and add up to the total, which is the protocol's.
    assert [row["site"] for row in system["per_site"]] == [row["site"] for row in seen["per_site"]]
    held = [row for row in system["per_site"] if row["test"]]
    right = sum(row["accuracy"] * row["test"] for row in held)
    assert right / sum(row["test"] for row in held) == pytest.approx(system["accuracy"])
    assert system["visits"] == seen["visits"]
    page = " ".join((path / "report.html").read_text().split())
    assert system["sites_note"] == WORKED_OUT
    assert "The coordinator never saw a figure of a single site." in page
    assert "of every round the coordinator learned the sum over 5 or more of 6 sites" in page
    assert "the sums of the updates that leave them can give away" in page
    card = (path / "model" / "README.md").read_text()
    assert "## What the coordinator learned" in card
    assert "Secure aggregation: of every round" in card


def test_a_secure_run_learns_what_a_plain_one_learns(secure_run):
    """But for the rounding of the sums, some 1e-7 of the clip."""
    nets = [load_file(path / "model" / "model.safetensors") for path in secure_run]
    for name, weights in nets[0].items():
        assert torch.allclose(weights, nets[1][name], atol=1e-5), name
    losses = [[line["loss"] for line in RunFolder(path).metrics()] for path in secure_run]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_every_round_of_a_run_can_be_verified(secure_run, fedfer, refused, tmp_path):
    path, plain = secure_run
    code, out, _ = fedfer("server", "verify-round", str(path))
    assert code == 0
    assert out.count("next model: the weights that the sum leads to") == 3
    assert "round 3, evaluate" in out
    assert not (plain / "transcripts").exists()
    assert refused(
        fedfer("server", "verify-round", str(plain)), ConfigError, "no transcript", "transcripts=true"
    )
    sessions = sorted((path / "transcripts").iterdir())
    copied = shutil.copytree(path / "transcripts", tmp_path / "transcripts")
    shutil.rmtree(copied / sessions[1].name)  # round 2 is not there, and round 3 begins with its weights
    found = fedfer("server", "verify-round", str(copied))
    assert refused(found, SecureAggregationError, "does not start from the weights", sessions[2].name)


def test_a_plain_run_says_that_the_coordinator_saw_it_all(tmp_path, fedfer):
    path = tmp_path / "run"
    words = [*TINY, "server.rounds=1", "local.amount=1", "aggregation=plain", "engine.workers=1"]
    assert fedfer("simulate", *words, "--run-dir", str(path))[0] == 0
    system = json.loads((path / "summary.json").read_text())["systems"]["federated"]
    assert (system["aggregation"], system["secure"], system["sites_note"]) == ("plain", None, None)
    for text in ((path / "report.html").read_text(), (path / "model" / "README.md").read_text()):
        assert "Plain aggregation: the coordinator saw what each site sent" in text
        assert "never saw" not in text
