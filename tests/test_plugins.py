"""What other packages add, and what is wrong with it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from client.fairness import Fairness
from client.plan import Attribute, LocalWork, Secure, read_plan
from client.policy import read_policy
from client.policy_template import TEMPLATE
from fer_models import plugins
from fer_models.errors import ConfigError, ModelError
from fer_models.losses import build_loss
from fer_models.readers import names, options_of, read
from fer_models.stores import Cache
from fer_models.zoo import ModelSpec, build
from server.debiasing.steering import Steering
from simulations.doctor.versions import of_added

CODE = """
import numpy as np
import torch
from torch import nn

number = 3

def narrow(spec):
    return nn.Sequential(nn.Flatten(), nn.Linear(spec.channels * spec.size**2, 2))

def failing(spec):
    raise ValueError("too small\\nby far")

def drawn(spec):
    return nn.Sequential(nn.Flatten(), nn.Linear(spec.channels * spec.size**2, spec.classes))

def mean(logits, targets):
    return -(targets * logits.log_softmax(1)).sum(1).mean()

def scaled(logits, targets, *, strength=2.0):
    return -strength * (targets * logits.log_softmax(1)).sum(1)

def read(root, *, takes=2):
    return None

def worse(standing):
    return standing.before * np.exp(standing.step * standing.errors)

def none(standing):
    return np.zeros_like(standing.before)
