"""What the ladder's words ask for."""

import pytest

from fer_models.errors import ConfigError
from simulations.ladder.rungs import DEBIASED, RUNGS, TRAININGS, asked, is_ladder

WORDS = ["experiment=study", "hydra.run.dir=x"]


def test_every_rung_has_a_recipe_and_all_share_data_split_and_net():
    wanted = asked(WORDS)
    assert is_ladder(WORDS)
    assert (list(wanted.methods), wanted.seeds) == (list(TRAININGS), (0, 1, 2, 3, 4))
    found = list(wanted.methods.values())
    assert all(each.data == found[0].data and each.partition == found[0].partition for each in found)
    assert all(each.model == found[0].model for each in found)
    assert [(each.privacy.enabled, each.privacy.noise, each.aggregation.kind) for each in found] == [
        (False, "site", "plain"),
        (True, "site", "plain"),
        (True, "distributed", "secure"),
        (True, "distributed", "secure"),
    ]
    assert [each.server.optimizer for each in found] == ["average", "adam", "adam", "adam"]
    assert [each.fairness.method for each in found] == ["none", "none", "none", "critic_private"]
    assert {rung.training for rung in RUNGS} == {*TRAININGS, "int8"}


def test_words_hold_for_all_rungs_and_fairness_for_its_own():
    wanted = asked([*WORDS, "seed=3,1", "fairness=reweighing", "privacy.target_epsilon=2", "server.rounds=7"])
    assert wanted.seeds == (3, 1)
    assert [each.fairness.method for each in wanted.methods.values()] == ["none"] * 3 + ["reweighing"]
    values = {
        (each.seed, each.privacy.target_epsilon, each.server.rounds) for each in wanted.methods.values()
    }
    assert values == {(3, 2.0, 7)}
    assert wanted.place(DEBIASED, 1) == wanted.folder / "debiased-seed-1"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("privacy=dp", "the ladder takes no privacy: each rung chooses it"),
        ("server=fedadam", "the ladder takes no server"),
        ("tolerance=x.yaml", "the ladder takes no tolerance"),
        ("--multirun", "one table over its seeds"),
        ("fairness=none", "a rung of debiasing without a method"),
        ("seed=1,1", "seed=1 is asked for twice"),
        ("fairness=focal,critic", "several values"),
    ],
)
def test_mistakes(word, said):
    with pytest.raises(ConfigError) as refused:
        asked([*WORDS, word])
    assert said in str(refused.value)
