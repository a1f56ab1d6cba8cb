"""Words of the command line become settings; every mistake is one line with its key and the cure."""

import dataclasses
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fer_models.errors import ConfigError
from simulations.compose import CONF, composed, configuration, folder_override, known_keys, readable
from simulations.settings import Settings

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
GROUPS = {
    path.parent.name: [each.stem for each in sorted(path.parent.glob("*.yaml"))]
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "experiment"
}


def settings(*words):
    return composed(words)[0]


# What can be said


def test_the_defaults_are_a_whole_run():
    found = settings()
    assert isinstance(found, Settings)
    assert (found.data.reader, found.data.options) == ("faces", {"count": 10000})
    assert (found.model.name, found.server.optimizer, found.privacy.enabled) == ("fer_small", "adam", False)
    own = set(GROUPS) - {"fairness"}  # a method sets keys of other groups
    assert all(dataclasses.is_dataclass(getattr(found, group)) for group in own)


def test_groups_keys_and_values():
    found = settings(
        "server=fedavg", "server.rounds=7", "model=fer_nano", "data.groups=[age,gender]", "seed=5"
    )
    assert (found.server.optimizer, found.server.rounds, found.seed) == ("average", 7, 5)
    assert (found.model.name, found.data.groups) == ("fer_nano", ["age", "gender"])
    assert settings("privacy=dp", "privacy.target_epsilon=null").privacy.target_epsilon is None


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes(name):
    found = settings(f"experiment={name}")
    assert found.name == name.replace("_", "-")
    assert found != settings()


@pytest.mark.parametrize("turn", range(max(map(len, GROUPS.values()))))
def test_every_choice_of_every_group_composes(turn):
    chosen = {group: choices[turn % len(choices)] for group, choices in GROUPS.items()}
    found = settings(*(f"{group}={choice}" for group, choice in chosen.items()))
    assert found.model.name == chosen["model"]
    assert found.partition.kind == chosen["partition"]
    assert found.engine.name == chosen["engine"]


def test_an_experiment_can_be_changed():
    found = settings("experiment=quickstart", "server.rounds=3", "model=fer_nano", "partition=iid")
    assert (found.server.rounds, found.model.name, found.partition.kind) == (3, "fer_nano", "iid")
    assert (found.partition.sites, found.privacy.target_epsilon) == (8, 8.0)


def test_options_of_a_reader_need_no_plus():
    for plus in ("", "+", "++"):
        found = settings(f"{plus}data.options.label_noise=0.25", "data.options.count=7")
        assert found.data.options == {"count": 7, "label_noise": 0.25}
    assert settings(r"data.options.intensity_by={age\=old: 0.3}").data.options["intensity_by"] == {
        "age=old": 0.3
    }


def test_nets_of_timm_are_names():
    assert settings("model=timm:resnet18", "model.dropout=0").model.name == "timm:resnet18"


@pytest.mark.parametrize(
    "folder",
    [
        "/data/faces",
        "~/faces",
        "my faces",
        "a=b",
        "it's",
        'say "x"',
        "(old)",
        "50%",
        "C:\\x",
        "\\'",
        "größer",
    ],
)
def test_folders_need_no_quotes(folder):
    assert settings("data=imagefolder", f"data.root={folder}").data.root == folder
    assert composed([folder_override("hydra.run.dir", folder)])[1] == Path(folder)


def test_quoted_folders_and_interpolations_are_left_to_hydra():
    assert settings("data.root='/a b'").data.root == "/a b"
    assert settings("name=here", "data.root=${name}").data.root == "here"


def test_a_run_has_a_folder_of_its_own_name():
    assert str(composed(["name=mine"])[1]).startswith("runs/mine-20")
    assert str(composed(["experiment=london"])[1]).startswith("runs/london-20")


def test_the_configuration_can_be_read_back():
    config = configuration(["experiment=quickstart", "seed=4"])
    plain = OmegaConf.to_yaml(OmegaConf.structured(settings("experiment=quickstart", "seed=4")))
    found = OmegaConf.to_container(config)
    assert isinstance(found, dict)
    del found["hydra"]
    assert found == OmegaConf.to_container(OmegaConf.create(plain))


def test_composing_twice_is_composing_once():
    assert settings("server.rounds=3") == settings("server.rounds=3")
    with pytest.raises(ConfigError):
        settings("server.round=3")
    assert settings().server.rounds != 3


# Mistakes


@pytest.mark.parametrize(
    ("word", "what", "where", "cure"),
    [
        ("server.round=3", "unknown key 'server.round'", "command line", "server.rounds"),
        ("server.foo=3", "unknown key 'server.foo'", "command line", "server.ema"),
        ("server.bananas=3", "unknown key 'server.bananas'", "command line", "server."),
        ("foo=1", "unknown key 'foo'", "command line", "Use one of aggregation, baseline, compare,"),
        ("+foo=1", "unknown key 'foo'", "command line", "Use one of aggregation, baseline, compare,"),
        ("planets=mars", "unknown key 'planets'", "command line", "partition"),
        ("model=fer_smal", "unknown choice 'fer_smal'", "model", "fer_small"),
        ("experiment=quickstat", "unknown choice 'quickstat'", "experiment", "quickstart"),
        ("data=cifar", "unknown choice 'cifar'", "data", "Did you mean caers?"),
        ("data=zzz", "unknown choice 'zzz'", "data", "Use one of affectnet, caers, "),
        (
            "server.rounds=many",
            "Value 'many' of type 'str' could not be converted to Integer",
            "server.rounds",
            "G",
        ),
        (
            "server.rounds=1.5",
            "could not be converted to Integer",
            "server.rounds",
            "Give a value of that kind.",
        ),
        ("server.rounds=null", "is not Optional", "server.rounds", "Give a value of that kind."),
        ("local.augment=maybe", "not a valid bool", "local.augment", "Give"),
        ("data.options=3", "Cannot assign int", "data.options", "Give"),
        ("data.groups=age", "not a ListConfig", "data.groups", "Give"),
        ("server=3", "Config group override must be a string", "command line", "--help"),
        ("server.rounds=1,2", "several values", "server.rounds", "--multirun"),
        ("seed=-1", "seed -1 is negative", "seed", "Give 0 or more."),
        ("data.root=${nowhere}", "Interpolation key 'nowhere' not found", "data.root", "Give"),
        ("data", "cannot read 'data'", "command line", "KEY=VALUE"),
        ("===", "cannot read '==='", "command line", "KEY=VALUE"),
        ("a b=(", "cannot read 'a b=('", "command line", "quotes"),
        ("--foo", "cannot read '--foo'", "command line", "KEY=VALUE"),
    ],
)
def test_a_mistake_is_one_line_with_its_place_and_the_cure(word, what, where, cure):
    with pytest.raises(ConfigError) as error:
        settings(word)
    found = error.value
    assert what in found.what
    assert found.where == where
    assert cure in found.cure
    assert "\n" not in str(found)
    assert len(str(found)) < 400
    assert "hydra.cc" not in str(found)
    assert "object_type" not in str(found)


def test_known_keys_are_all_settings():
    keys = set(known_keys())
    assert {"seed", "server", "server.rounds", "privacy.target_epsilon", "compare.without_privacy"} <= keys
    assert len(keys) > 50


def test_words_stay_as_they_are_where_nothing_is_to_be_done():
    words = ["server.rounds=3", "experiment=quickstart", "data.root=a,b", "data.groups=[age]", "~experiment"]
    assert readable(words) == words
