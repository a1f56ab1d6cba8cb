"""What the command line asks for: methods and seeds, and every mistake in them."""

import pytest

from fer_models.errors import ConfigError
from simulations.study.asked import asked, is_study, values_of

WORDS = ["data.options.count=300", "hydra.run.dir='x y'"]


@pytest.mark.parametrize(
    ("words", "study"),
    [
        (["fairness=none,focal"], True),
        (["fairness=focal", "seed=0,1"], True),
        (["fairness=focal", "seed=range(0,3)"], True),
        (["fairness=focal"], False),
        (["fairness=focal", "seed=3"], False),
        (["seed=0,1"], False),
        (["server.rounds=3,4"], False),
    ],
)
def test_several_methods_or_seeds_are_a_study(words, study):
    assert is_study(words) == study


def test_values_are_texts_in_their_order():
    assert values_of(["seed=range(2,5)"], "seed") == ["2", "3", "4"]
    assert values_of(["fairness=none,focal"], "fairness") == ["none", "focal"]
    assert values_of(["fairness=none"], "fairness") == ["none"]
    assert values_of(["seed=1"], "fairness") == []


def test_every_method_has_its_settings_and_all_share_the_rest():
    wanted = asked([*WORDS, "fairness=none,focal,logit_adjustment", "seed=4,2", "local.amount=7"])
    assert list(wanted.methods) == ["none", "focal", "logit_adjustment"]
    assert (wanted.seeds, wanted.first, str(wanted.folder)) == ((4, 2), "none", "x y")
    found = [wanted.settings(name, 2) for name in wanted.methods]
    assert [each.local.loss for each in found] == ["cross_entropy", "focal", "cross_entropy"]
    assert [each.server.adjustment for each in found] == [0.0, 0.0, 1.0]
    assert {(each.seed, each.local.amount, each.data.options["count"]) for each in found} == {(2, 7, 300)}
    assert wanted.place("focal", 4) == wanted.folder / "focal-seed-4"


def test_a_method_wins_over_an_experiment_and_a_word_over_both():
    settings = asked(["experiment=quickstart", "fairness=focal,none", "seed=0"]).methods["focal"]
    assert (settings.local.loss, settings.local.rate, settings.privacy.target_epsilon) == ("focal", 0.2, 8.0)
    assert (
        asked(["fairness=focal,none", "local.loss=cross_entropy"]).methods["focal"].local.loss
        == "cross_entropy"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fairness=none,focul"], "unknown choice 'focul' (fairness). Did you mean focal"),
        (["fairness=none,none"], "fairness=none is asked for twice"),
        (["fairness=none,focal", "seed=1,2,1"], "seed=1 is asked for twice"),
        (["fairness=none,focal", "seed=1,01"], "seed=1 is asked for twice"),
        (["fairness=none,focal", "seed=a"], "seed a is no whole number"),
        (["fairness=none,focal", "seed=0,-1"], "seed -1 is no whole number"),
        (["fairness=none,focal", "fairness=none"], "fairness is given twice"),
        (["fairness=none,focal", "server.rounds=2,3"], "several values (server.rounds)"),
        (["fairness=none,focal", "server.round=2"], "unknown key 'server.round'"),
    ],
)
def test_mistakes(words, said):
    with pytest.raises(ConfigError) as refused:
        asked([*WORDS, *words])
    assert said in str(refused.value)
