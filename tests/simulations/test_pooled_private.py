"""Distributed noise from the command line, and the yardstick that it is held against."""

import json
from dataclasses import replace

import numpy as np
import pytest

from client.accounting import epsilon_of
from client.grid import grid_of, mechanism_of, plan_grid
from client.mechanisms import gaussian
from client.trust import trust_of
from fer_models import errors
from simulations.compose import composed
from simulations.pooled_private import one_site, pooled_private
from simulations.prepare import prepare

WORDS = ("privacy=distributed", "model=hog_linear", "local=private", "data.options.count=300")
WORDS += ("partition.sites=4", "server.rounds=6", "engine.workers=1", "seed=3", "server.evaluate_every=6")


def ready(*more):
    return prepare(composed([*WORDS, *more])[0])


@pytest.fixture(scope="module")
def prepared():
    return ready()


@pytest.mark.parametrize(("aggregation", "threshold"), [("secure", 3), ("plain", 4)])
def test_the_plan_shares_the_noise_among_the_fewest_sites_of_a_sum(aggregation, threshold):
    plan = ready(f"aggregation={aggregation}").plan
    privacy = plan.privacy
    assert (privacy.noise, privacy.threshold, privacy.colluders) == ("distributed", threshold, 0)
    assert privacy.parameters == 12_355
    assert privacy.resolution == 1 << 20
    assert plan_grid(plan).slack < 1e-8
    assert privacy.delta * privacy.nominal_units * 4 < 1
    spent = epsilon_of((replace(mechanism_of(plan), count=6),), privacy.delta).value
    assert 7.9 < spent <= 8.0
    less = epsilon_of(gaussian(privacy.noise_multiplier, plan.local.rate, 6), privacy.delta).value
    assert less < spent


def test_a_part_of_the_sites_a_round_is_a_smaller_sum():
    part = ready("server.participation=0.5", "privacy.colluders=1").plan
    assert (part.privacy.threshold, part.privacy.colluders) == (2, 1)
    assert grid_of(part.privacy, part.local.rate).share == pytest.approx(
        part.privacy.noise_multiplier * grid_of(part.privacy, part.local.rate).sensitivity
    )


def test_a_coarse_grid_is_paid_for():
    given, fine = ready("privacy.resolution=8192").plan, ready().plan
    assert given.privacy.resolution == 8192
    spent = epsilon_of((replace(mechanism_of(given), count=6),), given.privacy.delta).value
    assert 7.9 < spent <= 8.0
    assert given.privacy.noise_multiplier >= fine.privacy.noise_multiplier
    given = ready("privacy.target_epsilon=null", "privacy.noise_multiplier=2.5").plan
    assert given.privacy.noise_multiplier == 2.5


def test_the_yardstick_is_the_same_training_in_one_place(prepared):
    plan, pooled = prepared.plan, pooled_private(prepared.plan, 4)
    assert (pooled.model, pooled.local, pooled.server) == (plan.model, plan.local, plan.server)
    assert pooled.privacy.noise == "site"
    assert pooled.privacy.nominal_units == 4 * plan.privacy.nominal_units
    spent = epsilon_of((replace(mechanism_of(pooled), count=6),), pooled.privacy.delta).value
    assert 7.9 < spent <= 8.0
    assert pooled.privacy.noise_multiplier == pytest.approx(plan.privacy.noise_multiplier, rel=5e-3)
    everybody = one_site(prepared.samples)
    assert np.array_equal(everybody.rows(0, prepared.samples, "train"), prepared.samples.rows("train"))
    given = replace(plan, privacy=replace(plan.privacy, target_epsilon=None, noise_multiplier=3.0))
    assert pooled_private(given, 4).privacy.noise_multiplier == 3.0
    many = replace(plan, privacy=replace(plan.privacy, noise="site", threshold=1, delta=5e-4))
    assert pooled_private(many, 400).privacy.delta * 400 * plan.privacy.nominal_units < 1


REFUSED = [
    (("local.amount=2",), errors.PrivacyError, "(local.amount). Use local.amount=1"),
    (("server.weighting=size",), errors.PrivacyError, "(server.weighting)"),
    (("privacy.colluders=4",), errors.ConfigError, "(privacy.colluders). Give 0 to 3"),
    (("privacy.colluders=-1",), errors.ConfigError, "(privacy.colluders)"),
    (("privacy=dp", "privacy.colluders=1"), errors.ConfigError, "Use privacy.noise=distributed"),
    (("privacy.noise=shared",), errors.ConfigError, "(privacy.noise)"),
    (("privacy.resolution=1073741824",), errors.PrivacyError, "may leave 32 bits (privacy.resolution)"),
    (("privacy.resolution=2",), errors.PrivacyError, "too coarse for this noise (privacy.resolution)"),
    (("local.optimizer=adamw",), errors.ConfigError, "(local.optimizer). Use local.optimizer=sgd"),
    (("local.proximal=0.1",), errors.ConfigError, "(local.proximal)"),
]


@pytest.mark.parametrize(("words", "kind", "said"), REFUSED, ids=[each[0][-1] for each in REFUSED])
def test_what_cannot_be_is_one_line_and_no_run_folder(fedfer, refused, tmp_path, words, kind, said):
    found = fedfer("simulate", *WORDS, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, kind, said)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from simulations.cli import main

    path = tmp_path_factory.mktemp("shared") / "run"
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "compare",
                *WORDS,
                "baseline.systems=[]",
                "compare.without_privacy=false",
                "compare.probes=false",
                "--run-dir",
                str(path),
            ]
        )
    assert ended.value.code == 0
    return path


def test_summary_page_and_card_name_the_trust(folder, prepared):
    systems = json.loads((folder / "summary.json").read_text())["systems"]
    assert list(systems) == ["pooled_private", "federated"]
    assert not any("probes" in figures for figures in systems.values())
    trust = trust_of(prepared.plan.privacy, simulated=True, secure=prepared.plan.secure)
    assert "each more adds noise" in trust
    assert systems["federated"]["noise"] == "distributed"
    assert systems["federated"]["trust"] == trust
    assert 7.9 < systems["federated"]["epsilon"] <= 8
    assert len({site["epsilon"] for site in systems["federated"]["per_site"]}) == 1
    page, card = (folder / "report.html").read_text(), (folder / "model" / "README.md").read_text()
    for text in (page.replace("&#39;", "'"), card):
        assert trust in text
    assert "Pooled, private" in page
    assert "the sum of every round" in page
    assert "In one place, with the same epsilon, training reaches" in page
