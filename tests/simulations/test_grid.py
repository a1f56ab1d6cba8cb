"""The in-process grid: real apps, equal bits for any number of workers, a failing site is a reply."""

import os
import signal

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from client.app import make_app
from client.messages import facts_of, pack, text, vector_of, with_fact
from fer_models.errors import EngineError, TrainingError
from fer_models.flat import FlatModel
from fer_models.zoo import build
from server.exchange import exchange
from simulations.federated import local_grid
from simulations.grid import LocalGrid


@pytest.fixture
def grid_of():
    grids = []

    def make(app, nodes=4, **options):
        configs = {10 + i: {"partition-id": i} for i in range(nodes)}
        grids.append(LocalGrid(app, configs, **options))
        return grids[-1]

    yield make
    for grid in grids:
        grid.close()


def echo():
    """A ClientApp that answers with its place and what it was asked; node 2 always fails."""
    app = ClientApp()

    @app.train()
    def _train(message, context):
        place = context.node_config["partition-id"]
        if place == 2:
            raise ValueError("no such picture")
        facts = {"place": place, "asked": text(message.content, "word"), "group": message.metadata.group_id}
        return Message(pack(np.zeros(1, np.float32), facts), reply_to=message)

    return app


def content(word="hello"):
    return pack(np.zeros(1, np.float32), {"word": word})


