# pyright: reportOptionalMemberAccess=false
"""The plan: one text, one digest, and refusals at the site."""

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.plan import LONGEST, LocalWork, Secure, ServerWork, read_plan
from fer_models.errors import ConfigError, FedferError, PrivacyError

CANONICAL = (
    '{"aggregation":"plain","groups":[{"name":"age","values":["old","undisclosed"]}],"labels":["neutral","happiness"],'
    '"local":{"amount":4,"augment":true,"batch":32,"focusing":2.0,"gradient_clip":2.0,"learning_rate":0.1,"loss":"cross_entropy",'
    '"momentum":0.0,"optimizer":"sgd","prior":[],"proximal":0.0,"rate":0.1,"scope":"all","smoothing":0.0,'
    '"targets":"votes","tau":1.0,"unit":"steps","weight_decay":0.0},"model":{"channels":1,"classes":2,"dropout":0.2,"name":"fer_nano","norm":"gn",'
    '"size":48},"privacy":{"allow_slow":false,"clip":1.0,"colluders":0,"counts_epsilon":null,"delta":1e-05,'
    '"noise":"site","noise_multiplier":1.1,"nominal_units":400,"parameters":1,"resolution":65536,"target_epsilon":8.0,'
    '"threshold":1,"unit":"record","views":1},"run":"","secure":null,"seed":3,"server":{"adjustment":0.0,"beta2":0.99,"ema":0.0,'
    '"epsilon":1e-08,"evaluate_every":1,"learning_rate":1.0,"malicious":0,"momentum":0.0,"optimizer":"average",'
    '"participation":1.0,"rounds":50,"rule":"mean","schedule":"constant","weight_decay":0.0,'
    '"weighting":"uniform"},"version":1}'
)

PRIVATE = read_plan(CANONICAL)
PLAIN = dataclasses.replace(PRIVATE, privacy=None, server=ServerWork(), local=LocalWork())


def changed(plan, path, value):
    """Return the plan's plain data with one field changed."""
    facts = json.loads(plan.text)
    inner = facts
    *parents, last = path.split(".")
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return json.dumps(facts)


@pytest.mark.parametrize("plan", [PRIVATE, PLAIN])
def test_text_and_back(plan):
    again = read_plan(plan.text)
    assert again == plan
    assert again.text == plan.text
    assert again.digest == plan.digest
    assert read_plan(json.dumps(json.loads(plan.text), indent=2)) == plan, "spaces and order do not matter"
    assert plan.attributes == {"age": ("old", "undisclosed")}


@settings(deadline=None, max_examples=30)
@given(
    st.builds(
        LocalWork,
        unit=st.sampled_from(["steps", "epochs"]),
        amount=st.integers(1, 9),
        rate=st.floats(0, 1),
        batch=st.integers(1, 999),
        learning_rate=st.floats(1e-9, 10),
        momentum=st.floats(0, 0.99),
        augment=st.booleans(),
    ),
    st.integers(-(2**63), 2**63),
)
def test_any_plan_survives_its_text(local, seed):
    plan = dataclasses.replace(PLAIN, local=local, seed=seed)
    assert read_plan(plan.text) == plan
    assert read_plan(plan.text).digest == plan.digest


CHANGES = {
    "labels": ["neutral", "anger"],
    "groups": [],
    "seed": 4,
    "run": "r1",
    "model.name": "hog_linear",
    "model.norm": "none",
    "model.channels": 3,
    "model.size": 64,
    "model.dropout": 0.3,
    "local.unit": "steps",
    "local.amount": 5,
    "local.rate": 0.11,
    "local.batch": 33,
    "local.optimizer": "adamw",
    "local.learning_rate": 0.2,
    "local.momentum": 0.1,
    "local.weight_decay": 0.1,
    "local.gradient_clip": 0.0,
    "local.proximal": 0.1,
    "local.augment": False,
    "local.targets": "label",
    "local.scope": "head",
    "local.smoothing": 0.1,
    "local.tau": 0.5,
    "local.focusing": 1.0,
    "server.rounds": 51,
    "server.participation": 0.9,
    "server.optimizer": "adam",
    "server.learning_rate": 0.9,
    "server.momentum": 0.1,
    "server.beta2": 0.98,
    "server.epsilon": 1e-6,
    "server.weight_decay": 0.1,
    "server.schedule": "cosine",
    "server.ema": 0.1,
    "server.evaluate_every": 2,
    "server.rule": "median",
    "privacy.noise_multiplier": 1.2,
    "privacy.clip": 2.0,
    "privacy.delta": 1e-6,
    "privacy.nominal_units": 401,
    "privacy.target_epsilon": None,
    "privacy.unit": "subject",
    "privacy.views": 2,
    "privacy.allow_slow": True,
    "privacy.resolution": 1024,
    "privacy.parameters": 14_120,
}
ONE_VALUE = {
    "server.malicious",
    "version",
    "model.classes",
    "aggregation",
    "secure",
    "local.unit",
    "server.weighting",
}
ONE_VALUE |= {"privacy.noise", "privacy.threshold", "privacy.colluders"}
ONE_VALUE |= {"local.loss", "local.prior", "server.adjustment", "privacy.counts_epsilon"}
"""Fields of a private plan that cannot change by themselves."""


