"""Rounds over real Flower messages: order, memory, means by hand, errors by kind, resumption to equal bits."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import server.rounds as rounds
import server.standing as standing
from client.app import make_app
from client.failures import error_to_wire
from client.messages import pack, tell
from client.versions import spoken
from fer_models.counts import Counts
from fer_models.errors import ConfigError, DataError, EngineError, RunFolderError, TrainingError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.asking import sum_counts
from server.drawing import cohort
from server.exchange import WINDOW, exchange
from server.rounds import Coordinator
from server.run_folder import RunFolder
from simulations.federated import run_local
from simulations.grid import LocalGrid

# Cohorts


def test_a_cohort_is_drawn_anew_each_round_and_repeats_with_its_seed():
    nodes = list(range(100, 150))
    drawn = [cohort(3, number, nodes, 0.3) for number in range(1, 30)]
    assert drawn == [cohort(3, number, nodes, 0.3) for number in range(1, 30)]
    assert all(len(set(each)) == 15 and each == sorted(each) and set(each) <= set(nodes) for each in drawn)
    assert len({tuple(each) for each in drawn}) == 29
    assert drawn != [cohort(4, number, nodes, 0.3) for number in range(1, 30)]
    seen = np.bincount(np.concatenate(drawn) - 100, minlength=50)
    assert seen.min() >= 1
    assert seen.max() <= 20


@pytest.mark.parametrize(("share", "size"), [(1.0, 7), (0.5, 4), (0.3, 2), (0.001, 1)])
def test_a_cohort_has_the_size_asked_for(share, size):
    assert len(cohort(0, 1, list(range(7)), share)) == size


def test_the_draw_follows_places_and_not_node_ids():
    places = [[7, 3, 9, 5].index(node) for node in cohort(1, 1, [7, 3, 9, 5], 0.5)]
    assert places == cohort(1, 1, list(range(4)), 0.5)


# Exchange


class Backwards(LocalGrid):
    """Answers the newest of what it is asked for first, a few at a time; sometimes nothing."""

    few = 3
    quiet = 0

    def __init__(self, app, nodes):
        super().__init__(app, {node: {"partition-id": node} for node in range(1, nodes + 1)})
        self.waiting, self.asked, self.pulls = {}, [], 0

    def push_messages(self, messages):
        messages = list(messages)
        identities = super().push_messages(messages)
        self._queue.clear()
        self.waiting |= dict(zip(identities, messages, strict=True))
        return identities

    def pull_messages(self, message_ids):
        wanted = list(message_ids)
        self.asked.append(len(wanted))
        self.pulls += 1
        if self.quiet and self.pulls % self.quiet == 0:
            return []
        return [self._answer(self.waiting.pop(each)) for each in wanted[: -self.few - 1 : -1]]


def echo():
    """A ClientApp that returns the number of its node."""
    app = ClientApp()

    @app.train()
    def _train(message, context):
        node = int(context.node_config["partition-id"])
        return Message(pack(np.full(4, node, np.float32), {"node": node}), reply_to=message)

    return app


def asked(nodes):
    content = pack(np.zeros(4, np.float32), {})
    return (Message(content, node, "train") for node in nodes)


@pytest.mark.parametrize("quiet", [0, 2])
def test_replies_come_in_the_order_of_the_messages(quiet):
    grid = Backwards(echo(), 200)
    grid.quiet = quiet
    nodes = np.random.default_rng(0).permutation(np.arange(1, 201)).tolist()
    found = [reply.metadata.src_node_id for reply in exchange(grid, asked(nodes))]
    assert found == nodes


def test_no_more_replies_than_a_window_are_held():
    grid = Backwards(echo(), 400)
    alive = weakref.WeakSet()
    most = 0
    answer = grid._answer

    def watched(message):
        reply = answer(message)
        alive.add(reply)
        return reply

    grid._answer = watched
    for _ in exchange(grid, asked(range(1, 401))):
        most = max(most, len(alive))
    assert max(grid.asked) == WINDOW
    assert grid.few < most <= WINDOW + 1


def test_nothing_to_send_gives_nothing():
    assert list(exchange(Backwards(echo(), 1), [])) == []


# Means by hand, over the real sites


def run(plan, sites, folder, observer=None, workers=1):
    return run_local(plan, sites, RunFolder(folder), "federated", workers, observer or (lambda _: None))


def updates(plan, sites):
    vector = FlatModel(build(plan.model, plan.seed)).full_vector.numpy()
    return vector, [sites.agent(i).train(plan, 1, vector) for i in range(sites.partition.sites)]


@pytest.mark.parametrize("weighting", ["size", "uniform"])
def test_one_round_is_the_mean_by_hand(plan_of, sites_of, tmp_path, weighting):
    plan, sites = plan_of(rounds=1, weighting=weighting), sites_of((15, 15, 60))
    start, found = updates(plan, sites)
    rows = [len(sites.partition.rows(i, sites.samples, "train")) for i in range(3)]
    weights = np.array(rows if weighting == "size" else [1, 1, 1], float)
    assert [update.weight for update in found] == weights.tolist()
    mean = np.average([update.delta.astype(float) for update in found], axis=0, weights=weights)
    result = run(plan, sites, tmp_path)
    assert np.allclose(result.vector.numpy(), start + mean, atol=1e-7)
    plain = np.mean([update.delta for update in found], axis=0)
    assert np.allclose(mean, plain, atol=1e-6) == (weighting == "uniform")
    totals = result.totals
    assert totals.visits == sum(update.visits for update in found)
    assert totals.bytes_up == totals.bytes_down == 3 * 4 * len(start)
    assert totals.epsilon is None
    assert result.overall.rows == len(sites.samples.rows("test"))
    assert set(result.counts) == {"site-0", "site-1", "site-2"}


def test_the_order_of_nodes_does_not_matter(plan_of, sites_of, tmp_path):
    """Node ids come in any order from a server; sites count in the order of their names."""
    plan, sites = plan_of(rounds=3, participation=0.4), sites_of((18,) * 5)
    results = []
    for name, order in (("a", [0, 1, 2, 3, 4]), ("b", [3, 0, 4, 2, 1])):
        grid = LocalGrid(make_app(sites), {90 - 7 * i: {"partition-id": i} for i in order})
        results.append(Coordinator(plan, RunFolder(tmp_path / name), "federated").run(grid))
    assert torch.equal(results[0].vector, results[1].vector)
    assert list(results[0].counts) == list(results[1].counts) == sites.names


class Registering(LocalGrid):
    """A grid whose nodes register one by one, one each time it is asked, up to some number."""

    shown, most = 0, 100

    def get_node_ids(self):
        self.shown = min(self.shown + 1, self.most)
        return super().get_node_ids()[: self.shown]


def test_sites_that_register_late_are_waited_for(plan_of, sites_of, tmp_path, monkeypatch):
    """Otherwise a run on a busy machine would go on without them, and say nothing."""
    plan, sites = plan_of(rounds=1), sites_of((18,) * 3)
    nodes = {i + 1: {"partition-id": i} for i in range(3)}
    found = Coordinator(plan, RunFolder(tmp_path), "federated", sites=3).run(
        Registering(make_app(sites), nodes)
    )
    assert list(found.counts) == sites.names
    grid = Registering(make_app(sites), nodes)
    grid.most = 2
    monkeypatch.setattr(standing, "WAITING_SECONDS", 0.0)
    with pytest.raises(EngineError, match="only 1 of 3 sites"):
        Coordinator(plan, RunFolder(tmp_path / "never"), "federated", sites=3).run(grid)


def test_the_loss_of_a_round_is_the_mean_over_visits(plan_of, sites_of, tmp_path):
    plan, sites = plan_of(rounds=1, local={"unit": "epochs", "amount": 1}), sites_of((15, 15, 60))
    _, found = updates(plan, sites)
    records = []
    run(plan, sites, tmp_path, records.append)
    visits = [update.visits for update in found]
    assert len(set(visits)) > 1
    expected = np.average([update.loss for update in found], weights=visits)
    assert records[0]["loss"] == pytest.approx(expected)


def test_only_the_cohort_trains(plan_of, sites_of, tmp_path):
    plan, sites = plan_of(rounds=3, participation=0.4), sites_of((18,) * 5)
    result = run(plan, sites, tmp_path)
    assert result.totals.visits == 3 * 2 * 2 * 8
    assert len(result.counts) == 5


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_the_last_round_is_always_evaluated(plan_of, sites_of, tmp_path, every, expected):
    told = []
    run(plan_of(rounds=5, evaluate_every=every), sites_of(), tmp_path, told.append)
    assert [record["round"] for record in RunFolder(tmp_path).metrics()] == expected
    assert [record["round"] for record in told] == [1, 2, 3, 4, 5]
    assert [record["round"] for record in told if "accuracy" in record] == expected


def test_the_largest_epsilon_of_any_site_is_told(plan_of, sites_of, tmp_path):
    plan, sites = plan_of(private=True, rounds=4, participation=0.5), sites_of((30, 30, 30))
    result = run(plan, sites, tmp_path)
    took_part = [sum(i in cohort(plan.seed, r, range(3), 0.5) for r in range(1, 5)) for i in range(3)]
    assert max(result.epsilon.values()) == result.totals.epsilon
    busiest = f"site-{int(np.argmax(took_part))}"
    assert result.epsilon[busiest] == result.totals.epsilon
    curve = [record["epsilon"] for record in RunFolder(tmp_path).metrics()]
    assert curve == sorted(curve)
    assert curve[-1] == result.totals.epsilon > curve[0] > 0


# Errors keep their kind


def failing(error, node=2, what="train"):
    def app_of(sites):
        app = make_app(sites)
        real = app.__call__

        class Broken(ClientApp):
            def __call__(self, message: Message, context: Context) -> Message:
                if message.metadata.message_type == what and message.metadata.dst_node_id == node:
                    if isinstance(error, EngineError):
                        raise OSError("lost its disk")
                    return Message(error_to_wire(error), reply_to=message)
                return real(message, context)

        return Broken()

    return app_of


@pytest.mark.parametrize(
    "error",
    [
        TrainingError("the loss is not finite", where="site-1, round 1", cure="Lower it."),
        DataError("a site without pictures", where="site-1", cure="Give it some."),
        RunFolderError("the disk is full", where="ledger", cure="Free space."),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_an_error_of_a_site_surfaces_as_its_own_kind(plan_of, sites_of, tmp_path, error, what):
    sites = sites_of()
    grid = LocalGrid(failing(error, what=what)(sites), {i + 1: {"partition-id": i} for i in range(3)})
    with pytest.raises(type(error)) as raised:
        Coordinator(plan_of(), RunFolder(tmp_path), "federated").run(grid)
    assert str(raised.value) == str(error)


def test_a_crash_of_a_site_is_an_engine_error(plan_of, sites_of, tmp_path):
    grid = LocalGrid(failing(EngineError(""))(sites_of()), {i + 1: {"partition-id": i} for i in range(3)})
    with pytest.raises(EngineError, match="OSError: lost its disk") as raised:
        Coordinator(plan_of(), RunFolder(tmp_path), "federated").run(grid)
    assert raised.value.where == "node 2"


def test_diverging_sites_are_named(plan_of, sites_of, tmp_path):
    plan = plan_of(local={"learning_rate": 1e30, "gradient_clip": 0.0})
    with pytest.raises(TrainingError, match="not finite") as raised:
        run(plan, sites_of(), tmp_path)
    assert raised.value.where == "site-0, round 1"
    assert RunFolder(tmp_path).metrics() == []


def test_an_update_that_is_not_finite_is_its_sites_training_error(plan_of, tmp_path):
    plan = plan_of(rounds=1)
    size = len(FlatModel(build(plan.model, 0)).full_vector)
    app = ClientApp()

    @app.query()
    def _query(message, context):
        return Message(tell({"site": "site-0", **spoken()}), reply_to=message)

    @app.train()
    def _train(message, context):
        facts = {"site": "site-0", "weight": 1.0, "visits": 1, "loss": 1.0, "cpu_seconds": 0.0}
        return Message(pack(np.full(size, np.nan, np.float32), facts), reply_to=message)

    with pytest.raises(TrainingError, match="its update is not finite") as raised:
        Coordinator(plan, RunFolder(tmp_path), "federated").run(LocalGrid(app, {1: {"partition-id": 0}}))
    assert raised.value.where == "site-0, round 1"


def test_no_sites_is_a_configuration_error(plan_of, tmp_path):
    with pytest.raises(ConfigError, match="no sites"):
        Coordinator(plan_of(), RunFolder(tmp_path), "federated").run(LocalGrid(echo(), {}))


def test_no_counts_cannot_be_added():
    with pytest.raises(EngineError, match="no site sent counts"):
        sum_counts([])
    one = Counts.of(np.array([0, 1]), np.array([0, 0]), ("fear", "anger"), {}, {})
    assert sum_counts([one, one]).rows == 4


# Resumption


class Killed(BaseException):
    pass


def interrupted(at):
    def observe(record):
        if record["round"] == at:
            raise Killed

    return observe


def without_clock(records):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


SERVERS = {
    "average": {"ema": 0.9},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "momentum": 0.9, "schedule": "onecycle", "ema": 0.9},
    "part": {"participation": 0.5, "momentum": 0.5},
    "one": {"participation": 0.34},
}


@pytest.mark.parametrize("private", [False, True], ids=["plain", "private"])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_run_resumed_from_its_checkpoint_equals_one_in_one_go(
    plan_of, sites_of, tmp_path, monkeypatch, kind, private
):
    plan = plan_of(private=private, rounds=6, evaluate_every=2, **SERVERS[kind])
    whole = run(plan, sites_of(ledgers=tmp_path / "ledger-1"), tmp_path / "whole")
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", -1.0)
    for at in (1, 4, 5):  # killed three times, each before the checkpoint of its round
        with pytest.raises(Killed):
            run(plan, sites_of(ledgers=tmp_path / "ledger-2"), tmp_path / "parts", interrupted(at))
    resumed = run(plan, sites_of(ledgers=tmp_path / "ledger-2"), tmp_path / "parts")
    assert torch.equal(resumed.vector, whole.vector)
    assert resumed.counts == whole.counts
    assert resumed.epsilon == whole.epsilon
    cost = [replace(result.totals, cpu_seconds=0) for result in (resumed, whole)]
    assert cost[0] == cost[1]
    lines = [RunFolder(tmp_path / name).metrics() for name in ("parts", "whole")]
    assert without_clock(lines[0]) == without_clock(lines[1])
    assert [line["seconds"] for line in lines[0]] == sorted(line["seconds"] for line in lines[0])


def test_a_finished_run_is_not_run_again(plan_of, sites_of, tmp_path):
    plan = plan_of()
    whole = run(plan, sites_of(), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    told = []
    again = run(plan, sites_of(), tmp_path, told.append)
    assert told == []
    assert torch.equal(again.vector, whole.vector)
    assert again.counts == whole.counts
    assert again.totals == whole.totals
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_of_another_plan_is_refused(plan_of, sites_of, tmp_path):
    run(plan_of(rounds=1), sites_of(), tmp_path)
    with pytest.raises(ConfigError, match="another plan"):
        run(plan_of(rounds=2), sites_of(), tmp_path)


def test_checkpoints_are_written_when_the_last_one_is_old(plan_of, sites_of, tmp_path, monkeypatch):
    written = []
    folder = RunFolder(tmp_path)
    save = folder.save_checkpoint
    monkeypatch.setattr(folder, "save_checkpoint", lambda *a: (written.append(a[2]["round"]), save(*a)))
    run_local(plan_of(rounds=4), sites_of(), folder, "federated", 1, lambda _: None)
    assert written == [4], "none is old after a moment, and the last round is always kept"
