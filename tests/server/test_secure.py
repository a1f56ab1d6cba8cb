"""Secure aggregation over real Flower messages: plain sums, nothing of one site on the wire, drop-outs borne."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import server.rounds as rounds
from client.app import make_app
from client.messages import facts_of, tell, vector_of, with_fact
from client.plan import Secure
from client.secagg.codec import Kind, kind_of, session_of
from client.secagg.terms import least_threshold
from client.secagg.wire import Masked
from client.secure_site import from_text
from client.versions import spoken
from fer_models.errors import ConfigError, IdentityError, PrivacyError, SecureAggregationError, TrainingError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.aggregation import MeanOfUpdates
from server.asking import EVERYBODY, sum_counts
from server.post import KEYS
from server.rounds import Coordinator
from server.run_folder import RunFolder
from server.secagg.transcript import Transcripts
from server.secagg.verify import verify
from server.sessions import WORK
from simulations.federated import counts_by_site, run_local
from simulations.grid import LocalGrid

SIZES = (18, 18, 18, 18, 18)


@pytest.fixture(scope="session")
def secure_of(plan_of):
    """secure_of(sites=5, **plan_of's): a plan with secure aggregation."""

    def make(sites=5, everybody=0, threshold=None, **options):
        plan = plan_of(**options)
        weight = 64 if plan.server.weighting == "size" else 1
        least = least_threshold(sites, "malicious") if threshold is None else threshold
        terms = Secure(sites, least, 3, clip=4.0, largest_weight=weight, everybody=everybody)
        return replace(plan, aggregation="secure", secure=terms)

    return make


def plain_of(plan):
    return replace(plan, aggregation="plain", secure=None)


def run(plan, sites, folder, observer=None, workers=1, together=1):
    told = observer or (lambda _: None)
    return run_local(plan, sites, RunFolder(folder), "federated", workers, told, together)


class Watched(LocalGrid):
    """A grid that notes what is sent, loses what it is told to, and may do something before it delivers."""

    def __init__(self, sites, lose=lambda message: False, before=lambda message: None, error=None):
        app = make_app(sites, sites.secure)
        nodes = {i + 1: {"partition-id": i} for i in range(sites.partition.sites)}
        super().__init__(app, nodes, lost=lose)
        self.sent, self.replies, self.batches, self._before = [], [], [], before

    def push_messages(self, messages):
        kept = list(messages)
        self.batches += [message.metadata.message_type for message in kept[:1]]
        self.sent += kept
        return super().push_messages(kept)

    def _answer(self, message):
        self._before(message)
        reply = super()._answer(message)
        self.replies.append(reply)
        return reply


def watched(plan, sites, folder, observer=None, **options):
    grid = Watched(sites, **options)
    coordinator = Coordinator(plan, RunFolder(folder), "federated", observer, roster=sites.roster)
    return grid, coordinator.run(grid)


@pytest.mark.parametrize("weighting", ["size", "uniform"])
def test_a_secure_run_is_the_plain_one_up_to_the_grid(secure_of, sites_of, tmp_path, weighting):
    plan, sizes = secure_of(rounds=3, weighting=weighting), (10, 20, 15, 25, 20)
    told = []
    secure = run(plan, sites_of(sizes), tmp_path / "secure", told.append)
    plain = run(plain_of(plan), sites_of(sizes), tmp_path / "plain")
    assert not torch.equal(secure.vector, plain.vector)
    # Each round's mean is within a step of the grid, which local steps pass on about as large.
    assert (secure.vector - plain.vector).abs().max() < 1e-5
    assert secure.counts == {EVERYBODY: sum_counts(list(plain.counts.values()))}
    assert secure.totals.visits == plain.totals.visits
    assert secure.totals.bytes_up > plain.totals.bytes_up
    losses = [record["loss"] for record in RunFolder(tmp_path / "plain").metrics()]
    assert [record["loss"] for record in told] == pytest.approx(losses, abs=1e-4)


@pytest.mark.parametrize("more", [{"private": True}, {"participation": 0.6, "evaluate_every": 2}])
def test_other_plans_are_the_plain_ones_too(secure_of, sites_of, tmp_path, more):
    sites = 3 if "participation" in more else 5
    plan = secure_of(sites, 5, rounds=4, **more)
    secure = run(plan, sites_of(SIZES, tmp_path / "1"), tmp_path / "secure")
    private = plan.privacy is not None
    if private:  # the noise's key is bound to the plan, so that another plan draws other noise
        assert secure.epsilon == run(plain_of(plan), sites_of(SIZES, tmp_path / "2"), tmp_path / "p").epsilon
        return
    plain = run(plain_of(plan), sites_of(SIZES), tmp_path / "plain")
    assert (secure.vector - plain.vector).abs().max() < 1e-5
    assert secure.counts == {EVERYBODY: sum_counts(list(plain.counts.values()))}


def test_a_round_costs_three_exchanges_once_it_runs(secure_of, sites_of, tmp_path):
    grid, _ = watched(secure_of(rounds=4), sites_of(SIZES), tmp_path)
    first = ["query", KEYS, KEYS]
    each = [WORK["train"], KEYS, KEYS]
    assert grid.batches == first + 4 * each + [WORK["evaluate"], KEYS, KEYS]


def test_nothing_of_one_site_is_on_the_wire(secure_of, sites_of, tmp_path):
    """Every answer is a site's name and version, messages of keys, or a vector that looks drawn at random."""
    plan, sites = secure_of(rounds=2), sites_of(SIZES)
    grid, _ = watched(plan, sites, tmp_path)
    bodies = []
    for reply in grid.replies:
        facts = dict(facts_of(reply.content))
        assert facts.pop("site") in sites.names
        if "vector" in reply.content:
            assert not facts
            masked = Masked.parse(vector_of(reply.content, np.uint8).tobytes())
            bodies.append(np.frombuffer(masked.body, np.uint8))
            continue
        assert {name: facts.pop(name) for name in spoken() if name in facts} in ({}, spoken())
        assert set(facts) <= {"session", "offer", "roll", "survivors", "consents"}
        kinds = {kind_of(from_text(value)) for name, value in facts.items() if name != "session"}
        assert kinds <= {Kind.ADVERT, Kind.SHARES, Kind.CONSENT, Kind.REVEAL}
    assert len(bodies) == 3 * 5
    for body in bodies:
        expected = len(body) / 256
        chi = float(((np.bincount(body, minlength=256) - expected) ** 2 / expected).sum())
        assert chi < 255 + 6 * (2 * 255) ** 0.5
    assert all("accuracy" in row for row in RunFolder(tmp_path).metrics())


def test_a_coordinator_or_a_site_without_keys_is_refused(secure_of, sites_of, tmp_path):
    plan, sites = secure_of(rounds=1), sites_of(SIZES)
    nodes = {i + 1: {"partition-id": i} for i in range(5)}
    with pytest.raises(ConfigError, match="no roster"):
        Coordinator(plan, RunFolder(tmp_path / "a"), "federated").run(
            LocalGrid(make_app(sites, sites.secure), nodes)
        )
    with pytest.raises(PrivacyError, match="no keys for secure aggregation"):
        Coordinator(plan, RunFolder(tmp_path / "b"), "federated", roster=sites.roster).run(
            LocalGrid(make_app(sites), nodes)
        )


# Drop-outs


def mean_by_hand(plan, sites, among):
    """The vector after one round over some of the sites, in plain."""
    start = FlatModel(build(plan.model, plan.seed)).full_vector
    total = MeanOfUpdates(len(start))
    for site in among:
        update = sites.agent(site).train(plain_of(plan), 1, start.numpy())
        total.add(update.delta, update.weight)
    return start + total.mean().float()


EXCHANGES = ("offer", "roll", "inbox", "survivors", "consents")


def losing(nodes, sessions, exchange):
    """Lose the messages of some nodes that belong to some sessions, from an exchange on."""

    def lose(message):
        if message.metadata.dst_node_id not in nodes:
            return False
        facts = facts_of(message.content)
        parts = [
            (session_of(from_text(facts[name])), EXCHANGES.index(name)) for name in EXCHANGES if name in facts
        ]
        return any(number in sessions and at >= exchange for number, at in parts)

    return lose


@pytest.mark.parametrize("exchange", range(5))
def test_a_site_may_drop_out_at_every_exchange(secure_of, sites_of, tmp_path, exchange):
    plan, sites = secure_of(rounds=1), sites_of(SIZES)
    _, result = watched(plan, sites, tmp_path, lose=losing((3,), (0,), exchange))
    among = [0, 1, 3, 4] if exchange < 3 else range(5)  # node 3 is the third site; later its vector is in
    expected = mean_by_hand(plan, sites_of(SIZES), among)
    assert (result.vector - expected).abs().max() < 1e-6
    # The messages that end a session begin the next one; whoever misses them misses both.
    back = range(5) if exchange < 3 else (0, 1, 3, 4)
    assert result.overall.rows == sum(len(sites.agent(i).test) for i in back)


@pytest.mark.parametrize("exchange", range(5))
def test_too_few_lose_the_round_and_the_run_goes_on(secure_of, sites_of, tmp_path, exchange):
    """Two of five drop out of the first session, where four are needed, and are there again for the second."""
    plan, sites, told = secure_of(rounds=2), sites_of(SIZES), []
    sessions = (0, 1) if exchange < 2 else (0,)  # one that fails before its question is asked is tried again
    _, result = watched(plan, sites, tmp_path, told.append, lose=losing((2, 4), sessions, exchange))
    lines = {record["round"]: record for record in told}
    assert "are needed" in lines[1]["lost"]
    assert "dropped out" in lines[1]["lost"]
    assert lines[1]["loss"] is None
    assert "lost" not in lines[2]
    assert result.overall.rows == len(sites.samples.rows("test"))


def test_a_run_that_only_loses_ends_with_the_reason(secure_of, sites_of, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "MOST_LOST", 3)
    told = []
    with pytest.raises(SecureAggregationError, match="3 rounds in a row have been lost") as error:
        watched(
            secure_of(rounds=9),
            sites_of(SIZES),
            tmp_path,
            told.append,
            lose=lambda m: m.metadata.message_type == WORK["train"] and m.metadata.dst_node_id > 2,
        )
    assert error.value.exit_code == 12
    assert len(told) == 2


def test_a_site_that_restarts_is_out_of_the_session_and_back_in_the_next(secure_of, sites_of, tmp_path):
    plan, sites, told, done = secure_of(rounds=2), sites_of(SIZES), [], []

    def restart(message):
        if message.metadata.message_type == WORK["train"] and message.metadata.dst_node_id == 2 and not done:
            done.append(sites._members.pop(1))

    _, result = watched(plan, sites, tmp_path, told.append, before=restart)
    expected = mean_by_hand(plan, sites_of(SIZES), [0, 2, 3, 4])
    assert done
    assert "lost" not in told[0]
    once = secure_of(rounds=1)
    done.clear()
    _, first = watched(once, sites_of(SIZES), tmp_path / "once")
    assert (first.vector - expected).abs().max() > 1e-4, "with the site in it, the mean is another"
    assert result.vector.isfinite().all()


def test_an_error_of_a_site_s_own_ends_the_run_as_in_plain(secure_of, sites_of, tmp_path):
    plan = secure_of(rounds=2, local={"learning_rate": 1e30, "gradient_clip": 0.0})
    with pytest.raises(TrainingError, match="not finite"):
        run(plan, sites_of(SIZES), tmp_path)


@pytest.mark.parametrize("private", [False, True])
def test_a_site_without_an_answer_drops_out_and_none_answers_for_another(
    secure_of, sites_of, tmp_path, private
):
    told, sites = [], sites_of(SIZES, tmp_path / "ledgers" if private else None)

    class Lying(Watched):
        def _answer(self, message):
            reply, whose = super()._answer(message), tell({"site": "site-1"})
            if (message.metadata.dst_node_id, message.metadata.message_type) == (2, WORK["train"]):
                reply.content = with_fact(reply.content, "site", "site-0") if private else whose
            return reply

    plan = secure_of(5, 5, rounds=1, private=private)
    coordinator = Coordinator(plan, RunFolder(tmp_path / "r"), "federated", told.append, roster=sites.roster)
    if private:  # where everybody has to take part
        with pytest.raises(IdentityError, match="it says that it is site-0"):
            coordinator.run(Lying(sites))
    else:
        coordinator.run(Lying(sites))
        assert "lost" not in told[0]


# Engines, resumption, transcripts


def test_workers_and_units_change_no_bit(secure_of, sites_of, tmp_path):
    plan = secure_of(rounds=2)
    alone = run(plan, sites_of(SIZES), tmp_path / "1")
    for workers in (2, 3):
        found = run(plan, sites_of(SIZES), tmp_path / f"{workers}", workers=workers)
        assert torch.equal(found.vector, alone.vector)
        assert found.counts == alone.counts


def test_sites_trained_together_are_masked_one_by_one(secure_of, sites_of, tmp_path):
    plan = secure_of(rounds=2, local={"gradient_clip": 0.0})
    together = run(plan, sites_of(SIZES), tmp_path / "a", together=3)
    alone = run(plan, sites_of(SIZES), tmp_path / "b")
    assert (together.vector - alone.vector).abs().max() < 1e-4
    assert together.overall.rows == alone.overall.rows


class Killed(BaseException):
    pass


@pytest.mark.parametrize("private", [False, True], ids=["plain", "private"])
def test_a_resumed_run_has_the_same_bits(secure_of, sites_of, tmp_path, monkeypatch, private):
    plan = secure_of(rounds=4, private=private)
    whole = run(plan, sites_of(SIZES, tmp_path / "l1"), tmp_path / "whole")
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)

    def stop(record):
        if record["round"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run(plan, sites_of(SIZES, tmp_path / "l2"), tmp_path / "parts", stop)
    again = run(plan, sites_of(SIZES, tmp_path / "l2"), tmp_path / "parts")
    assert torch.equal(again.vector, whole.vector)
    assert again.counts == whole.counts
    assert again.epsilon == whole.epsilon


def test_every_session_of_a_run_can_be_replayed(secure_of, sites_of, tmp_path):
    plan, sites = secure_of(rounds=2), sites_of(SIZES)
    folder = RunFolder(tmp_path / "run")
    kept = Transcripts(tmp_path / "transcripts", plan, sites.roster)
    grid = Watched(sites, lose=losing((3,), (0,), 2))
    Coordinator(plan, folder, "federated", roster=sites.roster, transcripts=kept).run(grid)
    found = [verify(path, sites.roster) for path in sorted((tmp_path / "transcripts").iterdir())]
    assert [(each.purpose, each.round_number) for each in found] == [
        ("train", 1),
        ("train", 2),
        ("evaluate", 2),
    ]
    assert found[0].survivors == ("site-0", "site-1", "site-3", "site-4")


def test_what_a_simulation_works_out_beside_adds_up_to_what_the_coordinator_learnt(
    secure_of, sites_of, tmp_path
):
    plan, sites = secure_of(rounds=2), sites_of(SIZES)
    result = run(plan, sites, tmp_path)
    own = counts_by_site(sites, plan, result.vector)
    assert sum_counts(list(own.values())) == result.overall


def test_a_resumed_run_keeps_the_transcripts_of_what_it_did_before(
    secure_of, sites_of, tmp_path, monkeypatch, fedfer
):
    plan = secure_of(rounds=4)
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)

    def stop(record):
        if record["round"] == 2:
            raise Killed

    def go_on(observer):
        run_local(plan, sites_of(SIZES), RunFolder(tmp_path), "federated", 1, observer, transcripts=True)

    with pytest.raises(Killed):
        go_on(stop)
    before = {path.name: path.read_bytes() for path in (tmp_path / "transcripts" / "000000").iterdir()}
    go_on(lambda _: None)
    assert {
        path.name: path.read_bytes() for path in (tmp_path / "transcripts" / "000000").iterdir()
    } == before
    code, out, _ = fedfer("server", "verify-round", str(tmp_path), "--json")
    assert code == 0
    sessions = json.loads(out)["sessions"]
    told = [(each["purpose"], each["round_number"]) for each in sessions if "lost" not in each]
    assert told == [("train", 1), ("train", 2), ("train", 3), ("train", 4), ("evaluate", 4)]
    assert len(sessions) > len(told), "the session that the kill cut off is there, too"


def test_the_same_sites_drop_out_of_a_run_that_is_resumed(secure_of, sites_of, tmp_path, monkeypatch):
    plan = secure_of(rounds=8)
    sites = replace(sites_of(SIZES), dropout=0.06)
    told = []
    whole = run(plan, sites, tmp_path / "whole", told.append)
    assert any("lost" in record for record in told) or whole.totals.visits < 8 * 5 * 2 * 8, "some dropped out"
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)
    for at in (2, 4, 5):

        def stop(record, at=at):
            if record["round"] == at:
                raise Killed

        with pytest.raises(Killed):
            run(plan, replace(sites_of(SIZES), dropout=0.06), tmp_path / "parts", stop)
    again = run(plan, replace(sites_of(SIZES), dropout=0.06), tmp_path / "parts")
    assert torch.equal(again.vector, whole.vector)
    assert again.counts == whole.counts


def test_sites_that_live_on_take_part_in_one_run_after_another(secure_of, sites_of, tmp_path):
    sites, told = sites_of(SIZES), []
    for name in ("first", "second", "third"):
        run(replace(secure_of(rounds=3), run=name), sites, tmp_path / name, told.append)
    assert [line["round"] for line in told] == [1, 2, 3] * 3
    assert not any("lost" in line for line in told)
