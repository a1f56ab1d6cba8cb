"""Records of audits: one with every part, and one with as little as possible."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from fer_models import metrics
from fer_models.counts import Counts
from fer_models.labels import EXPRESSIONS
from fer_models.verdicts import Rule, judge
from simulations.audit import record, text_of
from simulations.run_audit import brief
from simulations.tolerance import facts

GROUPS = ("self-described feminine", "self-described masculine", "a group of eleven", "undisclosed")


def drawn(seed=0, rows=1500):
    """Rows of eight classes and two attributes; fear and the masculine are told right less often."""
    rng = np.random.default_rng(seed)
    true = rng.choice(8, rows, p=[0.3, 0.25, 0.1, 0.1, 0.1, 0.03, 0.1, 0.02])
    group = rng.choice(GROUPS, rows, p=[0.5, 0.42, 0.01, 0.07])
    age = rng.choice(["18-29", "30-59", "60+"], rows, p=[0.6, 0.37, 0.03])
    right = np.where(group == GROUPS[1], 0.55, 0.8) - 0.2 * (true == 6)
    predicted = np.where(rng.random(rows) < right, true, rng.choice(8, rows))
    return true, predicted, {"gender_presentation": group, "age": age}


def png():
    file = io.BytesIO()
    Image.new("L", (24, 24), 90).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def full():
    """The record of a federated run with all parts that an audit can have."""
    true, predicted, groups = drawn()
    counts = Counts.of(true, predicted, EXPRESSIONS, groups)
    ages = {"18-29": 350, "30-59": 245, "60+": 12}
    people = {"gender_presentation": dict(zip(GROUPS, (300, 280, 7, 20), strict=True)), "age": ages}
    found = record(
        {"door": "run", "run": "somewhere/run-7", "system": "federated", "name": "Seven"}, counts, people
    )
    found["source"] |= {"plan": "f" * 64, "net": {"name": "cnn_tiny", "parameters": 10727}}
    other = metrics.summarise(Counts.of(*drawn(1)[:2], EXPRESSIONS, drawn(1)[2]))
    parts = np.array_split(np.arange(len(true)), 3)
    each = [Counts.of(true[rows], predicted[rows], EXPRESSIONS) for rows in parts]
    names = ["a-site-with-a-name-that-is-much-too-long-for-a-telephone", "site-1", "site-2"]
    rules = [
        Rule("balanced_accuracy", 0.4),
        Rule("accuracy_gap", 0.05, "gender_presentation"),
        Rule("equal_opportunity_difference", 0.3, "gender_presentation", "fear", GROUPS[0], GROUPS[:2]),
    ]
    return found | {
        "tolerance": {"level": 0.95},
        "verdicts": facts(judge(counts, rules, 0.95, people)),
        "sites": metrics.across_sites(each),
        "per_site": [
            {"site": name, "accuracy": metrics.accuracy(one), "test": one.rows, "epsilon": 4.0}
            for name, one in zip(names, each, strict=True)
        ],
        "systems": {"pooled": brief(other), "local_only": brief(other)},
        "privacy": {
            "epsilon": 4.0,
            "delta": 1e-5,
            "unit": "subject",
            "trust": "Nobody but the site itself.",
            "learned": "Sums of updates.",
            "audited_epsilon": 1.25,
            "confidence": 0.95,
            "canaries": 1000,
            "verdict": "consistent",
        },
        "data": {"name": "drawn faces", "licence": "CC0 1.0", "train": 6000},
        "bias": {
            "classes": {"evenness": 0.91},
            "attributes": {"age": {"cramers_v": 0.1, "cramers_v_interval": [0.02, 0.2]}},
        },
        "explanations": [
            {"class": "fear", "right": right, "n": 120, "people": 60, "png": png(), "caption": caption}
            for right, caption in ((False, "Wrong answers."), (True, "Right answers."))
        ],
    }


def little():
    """The record of predictions without groups, people or anything else."""
    return record(
        {"door": "predictions", "predictions": "votes.csv"}, Counts.of([0, 0, 1], [0, 1, 1], ("a", "b"))
    )


def read(found):
    """A record as a reader of audit.json has it."""
    return json.loads(text_of(found))


@pytest.fixture(scope="session")
def everything():
    return read(full())


@pytest.fixture(scope="session")
def nothing_more():
    return read(little())