def paths(value, prefix=""):
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from paths(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_digest_depends_on_every_field():
    assert set(paths(json.loads(PRIVATE.text))) == set(CHANGES) | ONE_VALUE, "a new field needs a line here"
    plans = {path: read_plan(changed(PRIVATE, path, value)) for path, value in CHANGES.items()}
    for path in set(CHANGES) - ONE_VALUE:
        assert plans[path] != PRIVATE, path
    digests = {plan.digest for plan in plans.values()} | {PLAIN.digest}
    assert len(digests) == len(CHANGES) + 1
    assert PRIVATE.digest in digests, "local.unit=steps is what it was"


def test_the_canonical_text_and_its_digest_are_stable():
    """Ledgers and run folders name plans by their digest: a change here is a change of version."""
    plan = read_plan(CANONICAL)
    assert plan.text == CANONICAL
    assert (plan.model.name, plan.local.rate, plan.privacy.clip, plan.seed) == ("fer_nano", 0.1, 1.0, 3)
    assert plan.digest == hashlib.sha256(CANONICAL.encode()).hexdigest()


REFUSED = [
    ("version", 2, ConfigError, "version"),
    ("labels", ["neutral"], ConfigError, "labels"),
    ("model.classes", 3, ConfigError, "model.classes"),
    ("model.clases", 2, ConfigError, "plan.model"),
    ("model.norm", "xn", FedferError, "model"),
    ("local.amount", 0, ConfigError, "local.amount"),
    ("local.amount", 1.5, ConfigError, "plan.local.amount"),
    ("local.rate", 1.01, ConfigError, "local.rate"),
    ("local.rate", "0.1", ConfigError, "plan.local.rate"),
    ("local.batch", 0, ConfigError, "local.batch"),
    ("local.learning_rate", 0, ConfigError, "local.learning_rate"),
    ("local.momentum", 1.0, ConfigError, "local.momentum"),
    ("local.smoothing", -0.1, ConfigError, "local.smoothing"),
    ("local.weight_decay", -1e-9, ConfigError, "local.weight_decay"),
    ("local.gradient_clip", -1, ConfigError, "local.gradient_clip"),
    ("local.proximal", -1, ConfigError, "local.proximal"),
    ("local.optimizer", "adam", ConfigError, "plan.local.optimizer"),
    ("local.targets", "vote", ConfigError, "plan.local.targets"),
    ("local.augment", 1, ConfigError, "plan.local.augment"),
    ("server.rounds", 0, ConfigError, "server.rounds"),
    ("server.participation", 0, ConfigError, "server.participation"),
    ("server.learning_rate", -1, ConfigError, "server.learning_rate"),
    ("server.momentum", 1, ConfigError, "server.momentum"),
    ("server.beta2", 1, ConfigError, "server.beta2"),
    ("server.ema", 1, ConfigError, "server.ema"),
    ("server.evaluate_every", 0, ConfigError, "server.evaluate_every"),
    ("server.schedule", "step", ConfigError, "plan.server.schedule"),
    ("server.rule", "geomed", ConfigError, "plan.server.rule"),
    ("server.malicious", 1, ConfigError, "server.rule"),
    ("server.malicious", -1, ConfigError, "server.malicious"),
    ("groups", [{"name": "age"}], ConfigError, "plan.groups[0].values"),
    ("privacy.noise_multiplier", 0, ConfigError, "privacy.noise_multiplier"),
    ("privacy.noise_multiplier", float("nan"), ConfigError, "plan.privacy.noise_multiplier"),
    ("privacy.clip", float("inf"), ConfigError, "plan.privacy.clip"),
    ("privacy.clip", 0, ConfigError, "privacy.clip"),
    ("privacy.delta", 0, ConfigError, "privacy.delta"),
    ("privacy.delta", 1, ConfigError, "privacy.delta"),
    ("privacy.nominal_units", 0, ConfigError, "privacy.nominal_units"),
    ("privacy.unit", "family", ConfigError, "plan.privacy.unit"),
    ("privacy.views", 0, ConfigError, "privacy.views"),
    ("privacy.views", 65, ConfigError, "privacy.views"),
    ("privacy.target_epsilon", float("nan"), ConfigError, "plan.privacy.target_epsilon"),
    ("run", "a run", ConfigError, "run"),
    ("run", "r" * 65, ConfigError, "run"),
    ("secret", 1, ConfigError, "plan"),
    ("aggregation", "secure", ConfigError, "secure"),
    ("aggregation", "masked", ConfigError, "plan.aggregation"),
    ("secure", {"sites": 5, "threshold": 4, "minimum": 3, "clip": 8.0}, ConfigError, "secure"),
    ("secure", {"sites": 5, "threshold": 4, "minimum": 3}, ConfigError, "plan.secure.clip"),
    # What would void the guarantee.
    ("local.rate", 0, PrivacyError, "local.rate"),
    ("local.unit", "epochs", PrivacyError, "local.unit"),
    ("server.weighting", "size", PrivacyError, "server.weighting"),
    ("privacy.delta", 0.0025, PrivacyError, "privacy.delta"),
    # What is of distributed noise alone.
    ("privacy.noise", "shared", ConfigError, "plan.privacy.noise"),
    ("privacy.noise", "distributed", PrivacyError, "local.amount"),
    ("privacy.threshold", 2, ConfigError, "privacy.colluders"),
    ("privacy.colluders", 1, ConfigError, "privacy.colluders"),
    ("privacy.resolution", 0, ConfigError, "privacy.resolution"),
    ("privacy.parameters", 0, ConfigError, "privacy.parameters"),
]

SHARED = dataclasses.replace(
    PRIVATE,
    local=dataclasses.replace(PRIVATE.local, amount=1),
    privacy=dataclasses.replace(PRIVATE.privacy, noise="distributed", threshold=5, colluders=2),
)
REFUSED_SHARED = [
    ("local.amount", 2, PrivacyError, "local.amount"),
    ("local.optimizer", "adamw", ConfigError, "local.optimizer"),
    ("local.weight_decay", 0.1, ConfigError, "local.weight_decay"),
    ("local.proximal", 0.1, ConfigError, "local.proximal"),
    ("local.rate", 0, PrivacyError, "local.rate"),
    ("server.weighting", "size", PrivacyError, "server.weighting"),
    ("privacy.threshold", 0, ConfigError, "privacy.threshold"),
    ("privacy.threshold", 2, ConfigError, "privacy.colluders"),
    ("privacy.colluders", 5, ConfigError, "privacy.colluders"),
    ("server.rule", "median", PrivacyError, "server.rule"),
    ("privacy.colluders", -1, ConfigError, "privacy.colluders"),
    ("privacy.resolution", 2**31, ConfigError, "privacy.resolution"),
    ("privacy.delta", 0.0006, PrivacyError, "privacy.delta"),
]


SECURE = dataclasses.replace(
    SHARED,
    aggregation="secure",
    secure=Secure(sites=7, threshold=5, minimum=5, clip=8.0, colluders=2),
)
REFUSED_SECURE = [
    ("aggregation", "plain", ConfigError, "secure"),
    ("secure", None, ConfigError, "secure"),
    ("secure.largest_weight", 2, ConfigError, "aggregation.largest_weight"),
    ("server.rule", "krum", ConfigError, "server.rule"),
    ("secure.degree", 1.0, ConfigError, "plan.secure.degree"),
    ("secure.profile", "honest", ConfigError, "plan.secure.profile"),
    ("privacy.threshold", 4, ConfigError, "privacy.threshold"),
    ("privacy.threshold", 7, ConfigError, "privacy.threshold"),
    ("privacy.colluders", 1, ConfigError, "privacy.threshold"),
    ("privacy.delta", 1 / (7 * 400), PrivacyError, "privacy.delta"),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "kind", "where"),
    [(PRIVATE, *each) for each in REFUSED]
    + [(SHARED, *each) for each in REFUSED_SHARED]
    + [(SECURE, *each) for each in REFUSED_SECURE],
)
def test_refusals_name_the_place_and_the_cure_in_one_line(base, path, value, kind, where):
    with pytest.raises(kind) as error:
        read_plan(changed(base, path, value))
    assert error.value.where == where
    assert error.value.cure.endswith((".", "?"))
    assert "\n" not in str(error.value)