"""
ADDED = {
    "models": {
        **{"narrow": "narrow", "failing": "failing", "drawn": "drawn", "fer_nano": "narrow"},
        "timm:lcnet_035": "narrow",
    },
    "losses": {"mean": "mean", "scaled": "scaled", "number": "number", "gone": "gone", "focal": "mean"},
    "readers": {"strange": "read"},
    "weightings": {"worse": "worse", "nothing": "none"},
}


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """A package that is installed, as its metadata says."""
    (tmp_path / "strange_things.py").write_text(CODE)
    facts = tmp_path / "strange_things-2.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-things\nVersion: 2.1\n")
    lines = []
    for kind, entries in ADDED.items():
        lines += [f"[fedfer.{kind}]", *(f"{name} = strange_things:{own}" for name, own in entries.items())]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "strange_things", raising=False)
    for kept in (plugins.added, plugins.load):
        kept.cache_clear()
    yield
    for kept in (plugins.added, plugins.load):
        kept.cache_clear()


def test_names_of_our_own_stay_our_own():
    assert isinstance(build(ModelSpec("fer_nano"), 0).get_parameter("head.weight"), torch.Tensor)
    assert build(ModelSpec("timm:lcnet_035", size=32), 0)(torch.zeros(2, 1, 32, 32)).shape == (2, 8)
    targets, logits = torch.eye(3), torch.randn(3, 3)
    assert build_loss("focal")(logits, targets).shape == (3,)
    assert LocalWork(loss="focal").is_added is False
    assert names()[-1] == "strange" and options_of("strange") == ("takes",)
    assert plugins.origin("models", "narrow") == "strange-things 2.1"


def test_a_name_that_two_packages_add_is_refused(tmp_path):
    facts = tmp_path / "more_things-0.3.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: more-things\nVersion: 0.3\n")
    (facts / "entry_points.txt").write_text("[fedfer.losses]\nscaled = strange_things:scaled\n")
    with pytest.raises(
        ConfigError, match=r"'scaled' is added by more-things 0\.3 and by strange-things 2\.1"
    ):
        plugins.load("losses", "scaled")
    assert callable(plugins.load("losses", "mean"))


def test_what_a_reader_of_another_package_reads_is_kept_nowhere(tmp_path):
    """Its code may change and nothing would tell; a reader of our own makes a store of as few files."""
    kept = Cache(tmp_path / "kept", from_files=0)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("one.png", "two.png"):
        Image.new("L", (48, 48)).save(pictures / name)
    (pictures / "metadata.csv").write_text("file_name,label\none.png,happiness\ntwo.png,anger\n")
    assert read("strange", pictures, cache=kept) is None
    assert not kept.folder.exists()
    assert len(read("imagefolder", pictures, cache=kept).labels) == 2
    assert kept.folder.exists()


def test_a_net_is_drawn_from_the_seed_and_leaves_the_global_generator_alone():
    spec = ModelSpec("drawn", size=16)
    before = torch.get_rng_state()
    one, same, other = (torch.cat([p.flatten() for p in build(spec, s).parameters()]) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("narrow", r"logits of shape \(2, 2\) for two pictures and 8 classes"),
        ("failing", "ValueError: too small"),
    ],
)
def test_a_net_that_is_none_is_refused_in_a_line(name, told):
    with pytest.raises(ModelError, match=told) as found:
        build(ModelSpec(name), 0)
    assert "\n" not in str(found.value)
    assert f"{name} of strange-things 2.1" in str(found.value)


def test_a_loss_has_its_strength_and_smoothing():
    targets, logits = torch.eye(3), torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    plain = build_loss("cross_entropy", smoothing=0.1)(logits, targets)
    torch.testing.assert_close(build_loss("scaled", smoothing=0.1)(logits, targets), 2 * plain)
    torch.testing.assert_close(build_loss("scaled", smoothing=0.1, strength=0.5)(logits, targets), plain / 2)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mean", r"\(\) for 3 pictures"),
        ("number", "'number' is no function"),
        ("gone", "cannot load 'gone': AttributeError"),
    ],
)
def test_a_loss_that_is_none_is_refused(name, told):
    with pytest.raises(ConfigError, match=told) as found:
        build_loss(name)(torch.zeros(3, 3), torch.eye(3))
    assert "strange-things 2.1" in str(found.value)


def test_a_new_site_refuses_what_it_has_not_admitted_and_loads_nothing_of_it(plan_of, tmp_path):
    """The package is installed there, and a coordinator asks for it."""
    (tmp_path / "policy.yaml").write_text(TEMPLATE)
    plan = plan_of(private=True, local={"loss": "scaled"})
    plan = replace(plan, model=ModelSpec("drawn", classes=3))
    assert read_plan(plan.text) == plan
    rules = [each.rule for each in read_policy(tmp_path / "policy.yaml").refusals(plan, 100)]
    assert {"training.models", "training.losses"} <= set(rules)
    assert "strange_things" not in sys.modules


def test_doctor_names_them_and_those_that_are_never_used():
    found = {each.what: each.level for each in of_added()}
    assert found["strange-things 2.1 adds 'drawn' to the models"] == "note"
    assert found["strange-things 2.1 adds 'worse' to the weightings"] == "note"
    never = [what for what, level in found.items() if level == "warning"]
    assert len(never) == 2
    assert all("is never used" in what and ("'fer_nano'" in what or "'focal'" in what) for what in never)


def steering(plan_of, weighting):
    plan = plan_of(rounds=4, weighting="uniform")
    return Steering(
        replace(
            plan,
            groups=(Attribute("age", ("old", "undisclosed", "young")),),
            fairness=Fairness("age", weighting=weighting, step=2.0),
            aggregation="secure",
            secure=Secure(sites=3, threshold=3, minimum=3, clip=16.0),
        )
    )


def test_a_rule_weighs_cells_and_goes_on_where_it_was(plan_of):
    one = steering(plan_of, "worse")
    one.begin(np.array([[30, 30, 30], [10, 10, 10], [0, 0, 0]]))
    tally = np.full((3, 3, 2), 0.1)
    tally[1, 2] = (0.19, 0.01)  # the second group's third class goes wrong
    tally[2] = 0
    one.take(tally.ravel(), 1)
    assert (one.weights() == 1).all(), "pictures count alike at first"
    one.take(tally.ravel(), 2)
    weights = one.weights()
    assert weights[1, 2] == weights.max() == 1
    assert np.unique(weights[:2]).size > 1 and (weights >= one.least).all()
    assert weights[0, 2] <= weights[2, 2] <= weights[1, 2], "the undisclosed have what the groups have"
    other = steering(plan_of, "worse")
    other.take_up(one.facts())
    for each in (one, other):
        each.take(tally.ravel(), 3)
    assert np.array_equal(one.weights(), other.weights())


def test_a_rule_without_positive_weights_is_refused(plan_of):
    one = steering(plan_of, "nothing")
    one.begin(np.full((3, 3), 10))
    with pytest.raises(ConfigError, match=r"nothing of strange-things 2\.1"):
        one.take(np.full((3, 3, 2), 0.05).ravel(), 3)
    with pytest.raises(ConfigError, match="Did you mean worse"):
        steering(plan_of, "worst")
