"""A site judges no more weights than its plan has evaluations, and as many again; also after it was started anew."""

import dataclasses

import numpy as np
import pytest

from client.answered import Answered, evaluations_of, weights_digest
from client.judging import evaluate_sites
from fer_models.errors import PrivacyError


@pytest.fixture
def plan(plan_of):
    return plan_of(server={"rounds": 5, "evaluate_every": 2})


def digests(number):
    return [weights_digest(np.full(3, each, np.float32)) for each in range(number)]


def test_a_plan_has_as_many_evaluations_as_its_rounds_say(plan):
    assert evaluations_of(plan) == 3, "after rounds 2, 4 and the last"


def test_the_same_weights_cost_nothing_and_new_ones_are_counted_across_restarts(plan, tmp_path):
    path = tmp_path / "judged.txt"
    for digest in digests(4):
        Answered(path).admit(plan, digest, "a")
    again = Answered(path)
    for digest in [*digests(6), *digests(6)]:
        again.admit(plan, digest, "a")
    for answered in (again, Answered(path)):
        with pytest.raises(PrivacyError, match="judged 6 different weights"):
            answered.admit(plan, digests(7)[-1], "a")
    other = dataclasses.replace(plan, run="another")
    again.admit(other, digests(7)[-1], "a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text().splitlines()) == 7


def test_a_damaged_list_is_no_list_of_nothing(plan, tmp_path):
    path = tmp_path / "judged.txt"
    path.write_text(f"{plan.digest} {digests(1)[0]}\n{plan.digest} 12")
    with pytest.raises(PrivacyError, match=r"judged\.txt:2"):
        Answered(path).admit(plan, digests(1)[0], "a")


def test_a_site_answers_no_coordinator_that_asks_on_and_on(plan, bench_of, agent_of):
    agent, vector = agent_of(), bench_of(plan).flat.full_vector.clone().numpy()
    for step in range(6):
        evaluate_sites([agent], plan, vector + np.float32(step), prove=False)
    evaluate_sites([agent], plan, vector, prove=False)
    with pytest.raises(PrivacyError, match="twice as many as it has evaluations"):
        evaluate_sites([agent], plan, vector + np.float32(6), prove=False)
