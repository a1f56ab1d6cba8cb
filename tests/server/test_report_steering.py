"""What the report says of fair training: sentences that claim no more than was measured, charts, weights."""

import json

import pytest

from server.report import write_report

FAIR = {
    "method": "critic",
    "attribute": "skin_tone",
    "adversary": "critic",
    "weighting": "errors",
    "tolerance_on": "recall",
    "groups": ["dark", "light"],
    "weights": [[1.0, 0.5], [0.75, 0.25], [0.9, 0.4]],
    "strength": 3.375,
    "record": [{"round": r, "strength": 1.5**r, "gap": 0.2 - 0.05 * r} for r in range(1, 4)],
    "opted_out": 2,
    "notes": ["skin_tone dark has 7 people in training: fewer than 10 say little of a group"],
}


@pytest.fixture
def page(tmp_path):
    def make(fairness, finish=None, epsilon=None, **systems):
        federated = {
            "accuracy": 0.8,
            "epsilon": epsilon,
            "recall": {"sad": 0.7, "glad": 0.9},
            "fairness": fairness,
            "finish": finish,
        }
        summary = {"name": "fair", "systems": {**systems, "federated": federated}}
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        return write_report(tmp_path).read_text()

    return make


def test_it_tells_what_was_done_and_draws_how(page):
    text = page({**FAIR, "tolerance": 0.1, "gap": 0.05, "met": True})
    assert "Trained with regard to groups" in text
    assert "Groups: skin tone (dark, light). Every picture" in text
    assert "2 sites told nobody" in text
    assert b"The tolerance of 10.0\\u202f% was reached".decode("unicode_escape") in text
    assert "with lambda 3.38" in text
    assert 'id="steering-gap-title"' in text
    assert 'id="steering-strength-title"' in text
    assert "7 people in training" in text
    assert "<td>0.25</td>" in text
    assert 'scope="row">undisclosed<' in text


def test_the_price_is_told_as_one_run(page):
    text = page(FAIR, federated_without_fairness={"accuracy": 0.82})
    assert "without regard to groups" in text
    assert "needs several seeds" in text
    assert "needs several seeds" not in page(FAIR)


def test_what_is_not_there_is_not_told(page):
    text = page(
        {**FAIR, "tolerance": 0.1, "gap": 0.3, "met": False, "strength": None, "opted_out": 0, "notes": []}
    )
    assert "was not reached" in text
    assert "steering-strength" not in text
    assert "told nobody" not in text
    assert "<td>0.25</td>" not in page({**FAIR, "weights": None})
    assert "Trained with regard" not in page({})


def test_noise_is_told_of_where_there_is_some(page):
    assert "with the noise of privacy. A net" not in page(FAIR)
    assert "with the noise of privacy. A net" in page(FAIR, epsilon=8.0)


def test_names_are_escaped(page):
    assert "<b>dark" not in page({**FAIR, "groups": ["<b>dark", "light"]})


ERASED = {"erased": "skin_tone", "groups": ["dark", "light"], "rank": 1, "meant": 0.31, "whitened": False}


def test_a_net_that_was_only_finished_has_its_part(page):
    note = {"note": "noise outweighs the difference"}
    text = page(None, {**ERASED, **note}, federated_without_fairness={"accuracy": 0.9})
    assert "The finished net, made fairer" in text
    assert "the mean features of skin tone (dark, light) were made alike" in text
    assert "31.0" in text
    assert "more than noise explains" in text
    assert "Noise outweighs the difference." in text
    assert "without regard to groups" in text
    assert "Trained with regard to groups" not in text


def test_what_finished_a_net_stands_beside_what_steered_it(page):
    text = page(FAIR, {"clusters": [40, 9, 51], "largest_bias": 0.456})
    assert "Trained with regard to groups" in text
    assert "each of 3 clusters of look-alikes got a bias of its own, of up to 0.46" in text
    assert "more than noise" not in page(FAIR, {**ERASED, "whitened": True})
