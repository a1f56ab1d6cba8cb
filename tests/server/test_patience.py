"""What is lost on the way between coordinator and sites is asked for again, where that is the same answer."""

from dataclasses import replace

import pytest
import torch
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

import server.deployed as deployed
import server.post as post
from client.app import make_app
from client.plan import Secure
from client.secagg.terms import least_threshold
from fer_models.errors import RunFolderError
from server.patience import MOST, Patience, PatientGrid
from server.rounds import Coordinator
from server.run_folder import RunFolder
from server.run_state import SITES
from simulations.grid import LocalGrid
from simulations.run_audit import count_run

TERMS = Secure(3, least_threshold(3, "malicious"), 3, clip=4.0, largest_weight=64)
GONE = Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "the parts of the reply are gone")


class Losing(LocalGrid):
    """A grid that loses what ``lose(message, times)`` says: an answer, of which it tells, the message, unseen, or the
    site, which is gone before it has seen anything.
    """

    def __init__(self, sites, lose):
        nodes = {i + 1: {"partition-id": i} for i in range(sites.partition.sites)}
        super().__init__(make_app(sites, sites.secure), nodes)
        self.lose, self.times, self.answers = lose, {}, []

    def _answer(self, message):
        told = message.metadata
        name = told.message_type, told.group_id, told.dst_node_id
        self.times[name] = self.times.get(name, 0) + 1
        lost = self.lose(told, self.times[name])
        if lost == "message":
            return None
        if lost == "site":
            return Message(GONE, reply_to=message)
        reply = super()._answer(message)
        self.answers.append(name)
        return Message(GONE, reply_to=message) if lost == "answer" else reply

    def pull_messages(self, message_ids):
        return [each for each in super().pull_messages(message_ids) if each is not None]


@pytest.fixture
def secure(plan_of):
    plan = plan_of(rounds=2)
    return replace(plan, aggregation="secure", secure=TERMS)


ASKED = "query.secure", "train 1, 1: offer", 2


class Held(Losing):
    """One that keeps answers to the question ASKED back until there are two, and then tells of one at a time."""

    ready, held = False, ()

    def _answer(self, message):
        told, reply = message.metadata, super()._answer(message)
        if (told.message_type, told.group_id, told.dst_node_id) != ASKED or reply is None:
            return reply
        self.held = (*self.held, reply)
        self.ready = len(self.held) == 2
        return None

    def pull_messages(self, message_ids):
        found = super().pull_messages(message_ids)
        if self.ready and self.held:
            found, self.held = [*found, self.held[0]], self.held[1:]
        return found


def run(plan, sites, folder, lose, kind=Losing, **patient):
    grid, told = kind(sites, lose), []
    coordinator = Coordinator(
        plan,
        RunFolder(folder),
        "federated",
        told.append,
        sites=sites.partition.sites,
        roster=getattr(sites, "roster", None),
    )
    patient = {"deadline": 20.0, "keys": 20.0, "quorum": 3} | patient
    return grid, told, coordinator.run(PatientGrid(grid, Patience(**patient)))


