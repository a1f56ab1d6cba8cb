"""From settings to samples with a split, sites and a plan: numbers by hand, mistakes by key."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import simulations.prepare as preparing
from client.accounting import epsilon_of
from client.mechanisms import gaussian
from client.plan import LocalWork, Plan, ServerWork
from client.training import batch_size
from fer_models.errors import ConfigError, DataError, ModelError, PartitionError, PrivacyError
from fer_models.splits import copies
from server.drawing import cohort
from simulations.prepare import audited, expected_epochs, load, most_rounds, outlook_of, prepare, split
from simulations.settings import (
    DataSettings,
    LocalSettings,
    ModelSettings,
    PartitionSettings,
    PrivacySettings,
    ServerSettings,
    Settings,
)


def settings(**parts):
    base = {
        "data": DataSettings(reader="faces", options={"count": 240}),
        "partition": PartitionSettings(sites=4),
        "model": ModelSettings("cnn_tiny"),
        "server": ServerSettings(rounds=5),
        "seed": 2,
    }
    return Settings(**{**base, **parts})


@pytest.fixture(scope="module")
def ready():
    return prepare(settings())


# Samples and split


def test_drawn_faces_follow_the_settings():
    data = DataSettings(
        reader="faces", size=40, channels=3, options={"count": 30, "labels": ["fear", "anger"]}
    )
    samples = load(data, 1)
    assert (len(samples), samples.size, samples.channels, samples.labels) == (30, 40, 3, ("fear", "anger"))
    assert np.array_equal(samples.pictures, load(data, 1).pictures)
    assert not np.array_equal(samples.pictures, load(data, 2).pictures)


def test_people_and_copies_stay_on_one_side(ready):
    samples = ready.samples
    train, test = samples.rows("train"), samples.rows("test")
    assert len(train) + len(test) == 240
    assert 0.15 < len(test) / 240 < 0.25
    assert not set(samples.subject[train]) & set(samples.subject[test])
    same = copies(samples)
    assert not set(same[train]) & set(same[test])
    for site in range(4):
        assert len(ready.partition.rows(site, samples, "train")) >= 10


def test_an_official_test_part_stays_as_it_is_and_loses_its_copies_elsewhere(small):
    pictures = small.pictures.copy()
    test, train = small.rows("test"), small.rows("train")
    pictures[train[0]] = pictures[train[5]] = pictures[test[2]]
    samples = replace(small, pictures=pictures, skipped={"unreadable": 1})
    for kind in ("auto", "official"):
        found = split(samples, DataSettings(reader="x", split=kind), 0)
        assert found.source[found.rows("test")].tolist() == small.source[test].tolist()
        assert len(found.rows("train")) == len(train) - 2
        assert found.skipped == {"unreadable": 1, "copy of a test picture": 2}
    assert split(small, DataSettings(reader="x"), 0) is small


def test_holding_out_ignores_the_official_part_only_when_asked(small):
    held = split(replace(small, split=np.full(90, "train")), DataSettings(reader="x", test=0.3), 5)
    assert len(held.rows("test")) == 27
    again = split(replace(small, split=np.full(90, "train")), DataSettings(reader="x", test=0.3), 5)
    assert np.array_equal(held.split, again.split)


# The plan


def test_a_plan_holds_what_the_settings_say(ready):
    plan = ready.plan
    assert plan.labels == ready.samples.labels
    assert (plan.model.name, plan.model.classes, plan.model.size) == ("cnn_tiny", 7, 48)
    assert plan.server == ServerWork(rounds=5, weighting="size")
    assert plan.local == LocalWork()
    assert plan.privacy is None
    assert plan.attributes.keys() == {"gender", "age", "skin_tone"}
    assert plan.attributes["age"] == tuple(sorted(set(ready.samples.groups["age"])))
    assert plan.seed == 2
    assert isinstance(plan, Plan)


def test_attributes_are_those_asked_for(small):
    assert [each.name for each in audited(small, [])] == ["age"]
    with pytest.raises(ConfigError, match="unknown attribute 'skin'") as error:
        audited(small, ["skin"])
    assert (error.value.where, error.value.cure) == ("data.groups", "Known: age.")
    with pytest.raises(ConfigError, match="no groups"):
        audited(replace(small, groups={}), ["age"])


def annotated(folder):
    """A folder of 96 pictures that four annotators, known by number, have labelled."""
    rng, lines = np.random.default_rng(0), ["file_name,label,subject,gender,annotator,split"]
    for i in range(96):
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(folder / f"{i}.png")
        person, split = i // 2, "test" if i % 8 > 5 else "train"
        word, gender = ("neutral", "happiness")[i % 2], ("female", "male")[person % 2]
        lines.append(f"{i}.png,{word},p{person},{gender},{3 * (i // 8 % 4)},{split}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return DataSettings(
        reader="imagefolder",
        root=str(folder),
        groups=["gender"],
        options={"groups": ["gender", "annotator"], "bands": {"annotator": []}},
    )


def test_sites_follow_annotators_who_are_not_audited(tmp_path):
    by_annotator = PartitionSettings(kind="column", attribute="annotator", sites=4)
    data = annotated(tmp_path)
    found = prepare(settings(data=data, partition=by_annotator))
    held = [set(found.samples.groups["annotator"][found.partition.site == site]) for site in range(4)]
    assert sorted(map(sorted, held)) == [["0"], ["3"], ["6"], ["9"]]
    assert found.plan.attributes == {"gender": ("female", "male")}
    unaudited = prepare(settings(data=replace(data, groups=["none"]), partition=by_annotator))
    assert unaudited.plan.attributes == {}
    two = prepare(settings(data=data, partition=replace(by_annotator, sites=2)))
    assert np.bincount(two.partition.site[two.samples.split == "train"]).tolist() == [36, 36]


def private(**changes):
    facts = {"enabled": True, "target_epsilon": 3.0, "allow_useless": True, **changes}
    return settings(privacy=PrivacySettings(**facts), local=LocalSettings(rate=0.1, amount=2))


def test_noise_is_the_least_that_keeps_the_target():
    plan = prepare(private()).plan
    privacy = plan.privacy
    assert privacy is not None
    assert plan.server.weighting == "uniform"
    rows = round(len(prepare(settings()).samples.rows("train")) / 4)
    assert (privacy.nominal_units, privacy.delta, privacy.target_epsilon) == (
        rows,
        min(1e-5, 0.1 / rows),
        3.0,
    )
    steps = 5 * 2
    assert epsilon_of(gaussian(privacy.noise_multiplier, 0.1, steps), privacy.delta).value <= 3.0
    assert epsilon_of(gaussian(privacy.noise_multiplier * 0.99, 0.1, steps), privacy.delta).value > 3.0


def test_a_given_noise_multiplier_is_taken(ready):
    privacy = prepare(
        private(target_epsilon=None, noise_multiplier=1.5, delta=1e-4, nominal_units=30)
    ).plan.privacy
    assert privacy is not None
    assert (privacy.noise_multiplier, privacy.delta, privacy.nominal_units) == (1.5, 1e-4, 30)
    assert privacy.target_epsilon is None


@pytest.mark.parametrize(
    ("changes", "kind", "where"),
    [
        ({"noise_multiplier": 1.0}, ConfigError, "privacy"),
        ({"target_epsilon": None}, ConfigError, "privacy"),
        ({"target_epsilon": 0.0}, ConfigError, "privacy.target_epsilon"),
        ({"target_epsilon": float("nan")}, ConfigError, "privacy.target_epsilon"),
        ({"target_epsilon": float("inf")}, ConfigError, "privacy.target_epsilon"),
        ({"target_epsilon": None, "noise_multiplier": float("nan")}, ConfigError, "privacy.noise_multiplier"),
        ({"delta": 0.0}, ConfigError, "privacy.delta"),
        ({"delta": 0.5}, PrivacyError, "privacy.delta"),
        ({"nominal_units": 0}, ConfigError, "privacy.nominal_units"),
        ({"clip": 0.0}, ConfigError, "privacy.clip"),
        ({"target_epsilon": None, "noise_multiplier": 0.0}, ConfigError, "privacy.noise_multiplier"),
        ({"target_epsilon": None, "noise_multiplier": 1e-200}, PrivacyError, "privacy.noise_multiplier"),
    ],
)
def test_privacy_that_cannot_be_is_refused(changes, kind, where):
    with pytest.raises(kind) as error:
        prepare(private(**changes))
    assert type(error.value) is kind
    assert error.value.where == where


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"local": LocalSettings(rate=0.0)}, "local.rate"),
        ({"local": LocalSettings(rate=0.1, unit="epochs")}, "local.unit"),
        ({"server": ServerSettings(weighting="size")}, "server.weighting"),
    ],
)
def test_work_that_is_not_private_is_refused(parts, where):
    base = {"local": LocalSettings(rate=0.1), "privacy": PrivacySettings(enabled=True, noise_multiplier=1.0)}
    with pytest.raises(PrivacyError) as error:
        prepare(settings(**{**base, **parts}))
    assert error.value.where == where


def test_a_net_that_mixes_pictures_is_refused_before_a_run_begins():
    with pytest.raises(PrivacyError, match="mix the pictures"):
        prepare(replace(private(), model=ModelSettings("fer_nano", norm="bn")))


def test_the_busiest_site_counts():
    server = ServerWork(rounds=9, participation=0.4)
    drawn = [cohort(5, number, list(range(6)), 0.4) for number in range(1, 10)]
    assert most_rounds(server, 6, 5) == max(sum(i in each for each in drawn) for i in range(6))
    assert most_rounds(ServerWork(rounds=9), 6, 5) == 9


# Baselines see as much


def visits(ready, local, server):
    sizes = [len(ready.partition.rows(i, ready.samples, "train")) for i in range(4)]
    if local.unit == "epochs":
        return server.rounds * local.amount * sum(sizes)
    return server.rounds * local.amount * sum(batch_size(local, size) for size in sizes)


@pytest.mark.parametrize(
    "local",
    [LocalWork(amount=3, batch=8), LocalWork(amount=2, rate=0.25), LocalWork(unit="epochs", amount=2)],
    ids=["steps", "rate", "epochs"],
)
def test_baselines_get_the_visits_of_the_federated_run(ready, local):
    plan = replace(ready.plan, local=local)
    epochs = expected_epochs(plan, ready.samples, ready.partition)
    rows = len(ready.samples.rows("train"))
    assert epochs * rows == pytest.approx(visits(ready, local, plan.server))
    half = replace(plan, server=replace(plan.server, participation=0.5))
    assert expected_epochs(half, ready.samples, ready.partition) == pytest.approx(epochs / 2)


def test_epochs_can_be_given():
    given = settings()
    given.baseline.epochs = 3.5
    assert prepare(given).central.epochs == 3.5
    given.baseline.epochs = 0.0
    with pytest.raises(ConfigError, match="no epochs"):
        prepare(given)


def test_baselines_train_on_what_the_sites_train_on(ready):
    local = LocalSettings(augment=False, targets="label", smoothing=0.1)
    central = prepare(settings(local=local)).central
    assert (central.augment, central.targets, central.smoothing) == (False, "label", 0.1)


# Mistakes


@pytest.mark.parametrize(
    ("data", "kind", "where"),
    [
        ({"reader": "multipie"}, ConfigError, "data.reader"),
        ({"reader": "imagefolder"}, ConfigError, "data.root"),
        ({"reader": "imagefolder", "root": "/no/such/folder", "options": {}}, DataError, "/no/such/folder"),
        ({"options": {"count": 240, "colour": 1}}, ConfigError, "data.options"),
        ({"options": {"count": "many"}}, ConfigError, "data.options.count"),
        ({"size": 300}, ConfigError, "faces"),
        ({"split": "random"}, ConfigError, "data.split"),
        ({"split": "official"}, DataError, "faces"),
        ({"test": 0.0}, ConfigError, "data.test"),
        ({"test": 1.0}, ConfigError, "data.test"),
        ({"groups": ["accent"]}, ConfigError, "data.groups"),
    ],
)
def test_data_that_cannot_be_is_refused(data, kind, where):
    with pytest.raises(kind) as error:
        prepare(settings(data=DataSettings(**{"reader": "faces", "options": {"count": 240}, **data})))
    assert error.value.where == where
    assert error.value.cure


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"partition": PartitionSettings(kind="random")}, PartitionError),
        ({"partition": PartitionSettings(sites=500)}, PartitionError),
        ({"model": ModelSettings("resnet")}, ModelError),
        ({"server": ServerSettings(optimizer="lion")}, ConfigError),
        ({"server": ServerSettings(rounds=0)}, ConfigError),
        ({"local": LocalSettings(unit="hours")}, ConfigError),
    ],
)
def test_settings_that_cannot_be_are_refused(parts, kind):
    with pytest.raises(kind) as error:
        prepare(settings(**parts))
    assert error.value.cure


def test_a_class_that_nobody_has_is_named(small, monkeypatch):
    lonely = replace(small, labels=(*small.labels, "contempt"))
    monkeypatch.setattr(preparing, "load", lambda data, seed: lonely)
    with pytest.raises(DataError, match="no training picture shows contempt"):
        prepare(settings())


# Outlook


def test_a_run_with_much_noise_is_warned_of_and_one_with_nothing_else_refused():
    found = prepare(private(target_epsilon=8.0))
    assert any("less than half" in said for said in found.warnings)
    assert prepare(settings()).warnings == ()
    with pytest.raises(
        PrivacyError, match=r"too small to be useful at epsilon 0\.3: the noise is \d+"
    ) as error:
        prepare(private(target_epsilon=0.3, allow_useless=False))
    assert error.value.where == "privacy"
    assert prepare(private(target_epsilon=0.3)).plan.privacy.noise_multiplier > 1


def test_what_learns_decides_the_outlook():
    whole, head = (
        prepare(replace(private(target_epsilon=8.0), local=LocalSettings(rate=0.1, amount=2, scope=scope)))
        for scope in ("all", "head")
    )
    few, many = (outlook_of(each.plan, 4) for each in (head, whole))
    assert (few.parameters, many.parameters) == (17 * 7, 10727)
    assert few.run == pytest.approx(many.run * (17 * 7 / 10727) ** 0.5)
    assert f"{many.run:.2g} times over all" in whole.warnings[0]


def test_sites_smaller_than_a_batch_are_told_of():
    some = replace(private(target_epsilon=8.0), partition=PartitionSettings(sites=4, alpha=0.1, minimum=3))
    found = prepare(replace(some, local=LocalSettings(rate=0.1, scope="head")))
    sizes = np.bincount(found.partition.site[found.samples.rows("train")], minlength=4)
    small = int((sizes * 0.1 < 1).sum())
    assert 0 < small < 4
    assert any(said.startswith(f"{small} of 4 sites hold fewer than 10 pictures") for said in found.warnings)
    none = prepare(replace(some, local=LocalSettings(rate=0.01, scope="head")))
    assert any("most steps see none" in said for said in none.warnings)
