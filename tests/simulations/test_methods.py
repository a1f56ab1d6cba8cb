"""``fedfer fairness``: every choice declares itself, and what is printed is what is declared."""

import json
from dataclasses import asdict

import pytest

from client.methods.registry import METHODS, method_of
from fer_models import errors
from simulations.compose import CONF, composed

CHOICES = sorted(path.stem for path in (CONF / "fairness").glob("*.yaml"))


def test_every_choice_is_declared_and_every_declared_method_can_be_chosen():
    assert sorted(METHODS) == CHOICES
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_declaration_says_something_in_every_line(name):
    told = asdict(METHODS[name])
    reasons = {key: told.pop(key) for key in ("plain", "secure", "private", "caution")}
    assert all(value.strip() for value in told.values())
    assert not (reasons["plain"] and reasons["secure"]), "works somewhere"


@pytest.mark.parametrize("name", METHODS)
def test_what_works_under_privacy_composes_there(name):
    words = ["privacy=dp", "privacy.target_epsilon=8", f"fairness={name}"]
    settings, _ = composed(words)
    asks = settings.privacy.counts_epsilon is not None
    assert asks == ("counts_epsilon" in METHODS[name].epsilon)


def test_methods_are_listed(fedfer):
    code, out, err = fedfer("fairness")
    assert (code, err) == (0, "")
    assert all(f" {name} " in out for name in METHODS)


def test_a_method_tells_all_about_itself(fedfer, tmp_path):
    code, out, _ = fedfer("fairness", "logit_adjustment", "--json", str(tmp_path / "methods.json"))
    assert code == 0
    for said in ("equation 9", "privacy.counts_epsilon", "under secure aggregation", "works"):
        assert said in out
    told = json.loads((tmp_path / "methods.json").read_text())
    assert told == {"methods": [asdict(method_of("logit_adjustment"))]}


def test_an_unknown_method_names_the_nearest(fedfer, refused):
    assert refused(fedfer("fairness", "focus"), errors.ConfigError, "Did you mean focal?")