def told(reply):
    assert not reply.has_error()
    return dict(facts_of(reply.content))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_message_reaches_its_node_and_the_answer_its_message(grid_of, workers):
    grid = grid_of(echo(), workers=workers)
    assert grid.get_node_ids() == [10, 11, 12, 13]
    sent = [grid.create_message(content(), "train", node, "g5") for node in (13, 10)]
    identities = grid.push_messages(sent)
    assert len(set(identities)) == 2
    replies = {}
    while len(replies) < 2:
        replies |= {r.metadata.reply_to_message_id: r for r in grid.pull_messages(identities)}
    facts = [told(replies[identity]) for identity in identities]
    assert facts == [{"place": place, "asked": "hello", "group": "g5"} for place in (3, 0)]
    assert [replies[each].metadata.src_node_id for each in identities] == [13, 10]
    assert list(grid.pull_messages(identities)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_of_a_site_is_a_reply_and_others_go_on(grid_of, workers):
    grid = grid_of(echo(), workers=workers)
    replies = grid.send_and_receive(Message(content(), node, "train") for node in grid.get_node_ids())
    by_node = {reply.metadata.src_node_id: reply for reply in replies}
    assert by_node[12].has_error()
    assert "ValueError: no such picture" in by_node[12].error.reason
    assert [told(by_node[node])["place"] for node in (10, 11, 13)] == [0, 1, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_action_the_app_does_not_know_is_an_error_reply(grid_of, workers):
    [reply] = grid_of(echo(), workers=workers).send_and_receive([Message(content(), 10, "train.unknown")])
    assert reply.has_error()


class Units:
    """Answers every message of a unit with the unit's size and the content's word."""

    def __init__(self, error=None):
        self.error = error

    def __call__(self, kind, contexts, contents):
        if self.error:
            raise self.error
        pairs = zip(contexts, contents, strict=True)
        places = [(c.node_config["partition-id"], text(content, "word")) for c, content in pairs]
        facts = [{"place": place, "size": len(contexts), "word": word} for place, word in places]
        return [pack(np.zeros(1, np.float32), each) for each in facts]


def asked_together(grid, words):
    shared = {word: content(word) for word in words}
    nodes = grid.get_node_ids()
    replies = grid.send_and_receive(
        Message(shared[w], node, "train") for w, node in zip(words, nodes, strict=False)
    )
    return sorted(replies, key=lambda reply: reply.metadata.src_node_id)


@pytest.mark.parametrize("workers", [1, 2])
def test_units_are_answered_in_one_go(grid_of, workers):
    grid = grid_of(echo(), 8, workers=workers, together=Units(), units=lambda _: 3)
    replies = asked_together(grid, ["a"] * 8)
    assert [told(reply)["size"] for reply in replies] == [3, 3, 3, 3, 3, 3, 2, 2]
    assert [told(reply)["place"] for reply in replies] == list(range(8))


@pytest.mark.parametrize("workers", [1, 2])
def test_messages_of_different_vectors_never_share_a_unit(grid_of, workers):
    grid = grid_of(echo(), 8, workers=workers, together=Units(), units=lambda _: 4)
    replies = asked_together(grid, ["a", "a", "a", "b", "b", "c", "c", "c"])
    assert [told(reply)["size"] for reply in replies] == [3, 3, 3, 2, 2, 3, 3, 3]
    assert [told(reply)["word"] for reply in replies] == ["a", "a", "a", "b", "b", "c", "c", "c"]


@pytest.mark.parametrize("workers", [1, 2])
def test_messages_that_differ_in_a_fact_alone_share_a_unit(grid_of, workers):
    grid, shared = grid_of(echo(), 8, workers=workers, together=Units(), units=lambda _: 4), content("a")
    nodes = grid.get_node_ids()
    sent = (Message(with_fact(shared, "word", str(node)), node, "train") for node in nodes)
    found = [told(reply) for reply in grid.send_and_receive(sent)]
    assert {(each["place"], each["size"], each["word"]) for each in found} == {
        (place, 4, str(node)) for place, node in enumerate(nodes)
    }


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [TrainingError("diverged", where="site-1"), ZeroDivisionError("by zero")])
def test_a_failure_falls_to_all_of_its_unit(grid_of, workers, error):
    grid = grid_of(echo(), 4, workers=workers, together=Units(error), units=lambda _: 2)
    replies = asked_together(grid, ["a"] * 4)
    assert [reply.has_error() for reply in replies] == [True] * 4
    expected = (1007, "diverged") if isinstance(error, TrainingError) else (2, "ZeroDivisionError: by zero")
    assert all(r.error.code == expected[0] and expected[1] in r.error.reason for r in replies)


def test_a_worker_killed_by_the_system_is_one_line_with_the_cure(grid_of):
    app = ClientApp()

    @app.train()
    def _train(message, context):
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with pytest.raises(EngineError, match="a worker died with exit code -9") as error:
        list(
            exchange(
                grid := grid_of(app, workers=2), (Message(content(), n, "train") for n in grid.get_node_ids())
            )
        )
    assert error.value.exit_code == 10
    assert "engine.workers=1" in error.value.cure


def test_a_run_can_be_set(grid_of):
    grid = grid_of(echo())
    run = Run.create_empty(77)
    grid.set_run(run)
    assert grid.run is run


# Equal bits


def answers(sites, plan, kind, workers, together):
    """Every site's vector, in the order of the sites."""
    vector = FlatModel(build(plan.model, plan.seed)).full_vector.numpy()
    shared = pack(vector, {"round": 1, "prove": 1, "plan": plan.text})
    with local_grid(sites, workers, together) as grid:
        sent = (Message(shared, node, kind) for node in grid.get_node_ids())
        replies = list(exchange(grid, sent))
    assert [text(reply.content, "site") for reply in replies] == sites.names
    dtype = np.float32 if kind == MessageType.TRAIN else np.int64
    return [vector_of(reply.content, dtype).tobytes() for reply in replies]


@pytest.mark.parametrize("private", [False, True], ids=["plain", "private"])
@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE])
def test_workers_and_the_process_itself_give_equal_bits(plan_of, sites_of, tmp_path, kind, private):
    plan, sizes = plan_of(private=private), (10, 20, 15, 25, 20)
    alone = answers(sites_of(sizes, tmp_path / "1"), plan, kind, 1, 1)
    assert len(set(alone)) == 5
    for workers in (2, 3):
        assert answers(sites_of(sizes, tmp_path / f"{workers}"), plan, kind, workers, 1) == alone


def test_sites_trained_together_give_equal_bits_on_any_workers(plan_of, sites_of):
    plan, sizes = plan_of(local={"gradient_clip": 0.0}), (10, 20, 15, 25, 20)
    one_by_one = answers(sites_of(sizes), plan, MessageType.TRAIN, 1, 1)
    together = answers(sites_of(sizes), plan, MessageType.TRAIN, 1, 2)
    assert answers(sites_of(sizes), plan, MessageType.TRAIN, 2, 2) == together
    assert answers(sites_of(sizes), plan, MessageType.TRAIN, 3, 2) == together
    deltas = [[np.frombuffer(each, np.float32) for each in found] for found in (one_by_one, together)]
    for alone, beside in zip(*deltas, strict=True):
        assert np.abs(alone - beside).max() < 1e-5 < np.abs(alone).max()


def test_the_number_of_threads_is_put_back(sites_of, plan_of):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with local_grid(sites_of(), 1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_site_tells_its_name(sites_of):
    grid = LocalGrid(make_app(sites_of()), {5: {"partition-id": 2}})
    [reply] = grid.send_and_receive([Message(RecordDict(), 5, MessageType.QUERY)])
    assert text(reply.content, "site") == "site-2"
