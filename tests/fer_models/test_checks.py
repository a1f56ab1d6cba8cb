"""The check of a table, by hand and against Fairlearn on rows."""

import json

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, demographic_parity_ratio

from fer_models.checks import check
from fer_models.labels import EXPRESSIONS, UNDISCLOSED
from fer_models.samples import Samples
from fer_models.splits import hold_out


def table(shown, label, split, people=None, groups=None, skipped=None):
    store = np.random.default_rng(3).integers(0, 256, (max(shown) + 1, 8, 8), np.uint8)
    return Samples(
        pictures=store[np.array(shown)],
        label=np.array(label, np.int16),
        labels=("neutral", "happiness", "contempt"),
        source=np.array([f"{chr(97 + i)}.png" for i in range(len(shown))]),
        split=np.array(split),
        subject=None if people is None else np.array(people),
        groups={name: np.array(column) for name, column in (groups or {}).items()},
        skipped=skipped or {},
        name="drawn",
    )


SMALL = table(
    shown=[0, 0, 1, 1, 1, 2, 3],
    label=[0, 0, 1, 1, 0, 1, 0],
    split=["train", "train", "train", "test", "test", "test", "validation"],
    people=["p", "p", "q", "q", "r", "s", "t"],
    groups={"gender": ["f", "m", "f", "m", UNDISCLOSED, "f", "m"]},
    skipped={"unreadable picture": 2},
)


def texts(found, severity):
    return [finding.text for finding in found.findings if finding.severity == severity]


def test_counts_by_split():
    found = check(SMALL)
    assert found.splits == ("train", "validation", "test")
    assert found.classes["neutral"] == {"train": 2, "validation": 1, "test": 1}
    assert found.classes["contempt"] == {"train": 0, "validation": 0, "test": 0}
    assert found.groups["gender"] == {
        "f": {"train": 2, "validation": 0, "test": 1},
        "m": {"train": 1, "validation": 1, "test": 1},
        UNDISCLOSED: {"train": 0, "validation": 0, "test": 1},
    }
    assert (found.rows, found.size, found.channels, found.people) == (7, 8, 1, 5)
    assert found.skipped == {"unreadable picture": 2}


def test_copies_and_people_that_cross():
    found = check(SMALL)
    assert {split: overlap.count for split, overlap in found.copies_within.items()} == {
        "train": 1,
        "validation": 0,
        "test": 1,
    }
    assert found.copies_within["train"].examples == (("a.png", "b.png"),)
    assert found.copies_across["train and test"].count == 1
    assert found.copies_across["train and test"].examples == (("c.png", "d.png"),)
    assert found.copies_across["train and validation"].count == 0
    assert found.copies_differing.count == 1
    assert found.copies_differing.examples == (("c.png", "d.png", "e.png"),)
    assert found.people_across["train and test"].count == 1
    assert found.people_across["train and test"].examples == (("q",),)


def test_findings_name_errors_first():
    found = check(SMALL)
    assert texts(found, "error") == [
        "pictures in both train and test: 1, such as c.png and d.png",
        "people in both train and test: 1, such as q",
    ]
    warnings = texts(found, "warning")
    assert "repeated pictures within train: 1, such as a.png and b.png" in warnings
    assert "pictures with several labels: 1, such as c.png and d.png and e.png" in warnings
    assert "no picture shows contempt" in warnings
    assert "test has fewer than 30 pictures of neutral (1), happiness (2): wide intervals" in warnings
    assert any(
        text.startswith("groups of gender with fewer than 30 pictures: f (3), m (3)") for text in warnings
    )
    assert [finding.severity for finding in found.findings] == ["error"] * 2 + ["warning"] * len(warnings)


def many(seed=0, n=900):
    """Rows whose share of happiness depends on the group, with a few undisclosed."""
    rng = np.random.default_rng(seed)
    gender = rng.choice(["female", "male", "other", UNDISCLOSED], n, p=[0.5, 0.3, 0.15, 0.05])
    label = np.where(rng.random(n) < np.where(gender == "male", 0.25, 0.6), 1, 0)
    label[rng.random(n) < 0.1] = 2
    samples = table([0], [0], ["train"])
    return Samples(
        pictures=rng.integers(0, 256, (n, 8, 8), np.uint8),
        label=label.astype(np.int16),
        labels=samples.labels,
        source=np.array([f"{i}.png" for i in range(n)]),
        split=np.full(n, "train"),
        groups={"gender": gender},
    )


def test_label_parity_is_fairlearn_s():
    samples = many()
    found = check(samples).label_parity["gender"]
    disclosed = samples.groups["gender"] != UNDISCLOSED
    for index, name in enumerate(samples.labels):
        chosen = (samples.label == index).astype(int)[disclosed]
        group = samples.groups["gender"][disclosed]
        expected = demographic_parity_difference(chosen, chosen, sensitive_features=group)
        assert found.difference[name] == pytest.approx(expected, abs=1e-12)
        expected = demographic_parity_ratio(chosen, chosen, sensitive_features=group)
        assert found.ratio[name] == pytest.approx(expected, abs=1e-12)
        for value in ("female", "male", "other"):
            assert found.rates[value][name] == pytest.approx(chosen[group == value].mean(), abs=1e-12)
        limits, difference = found.difference_interval[name], found.difference[name]
        assert limits is not None
        assert difference is not None
        assert limits[0] <= difference <= limits[1]
    assert found.not_compared == (UNDISCLOSED,)
    assert found.rows[UNDISCLOSED] == int((~disclosed).sum())


def test_unequal_labels_are_a_finding():
    found = check(many())
    unequal = [
        text for text in texts(found, "warning") if text.startswith("labels differ between groups of gender")
    ]
    assert len(unequal) == 1
    assert "happiness by 0." in unequal[0]
    assert "contempt" not in unequal[0], "equal shares are no finding"


def test_a_clean_set_has_no_errors():
    samples = many()
    found = check(hold_out(samples, 0.3, seed=0))
    assert not texts(found, "error")
    assert found.people is None
    assert found.people_across == {}
    assert "people are unknown: one person may lie in several splits and sites" in texts(found, "warning")


def test_json_holds_plain_finite_values():
    for samples in (SMALL, many()):
        found = check(samples)
        facts = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert facts["rows"] == len(samples)
        assert (
            facts["copies_across"]["train and test"]["count"] == found.copies_across["train and test"].count
        )
        assert len(facts["findings"]) == len(found.findings)


def test_eight_classes_and_no_groups():
    base = many()
    samples = Samples(base.pictures, base.label, EXPRESSIONS, base.source, base.split)
    found = check(samples)
    assert list(found.classes) == list(EXPRESSIONS)
    assert found.label_parity == {}
    assert "no picture shows sadness, anger, disgust, fear, contempt" in texts(found, "warning")
