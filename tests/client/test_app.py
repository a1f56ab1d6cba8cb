"""The Flower app of a site, called with Flower's own messages."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, Message, MessageType, RecordDict

from client.app import evaluate_many, make_app, train_many
from client.failures import ERROR_CODES, error_from_wire
from client.ledger import Head
from client.mechanisms import from_plain, gaussian
from client.messages import facts_of, pack, scalar, text, vector_of
from client.plan import Secure
from fer_models.counts import Counts
from fer_models.errors import ConfigError, DataError, EngineError, ModelError, PrivacyError
from simulations.grid import take_identity


@pytest.fixture
def ask(agent_of):
    """ask(kind, content, site=0): a reply of the app that serves two sites, by node configuration."""
    take_identity(1)
    agents = [agent_of(f"site-{i}", train=range(20 * i, 20 * i + 20)) for i in range(2)]

    def find(context):
        if int(context.node_config["site"]) > 1:
            raise DataError(
                "no such site", where=str(context.node_config["site"]), cure="Name one that exists."
            )
        return agents[int(context.node_config["site"])]

    app = make_app(find)

    def make(kind, content, site=0):
        message = Message(content, site + 1, kind, group_id="1")
        message.metadata.__dict__["_message_id"] = "m1"
        reply = app(message, Context(1, site + 1, {"site": site}, RecordDict(), {}))
        assert reply.metadata.reply_to_message_id == "m1"
        return reply

    make.agents = agents
    return make


def weights(bench_of, plan):
    return bench_of(plan).flat.full_vector.clone().numpy()


def refused(reply):
    assert reply.has_error()
    assert reply.error.code >= ERROR_CODES
    return error_from_wire(reply.error, "node")


@pytest.mark.parametrize("site", [0, 1])
def test_a_query_tells_the_sites_name(ask, site):
    assert text(ask(MessageType.QUERY, RecordDict(), site).content, "site") == f"site-{site}"


def test_train(ask, plan_of, bench_of):
    plan = plan_of(local={"batch": 8})
    start = weights(bench_of, plan)
    content = ask(MessageType.TRAIN, pack(start, {"plan": plan.text, "round": 2}), 1).content
    alone = ask.agents[1].train(plan, 2, start)
    assert np.array_equal(vector_of(content, np.float32, len(start)), alone.delta)
    assert text(content, "site") == "site-1"
    assert (scalar(content, "weight"), scalar(content, "visits")) == (20, 32)
    assert scalar(content, "loss") == alone.loss
    assert 0 <= scalar(content, "cpu_seconds") < 60
    assert set(facts_of(content)) == {"site", "weight", "visits", "loss", "cpu_seconds"}
    assert set(content) == {"vector", "facts"}


def test_train_with_privacy_sends_the_history_and_no_more_about_the_data(ask, plan_of, bench_of):
    plan = plan_of(privacy={})
    content = ask(MessageType.TRAIN, pack(weights(bench_of, plan), {"plan": plan.text, "round": 1})).content
    assert from_plain(json.loads(text(content, "history"))) == gaussian(1.0, 0.2, 4)
    assert set(facts_of(content)) == {"site", "weight", "visits", "loss", "cpu_seconds", "history", "ledger"}
    assert Head.of(text(content, "ledger")) == ask.agents[0]._ledger.head
    assert [scalar(content, name) for name in ("weight", "visits", "loss")] == [1, 40, 0]


def test_evaluate(ask, plan_of, bench_of, samples):
    plan = plan_of()
    start = weights(bench_of, plan)
    content = ask(MessageType.EVALUATE, pack(start, {"plan": plan.text, "prove": 1})).content
    counts = Counts.from_vector(vector_of(content, np.int64), plan.labels, plan.attributes)
    assert counts.rows == 50
    assert counts.overall.sum(1).tolist() == np.bincount(samples.label[100:150], minlength=3).tolist()
    assert set(facts_of(content)) == {"site", "cpu_seconds"}


def test_several_sites_at_once(ask, plan_of, bench_of):
    plan = plan_of(local={"batch": 8})
    start = weights(bench_of, plan)
    message = pack(start, {"plan": plan.text, "round": 1, "prove": 0})
    trained, evaluated = (
        train_many(ask.agents, [message] * 2, one_pass=True),
        evaluate_many(ask.agents, message),
    )
    for site in range(2):
        alone = ask(MessageType.TRAIN, message, site).content
        one, two = vector_of(trained[site], np.float32), vector_of(alone, np.float32)
        assert np.linalg.norm(one - two) < 1e-5 * np.linalg.norm(two)
        assert text(trained[site], "site") == text(evaluated[site], "site") == f"site-{site}"
        counts = vector_of(ask(MessageType.EVALUATE, message, site).content, np.int64)
        assert np.array_equal(vector_of(evaluated[site], np.int64), counts)


def test_several_sites_in_a_row_give_the_bits_of_each_alone(ask, plan_of, bench_of):
    plan = plan_of(local={"batch": 8})
    message = pack(weights(bench_of, plan), {"plan": plan.text, "round": 1})
    for site, found in enumerate(train_many(ask.agents, [message] * 2, one_pass=False)):
        alone = ask(MessageType.TRAIN, message, site).content
        assert vector_of(found, np.float32).tobytes() == vector_of(alone, np.float32).tobytes()
        assert dict(facts_of(found)) | {"cpu_seconds": 0} == dict(facts_of(alone)) | {"cpu_seconds": 0}


def bad(asked, start, **changes):
    facts = {"plan": asked.text, "round": 1, "prove": 0, **changes}
    return pack(start, {name: value for name, value in facts.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"plan": None}, EngineError, "a message without plan"),
        ({"plan": "{}"}, ConfigError, "a value is missing"),
        ({"plan": "no json"}, ConfigError, "the plan is no JSON"),
        ({"round": None}, EngineError, "a message without round"),
        ({"round": 0}, EngineError, "round 0 is none"),
        ({"round": -3}, EngineError, "round -3 is none"),
        ({"round": 1.5}, EngineError, "round 1.5 is none"),
        ({"round": "1"}, EngineError, "a message without round"),
        ({"round": float("nan")}, EngineError, "a message without round"),
    ],
)
def test_a_bad_train_message_is_answered_with_its_error(changes, kind, message, ask, plan_of, bench_of):
    plan = plan_of()
    found = refused(ask(MessageType.TRAIN, bad(plan, weights(bench_of, plan), **changes)))
    assert type(found) is kind
    assert found.what.startswith(message)


def test_errors_of_the_agent_come_back_as_they_were_raised(ask, plan_of, bench_of):
    plan, normed = plan_of(), plan_of("fer_nano", norm="bn", privacy={})
    start = weights(bench_of, plan)
    assert type(refused(ask(MessageType.TRAIN, bad(plan, start[:-1])))) is ModelError
    assert type(refused(ask(MessageType.TRAIN, bad(plan, start.astype(np.float64))))) is EngineError
    assert type(refused(ask(MessageType.TRAIN, bad(normed, start)))) is PrivacyError
    assert type(refused(ask(MessageType.EVALUATE, bad(plan, start, prove=None)))) is EngineError
    for kind in (MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY):
        assert refused(ask(kind, bad(plan, start), 2)).what == "no such site"


def test_a_defect_is_no_answer(ask, plan_of, bench_of):
    """What is not in the tree of errors goes up to Flower with its traceback."""
    plan = plan_of()
    ask.agents[0].samples = None
    with pytest.raises(AttributeError):
        ask(MessageType.TRAIN, bad(plan, weights(bench_of, plan)))


def test_a_question_in_plain_about_a_secure_plan_is_refused(ask, plan_of, bench_of):
    """Whichever question it is: nothing of one site may leave it where the plan promises that only sums do."""
    plan = plan_of(server={"adjustment": 1.0})
    secure = Secure(sites=3, threshold=3, minimum=3, clip=8.0, largest_weight=64)
    vector, told = weights(bench_of, plan), replace(plan, aggregation="secure", secure=secure)
    facts = {"plan": told.text, "round": 1, "prove": 0}
    for kind in (MessageType.TRAIN, MessageType.EVALUATE, "query.label_counts"):
        assert not ask(kind, pack(vector, {**facts, "plan": plan.text})).has_error()
        error = refused(ask(kind, pack(vector, facts)))
        assert isinstance(error, PrivacyError)
        assert error.where == "aggregation"
    with pytest.raises(PrivacyError):
        train_many(ask.agents, [pack(vector, facts)] * 2, one_pass=True)
    with pytest.raises(PrivacyError):
        evaluate_many(ask.agents, pack(vector, facts))


def test_a_plan_bounds_the_rounds_and_what_is_counted_in_each(ask, plan_of, bench_of):
    """Else a coordinator trains for longer than the policy saw, or reads exact counts where the plan promises noise."""
    plan = plan_of(privacy={}, server={"rounds": 2, "evaluate_every": 2})
    plan = replace(plan, privacy=replace(plan.privacy, audit_epsilon=1.0))
    start = weights(bench_of, plan)
    assert not ask(MessageType.TRAIN, pack(start, {"plan": plan.text, "round": 2})).has_error()
    for number in (3, 4):
        error = refused(ask(MessageType.TRAIN, pack(start, {"plan": plan.text, "round": number})))
        assert error.what == f"round {number} is none of a plan of 2"
    for number in (1, 2, 3):
        facts = {"plan": plan.text, "round": number, "judged": 1, "prove": 0}
        assert refused(ask(MessageType.TRAIN, pack(start, facts))).exit_code in (
            PrivacyError.exit_code, EngineError.exit_code,
        )  # fmt: skip
    error = refused(ask(MessageType.TRAIN, pack(start, {**facts, "round": 2})))
    assert (type(error), error.where) == (PrivacyError, "judged")
    assert len(ask.agents[0]._ledger.events) == 1
