"""Sites that are late, gone, back, or refuse: the run goes on as long as there are enough others."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

import server.standing as standing
from client.app import make_app
from client.failures import error_to_wire
from client.messages import facts_of, pack, tell, vector_of
from client.versions import PROTOCOL
from fer_models.errors import ConfigError, EngineError, PolicyError, TrainingError, VersionError
from server.patience import Patience, PatientGrid
from server.rounds import Coordinator
from server.run_folder import RunFolder
from server.run_state import SITES
from simulations.grid import LocalGrid

REFUSAL = PolicyError("the run would cost too much", where="site-1, privacy.epsilon_a_run", cure="Add noise.")


class Unsteady(LocalGrid):
    """A grid whose sites come and go: ``acts(node, kind, round)`` says how one behaves at a message."""

    def __init__(self, sites, acts, count=3):
        super().__init__(make_app(sites), {i + 1: {"partition-id": i} for i in range(count)})
        self.acts, self.silent, self.hidden, self.trained = acts, {}, set(), []

    def get_nodes(self):
        return [
            NodeInfo(node_id=n, name=f"site-{n - 1}") for n in self.get_node_ids() if n not in self.hidden
        ]

    def _answer(self, message):
        act = self.acts(
            message.metadata.dst_node_id, message.metadata.message_type, message.metadata.group_id
        )
        if act == "refuse":
            return Message(error_to_wire(REFUSAL), reply_to=message)
        if isinstance(act, dict):
            return Message(tell(act), reply_to=message)
        if message.metadata.message_type == "train":
            self.trained.append((message.metadata.group_id, message.metadata.dst_node_id))
        return None if act == "silent" else super()._answer(message)

    def pull_messages(self, message_ids):
        return [each for each in super().pull_messages(message_ids) if each is not None]

    def who(self, number):
        return sorted(node for group, node in self.trained if group == str(number))


def run(plan, grid, folder, patience=None):
    grid = PatientGrid(grid, patience or Patience(deadline=0.4, keys=0.4, quorum=2))
    return Coordinator(plan, RunFolder(folder), "federated", sites=3).run(grid)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(standing, "WAITING_SECONDS", 0.5)
    monkeypatch.setattr(standing, "GRACE", 0.0)


def test_a_patient_grid_changes_nothing_where_all_answer(plan_of, sites_of, tmp_path):
    plan = plan_of(rounds=2)
    nodes = {i + 1: {"partition-id": i} for i in range(3)}
    alone = Coordinator(plan, RunFolder(tmp_path / "a"), "federated").run(
        LocalGrid(make_app(sites_of()), nodes)
    )
    found = run(plan, Unsteady(sites_of(), lambda *_: ""), tmp_path / "b")
    assert torch.equal(alone.vector, found.vector)
    assert RunFolder(tmp_path / "b").read_json(SITES) == {
        "present": ["site-0", "site-1", "site-2"], "away": [], "refused": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "other"), [({}, "an earlier one"), ({"protocol": PROTOCOL + 1, "version": "9.9"}, "9.9")]
)
def test_a_site_of_another_version_is_named_and_the_others_go_on(plan_of, sites_of, tmp_path, said, other):
    def acts(node, kind, _):
        return {"site": "site-1", **said} if (node, kind) == (2, "query") else ""

    grid, plan = Unsteady(sites_of(), acts), plan_of(rounds=1)
    run(plan, grid, tmp_path)
    assert grid.who(1) == [1, 3]
    refused = RunFolder(tmp_path).read_json(SITES)["refused"]["site-1"]["what"]
    assert f"the site's version of FedFER, {other}, does not speak with this one" in refused
    with pytest.raises(VersionError) as raised:
        Coordinator(plan, RunFolder(tmp_path / "all"), "federated").run(Unsteady(sites_of(), acts))
    assert raised.value.where == "site-1"


def test_a_late_site_is_left_out_of_its_round_and_is_back_in_the_next(plan_of, sites_of, tmp_path):
    grid = Unsteady(
        sites_of(), lambda n, kind, group: "silent" if (n, kind, group) == (2, "train", "2") else ""
    )
    found = run(plan_of(rounds=3), grid, tmp_path)
    assert [grid.who(each) for each in (1, 2, 3)] == [[1, 2, 3]] * 3
    assert len(found.counts) == 3
    # Its second update did not count: the sum of visits is of one answer less.
    assert found.totals.bytes_up == 8 * found.totals.bytes_down // 9


def test_a_site_that_goes_and_comes_takes_part_from_the_next_round_on(plan_of, sites_of, tmp_path):
    def acts(node, kind, group):
        if kind == "train":
            grid.hidden = {"1": {3}, "2": {3}, "3": set()}.get(group, set())
        return ""

    grid = Unsteady(sites_of(), acts)
    run(plan_of(rounds=5), grid, tmp_path)
    assert [grid.who(each) for each in range(1, 6)] == [[1, 2, 3], [1, 2], [1, 2], [1, 2, 3], [1, 2, 3]]


def test_a_site_that_refuses_is_left_out_with_its_rule(plan_of, sites_of, tmp_path):
    grid = Unsteady(sites_of(), lambda node, *_: "refuse" if node == 2 else "")
    found = run(plan_of(rounds=2), grid, tmp_path)
    assert sorted(found.counts) == ["site-0", "site-2"]
    told = RunFolder(tmp_path).read_json(SITES)
    assert told["refused"] == {
        "site-1": {"kind": "PolicyError", "what": REFUSAL.what, "where": "site-1, privacy.epsilon_a_run"}
    }
    assert told["present"] == ["site-0", "site-2"]


def test_a_site_that_refuses_in_the_middle_is_left_out_from_then_on(plan_of, sites_of, tmp_path):
    def acts(node, kind, group):
        return "refuse" if node == 2 and (kind, group) >= ("train", "2") and kind == "train" else ""

    grid = Unsteady(sites_of(), acts)
    run(plan_of(rounds=3), grid, tmp_path)
    assert [grid.who(each) for each in (1, 2, 3)] == [[1, 2, 3], [1, 3], [1, 3]]


def test_without_a_quorum_a_run_ends_by_what_is_wrong(plan_of, sites_of, tmp_path):
    refusing = Unsteady(sites_of(), lambda node, *_: "refuse" if node < 3 else "")
    with pytest.raises(PolicyError, match="would cost too much"):
        run(plan_of(rounds=2), refusing, tmp_path / "refused")
    assert sorted(RunFolder(tmp_path / "refused").read_json(SITES)["refused"]) == ["site-0", "site-1"]
    silent = Unsteady(sites_of(), lambda node, *_: "silent" if node < 3 else "")
    with pytest.raises(EngineError, match="only 1 of 2 sites take part"):
        run(plan_of(rounds=2), silent, tmp_path / "silent")


def test_a_round_that_too_few_answer_is_lost_and_said_so(plan_of, sites_of, tmp_path):
    told = []
    grid = Unsteady(
        sites_of(), lambda n, kind, group: "silent" if n < 3 and (kind, group) == ("train", "1") else ""
    )
    patient = PatientGrid(grid, Patience(deadline=0.4, keys=0.4, quorum=2))
    Coordinator(plan_of(rounds=2), RunFolder(tmp_path), "federated", told.append, sites=3).run(patient)
    assert "1 sites answered where 2 are needed" in told[0]["lost"]
    assert "no answer before the deadline" in told[0]["lost"]
    assert "lost" not in told[-1]


def test_patience_has_bounds():
    for wrong in ({"deadline": 0.0}, {"deadline": 1e6}, {"quorum": -1}):
        with pytest.raises(ConfigError, match="a deadline of"):
            Patience(**wrong)
    assert Patience(deadline=5.0).of("query.secure") == 5.0


def lying(facts, at):
    """Return what makes site 2 say something else at a kind of message."""

    class Liar(Unsteady):
        def _answer(self, message):
            reply = super()._answer(message)
            if (message.metadata.dst_node_id, message.metadata.message_type) == (2, at):
                reply.content = RecordDict({**reply.content, "facts": tell(self.told(reply))["facts"]})
            return reply

        def told(self, reply):
            return {**facts_of(reply.content), **facts}

    return Liar


@pytest.mark.parametrize(
    ("facts", "at", "said"),
    [
        ({"session": 1 << 40}, "query", "its last session was 1.1e+12"),
        ({"site": "site-0"}, "train", "it says that it is site-0"),
    ],
)
def test_a_site_that_lies_is_left_out_and_harms_no_other(plan_of, sites_of, tmp_path, facts, at, said):
    grid = lying(facts, at)(sites_of(), lambda *_: "")
    found = run(plan_of(rounds=2), grid, tmp_path, Patience(60.0, 60.0, quorum=2))
    assert sorted(found.counts) == ["site-0", "site-2"]
    told = RunFolder(tmp_path).read_json(SITES)["refused"]["site-1"]
    assert told["kind"] == "IdentityError"
    assert said in told["what"]


@pytest.mark.parametrize(
    ("facts", "vector", "said"),
    [
        ({}, lambda v: v * np.float32("nan"), "its update is not finite"),
        ({}, lambda v: np.where(np.arange(len(v)) == 7, np.float32("inf"), v), "its update is not finite"),
        ({}, lambda v: v + np.float32(1e30), "its update is inf long where the weights are"),
        ({}, lambda v: v + np.float32(1e4), "its update is 1.03e+06 long where the weights are"),
        ({"weight": 1e300}, lambda v: v, "it says that it weighs 1e+300"),
        ({"weight": -20.0}, lambda v: v, "it says that it weighs -20"),
        ({"visits": 1e15}, lambda v: v, "has seen 1e+15 pictures"),
    ],
    ids=["nan", "one-infinity", "overflows", "absurd", "heavy", "negative", "visits"],
)
def test_a_site_whose_update_would_spoil_the_mean_is_named_and_left_out_of_the_round(
    plan_of, sites_of, tmp_path, facts, vector, said
):
    class Broken(Unsteady):
        def _answer(self, message):
            reply, own = super()._answer(message), message.metadata
            if (own.dst_node_id, own.message_type, own.group_id) == (2, "train", "1"):
                sent = vector(vector_of(reply.content, np.float32)).astype(np.float32)
                reply.content = pack(sent, {**facts_of(reply.content), **facts})
            return reply

    told = []
    grid = PatientGrid(Broken(sites_of(), lambda *_: ""), Patience(60.0, 60.0, quorum=2))
    plan, folder = plan_of(rounds=2, weighting="size"), RunFolder(tmp_path / "run")
    coordinator = Coordinator(plan, folder, "federated", told.append, sites=3)
    found = coordinator.run(grid)
    assert sorted(found.counts) == ["site-0", "site-1", "site-2"], "it is back in the second round"
    assert bool(torch.isfinite(found.vector).all())
    assert found.vector.abs().max() < 10
    with pytest.raises(TrainingError, match=re.escape(said)) as raised:
        broken = Broken(sites_of(), lambda *_: "")
        Coordinator(plan, RunFolder(tmp_path / "alone"), "federated", sites=3).run(broken)
    assert raised.value.where == "site-1, round 1"


def test_one_site_cannot_use_up_the_numbers_of_sessions(plan_of, sites_of, tmp_path):
    last = {1: 41, 2: (1 << 31) - 1, 3: 40}

    class Boastful(Unsteady):
        def _answer(self, message):
            reply = super()._answer(message)
            own = {**facts_of(reply.content), "session": last[message.metadata.dst_node_id]}
            reply.content = tell(own)
            return reply

    grid = PatientGrid(Boastful(sites_of(), lambda *_: ""), Patience(60.0, 60.0, quorum=2))
    found = standing.Standing(grid, plan_of(), 3, RunFolder(tmp_path))
    assert found.session == -1
    found.gather()
    assert found.session == 41
    assert not found.refused


@pytest.mark.parametrize("plan", ["label counts", "noisy tests"])
def test_a_site_whose_counts_are_none_is_borne(plan_of, sites_of, tmp_path, plan):
    at = "query.label_counts" if plan == "label counts" else "evaluate"

    class Wordless(Unsteady):
        def _answer(self, message):
            reply = super()._answer(message)
            if (message.metadata.dst_node_id, message.metadata.message_type) == (2, at):
                reply.content = RecordDict({"facts": reply.content["facts"]})
            return reply

    asked = plan_of(adjustment=1.0) if plan == "label counts" else plan_of(True, rounds=1)
    if plan != "label counts":
        asked = replace(asked, privacy=replace(asked.privacy, audit_epsilon=1.0))
    grid = Wordless(sites_of(ledgers=tmp_path / "ledgers"), lambda *_: "")
    found = run(asked, grid, tmp_path / "run", Patience(60.0, 60.0, quorum=2))
    assert found.overall.rows > 0
