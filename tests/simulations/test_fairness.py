"""Fair training from the command line: what runs, what is told, and what is refused in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from client.methods.registry import METHODS
from fer_models import errors
from simulations.compose import composed
from simulations.fairness import notes_of, opting_out, with_intersections
from simulations.prepare import prepare
from simulations.settings import FairnessSettings

DATA = (
    "experiment=quickstart",
    "data.options.count=240",
    "privacy.enabled=false",
    "model=cnn_tiny",
    "local=steps",
)
WORDS = (*DATA, "partition.sites=3", "server=fedadam", "server.rounds=3", "engine.workers=1")
WORDS += ("fairness.attribute=gender",)
FAIR = (*WORDS, "fairness=critic")


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    from simulations.cli import main

    path = tmp_path_factory.mktemp("fair") / "run"
    with pytest.raises(SystemExit) as ended:
        words = ("compare", *FAIR, "fairness.opt_out=0.4", "fairness.tolerance=0.02")
        main([*words, "--run-dir", str(path)])
    assert ended.value.code == 0
    return json.loads((path / "summary.json").read_text())


def test_the_same_federation_runs_without_it_too(summary):
    assert summary["order"] == ["pooled", "local_only", "federated_without_fairness", "federated"]
    assert "fairness" not in summary["systems"]["federated_without_fairness"]


def test_the_summary_tells_what_was_done(summary):
    told = summary["systems"]["federated"]["fairness"]
    assert (told["method"], told["attribute"], told["adversary"]) == ("critic", "gender", "critic")
    assert told["groups"] == ["man", "woman"]
    assert told["opted_out"] == 1
    assert np.shape(told["weights"]) == (3, 7)
    assert len(told["record"]) == 3
    assert told["met"] in (True, False)
    assert sum(told["shares"]) == pytest.approx(1, abs=1e-3)
    learned = summary["systems"]["federated"]["learned"]
    assert "by class and group" in learned
    assert "gender" in learned


@pytest.mark.parametrize("noise", ["site", "distributed"])
def test_under_privacy_it_keeps_the_target(tmp_path, fedfer, noise):
    words = (
        "privacy.enabled=true",
        f"privacy.noise={noise}",
        "privacy.allow_useless=true",
        "privacy.clip=2.0",
    )
    words += ("local=private", "server=fedadam_private", "server.rounds=3", "server.evaluate_every=3")
    found = fedfer("simulate", *FAIR, *words, "--run-dir", str(tmp_path / "run"))
    assert found[0] == 0, found[2]
    federated = json.loads((tmp_path / "run" / "summary.json").read_text())["systems"]["federated"]
    assert 7.9 < federated["epsilon"] <= 8
    assert federated["counts_epsilon"] == 0.5
    assert federated["fairness"]["weights"] is not None


def test_intersections_are_groups_like_any_other():
    words = tuple(word for word in FAIR if "attribute" not in word)
    plan = prepare(composed((*words, "fairness.attribute=gender*age"))[0]).plan
    assert "gender*age" in plan.attributes
    assert set(plan.disclosed) <= {f"{g} & {a}" for g in ("man", "woman") for a in plan.attributes["age"]}
    assert len(plan.disclosed) >= 4


def test_whoever_is_undisclosed_in_one_is_undisclosed_in_both(small):
    groups = {"age": np.array(["old", "undisclosed", "young"]), "sex": np.array(["a", "b", "undisclosed"])}
    table = replace(small.take(np.arange(3)), groups=groups)
    wanted = FairnessSettings(attribute="age*sex", adversary="critic")
    found = with_intersections(table, wanted).groups["age*sex"]
    assert found.tolist() == ["old & a", "undisclosed", "undisclosed"]
    assert with_intersections(table, FairnessSettings(attribute="age*sex")) is table, "no method, no column"


def test_few_people_are_told_of(small):
    fairness = prepare(composed(FAIR)[0]).plan.fairness
    assert fairness is not None
    people = np.repeat(np.arange(15), 6)
    table = replace(small, subject=people, groups={"gender": np.where(people < 5, "man", "woman")})
    [note] = notes_of(fairness, ("man",), table)
    assert note.startswith("gender man has 5 people in training: fewer than 10")


def test_under_privacy_weights_are_told_to_cost_signal():
    words = (
        "experiment=quickstart",
        "data.options.count=240",
        "privacy.allow_useless=true",
        "model=cnn_tiny",
    )
    for method, told in (("critic", True), ("critic_private", False)):
        plan = prepare(composed((*words, f"fairness={method}", "fairness.attribute=gender"))[0])
        assert any("weights after the clip" in said for said in plan.warnings) == told


def test_who_opts_out_follows_from_the_seed():
    wanted = FairnessSettings(adversary="critic", opt_out=0.5)
    drawn = opting_out(wanted, 12, 3)
    assert len(drawn) == 6
    assert drawn == opting_out(wanted, 12, 3) != opting_out(wanted, 12, 4)
    assert opting_out(FairnessSettings(opt_out=0.5), 12, 3) == frozenset()


REFUSED = [
    (("fairness.attribute=shoes",), errors.ConfigError, "no site tells 'shoes' (fairness.attribute)"),
    (("fairness.attribute=",), errors.ConfigError, "which groups are meant is not said (fairness.attribute)"),
    (("fairness.attribute=gender*shoes",), errors.ConfigError, "no site tells 'shoes'"),
    (("data.groups=[age]",), errors.ConfigError, "gender is not audited"),
    (("aggregation=plain",), errors.PrivacyError, "aggregation=secure with three sites or more"),
    (("partition.sites=2",), errors.PrivacyError, "would reach the coordinator by itself"),
    (("server.participation=0.5", "partition.sites=8"), errors.PrivacyError, "sums over changing sites"),
    (("fairness.opt_out=1.5",), errors.ConfigError, "an opt-out of 1.5"),
    (("fairness.adversary=critique",), errors.ConfigError, "unknown value 'critique' (fairness.adversary)"),
    (("fairness.tolerance=-1",), errors.ConfigError, "a tolerance of -1"),
    (("model=hog_linear",), errors.ModelError, "no critic can change the features"),
    (("local.scope=head",), errors.ModelError, "no critic can change the features"),
]


@pytest.mark.parametrize(("words", "kind", "what"), REFUSED, ids=[row[0][0] for row in REFUSED])
def test_mistakes_end_in_one_line(tmp_path, fedfer, refused, words, kind, what):
    found = fedfer("simulate", *FAIR, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, kind, what)
    assert not (tmp_path / "run").exists()


def test_canaries_do_not_follow_a_critic(tmp_path, fedfer, refused):
    words = ("privacy.enabled=true", "local=private", "privacy.allow_useless=true")
    found = fedfer("audit-privacy", *FAIR, *words, "--run-dir", str(tmp_path / "run"))
    assert refused(found, errors.ConfigError, "not followed through a critic", "fairness=none")


# Rules for sites


TINY = (
    "data.options.count=210",
    "model=cnn_tiny",
    "partition.sites=3",
    "server.rounds=2",
    "engine.workers=1",
)


@pytest.mark.parametrize("rule", ["q_ffl", "afl", "fairfed"])
def test_a_rule_for_sites_runs_in_plain_and_says_what_it_shows(fedfer, tmp_path, rule):
    words = [f"fairness={rule}", *(["fairness.attribute=gender"] if rule == "fairfed" else [])]
    code, out, _ = fedfer("simulate", *TINY, *words, "--run-dir", str(tmp_path / "run"))
    assert code == 0
    assert f"warning: aggregation is plain: {rule} shows the coordinator {METHODS[rule].reveals}" in out
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    assert (plan["aggregation"], plan["server"]["by_site"]["rule"]) == ("plain", rule)


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["fairness=afl", "aggregation=secure"], errors.PrivacyError, METHODS["afl"].secure),
        (
            ["fairness=afl", "privacy=dp", "privacy.target_epsilon=8"],
            errors.PrivacyError,
            METHODS["afl"].private,
        ),
        (["fairness.sites=qffl"], errors.ConfigError, "Did you mean q_ffl?"),
        (["fairness=fairfed"], errors.ConfigError, "which groups are meant is not said"),
        (["fairness=fairfed", "fairness.attribute=hat"], errors.ConfigError, "no site tells 'hat'"),
        (["fairness=afl", "server.participation=0.5"], errors.ConfigError, "only some answer"),
        (
            ["fairness=critic", "fairness.attribute=gender", "fairness.sites=afl"],
            errors.ConfigError,
            "sees single",
        ),
    ],
)
def test_a_rule_that_cannot_see_its_sites_is_refused(fedfer, refused, tmp_path, words, kind, said):
    assert refused(fedfer("simulate", *TINY, *words, "--run-dir", str(tmp_path / "run")), kind, said)
    assert not (tmp_path / "run").exists()


def test_people_of_an_intersection_may_be_what_a_rule_goes_by(fedfer, tmp_path):
    words = ["fairness=fairfed", "fairness.attribute=gender*age", "fairness.opt_out=0.34"]
    assert fedfer("simulate", *TINY, *words, "--run-dir", str(tmp_path / "run"))[0] == 0