def test_a_lost_answer_is_had_again_and_no_round_is_lost(secure, sites_of, tmp_path):
    def lose(at, times):
        return "answer" if times < 2 and (at.dst_node_id, at.message_type) == (2, "query.secure") else ""

    _, _, expected = run(secure, sites_of(), tmp_path / "a", lambda *_: "")
    grid, told, found = run(secure, sites_of(), tmp_path / "b", lose)
    assert torch.equal(found.vector, expected.vector)
    assert not any("lost" in line for line in told)
    asked = [name for name in grid.answers if name[0] == "query.secure"]
    assert [asked.count(name) for name in dict.fromkeys(asked)] == [1, 2, 1] * (len(asked) // 4)


def test_what_nobody_answers_is_asked_again_before_its_deadline(secure, sites_of, tmp_path):
    """As where the SuperLink was killed when it had just handed a message out."""

    def lose(at, times):
        lost = at.group_id in ("1", "train 1, 1: offer") and at.dst_node_id == 3 and times < 2
        return "message" if lost else ""

    grid, told, _ = run(secure, sites_of(), tmp_path, lose, deadline=4.0, keys=4.0)
    assert not any("lost" in line for line in told)
    assert grid.times["train.secure", "1", 3] == 2
    assert grid.times["train.secure", "2", 3] == 1


def test_a_site_past_its_deadline_is_left_out_of_a_secure_sum(plan_of, sites_of, tmp_path):
    """Of four sites one may be missing; it is back in the next round."""
    terms = replace(TERMS, sites=4, threshold=least_threshold(4, "malicious"))
    plan = replace(plan_of(rounds=2), aggregation="secure", secure=terms)

    def lose(at, _):
        return "message" if (at.dst_node_id, at.message_type, at.group_id) == (4, "train.secure", "1") else ""

    grid, told, _ = run(plan, sites_of((18,) * 4), tmp_path, lose, deadline=4.0, keys=4.0)
    assert not any("lost" in line for line in told)
    assert ("train.secure", "2", 4) in grid.answers
    assert RunFolder(tmp_path).read_json(SITES) == {
        "present": [f"site-{i}" for i in range(4)], "away": [], "refused": {}
    }  # fmt: skip


def test_what_stays_lost_is_given_up(secure, sites_of, tmp_path, monkeypatch):
    monkeypatch.setattr(post, "TICK", 0.01)

    def lose(at, _):
        return "answer" if (at.dst_node_id, at.message_type, at.group_id) == (2, "train.secure", "1") else ""

    grid, told, _ = run(secure, sites_of(), tmp_path, lose)
    assert "2 masked vectors where 3 are needed" in told[0]["lost"]
    # Each time the error itself is the answer in the end; a site without which there is no sum is waited for.
    assert grid.times["train.secure", "1", 2] == MOST * (1 + post.AGAIN)
    assert not any("lost" in line for line in told[1:])


@pytest.mark.parametrize("asked", [("train.secure", "1", 2), ("query.secure", "train 2, 1: offer", 2)])
def test_a_site_without_which_there_is_no_sum_is_waited_for(secure, sites_of, tmp_path, monkeypatch, asked):
    """It is gone for the work, or for the survivors, and back later than it is asked again in any case."""
    monkeypatch.setattr(post, "TICK", 0.01)

    def lose(at, times):
        mine = (at.message_type, at.group_id, at.dst_node_id) == asked
        return "site" if mine and times <= MOST + 1 else ""

    _, told, found = run(secure, sites_of(), tmp_path / "b", lose)
    assert [line["lost"] for line in told if "lost" in line] == []
    _, _, expected = run(secure, sites_of(), tmp_path / "a", lambda *_: "")
    assert torch.equal(found.vector, expected.vector)


def test_one_answer_may_be_lost_after_the_question_was_asked_for_the_last_time(secure, sites_of, tmp_path):
    """The first answer is announced and never whole, which is found late; what was asked since then is answered."""

    def lose(at, times):
        asked = (at.message_type, at.group_id, at.dst_node_id) == ASKED
        return {1: "answer", 2: "message"}.get(times, "") if asked else ""

    grid, told, _ = run(secure, sites_of(), tmp_path, lose, Held, deadline=6.0, keys=6.0)
    assert grid.times[ASKED] == MOST
    assert not any("lost" in line for line in told)
    assert not any("train 1, 2" in group for _, group, _ in grid.times), "the session goes on"


def test_work_that_would_be_done_twice_is_asked_once(plan_of, sites_of, tmp_path):
    def lose(at, _):
        return "answer" if (at.dst_node_id, at.message_type) == (2, "train") else ""

    grid, told, _ = run(plan_of(rounds=2), sites_of(), tmp_path, lose, quorum=2)
    assert grid.times["train", "1", 2] == 1
    assert len(told) == 2


def test_a_run_whose_last_evaluation_is_lost_ends_with_its_model_and_says_so(
    secure, sites_of, tmp_path, monkeypatch
):
    """Two of three sites cannot be heard when it ends, after all have sent their counts; none sends its own twice."""
    monkeypatch.setattr(post, "TICK", 0.01)

    def lose(at, _):
        return "message" if at.dst_node_id > 1 and at.group_id == "evaluate 2, 1: survivors" else ""

    options = {"deadline": 0.5, "keys": 0.5, "quorum": 2}
    _, told, found = run(secure, sites_of(), tmp_path, lose, **options)
    assert "1 consents where 3 are needed" in found.unjudged
    assert found.judged_round == 1
    assert "accuracy" in told[0]
    assert "accuracy" not in told[1]
    deployed._keep(RunFolder(tmp_path), secure, found)
    summary = RunFolder(tmp_path).read_json("summary.json")["systems"]["federated"]
    assert "the newest figures are of the weights after round 1" in summary["note"]
    assert summary["earlier"]["accuracy"] == told[0]["accuracy"]
    assert "counts" not in summary
    assert "accuracy" not in summary
    assert "the last evaluation was lost" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(RunFolderError, match="the last evaluation was lost"):
        count_run([f"run={tmp_path}"])
    assert run(secure, sites_of(), tmp_path, lambda *_: "", **options)[2].unjudged == found.unjudged