def test_terms_of_secure_aggregation_are_part_of_the_plan_and_its_digest():
    plain = dataclasses.replace(SECURE, aggregation="plain", secure=None)
    digests = {SECURE.digest, plain.digest}
    for change in ({"sites": 8, "threshold": 6}, {"clip": 4.0}, {"minimum": 6}):
        secure = dataclasses.replace(SECURE.secure, **change)
        privacy = dataclasses.replace(SECURE.privacy, threshold=secure.fewest)
        plan = dataclasses.replace(SECURE, secure=secure, privacy=privacy)
        assert read_plan(plan.text) == plan
        digests.add(plan.digest)
    assert len(digests) == 5
    assert (SECURE.most_sites, plain.most_sites, PRIVATE.most_sites, PLAIN.most_sites) == (7, 5, 1, 1)


def test_delta_just_below_one_over_the_records_is_allowed():
    assert read_plan(changed(PRIVATE, "privacy.delta", 0.0024)).privacy.delta == 0.0024


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", '"plan"', "[" * 100_000, "{" + " " * LONGEST + "}", '{"labels":']
)
def test_what_is_no_plan_is_refused_as_such(text):
    with pytest.raises(ConfigError) as error:
        read_plan(text)
    assert error.value.where == "plan"
    assert len(str(error.value)) < 200
