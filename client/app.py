"""The Flower ClientApp: a relay between messages and the site's agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.agent import Agent, Update
from client.answers import judged, ledger_facts, updates
from client.audit_counts import is_noisy
from client.client_app import app_of
from client.failures import error_to_wire
from client.judging import evaluate_sites
from client.messages import facts_of, pack, pack_parts, scalar, tell, text, vector_of
from client.plan import Plan, read_plan
from client.question import read_question, seen_of
from client.secure_app import (
    Answer,
    count_labels_secure,
    count_statistics_secure,
    evaluate_secure,
    sum_moments_secure,
    train_secure,
)
from client.secure_site import SecureSite
from client.versions import require_same, spoken
from fer_models.counts import Counts
from fer_models.errors import FedferError, PrivacyError

FindAgent = Callable[[Context], Agent]
"""Returns the agent that answers for a node."""

FindSecure = Callable[[Context], SecureSite]
"""Returns a node's part in secure aggregation."""


def train(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a train message: weights, plan and round in; update out, and counts where it asks for an evaluation."""
    return train_many([agent], [content], one_pass=False)[0]


def train_many(
    agents: Sequence[Agent], contents: Sequence[RecordDict], *, one_pass: bool
) -> list[RecordDict]:
    """Answer a train message for several agents of this process, one after the other or in one pass.

    The messages ask the same of all; only what each is told of its own ledger may differ.
    """
    began = time.process_time()
    question = read_question(contents[0])
    _require_plain(question.plan)
    counts = judged(agents, question)
    own = [agent.count_own(question.plan, question.round_number, question.vector) for agent in agents]
    found = updates(agents, contents, question, lambda work: work(), one_pass=one_pass)
    each = (time.process_time() - began) / len(agents)
    done = zip(agents, found, counts, own, strict=True)
    return [_trained(agent, update, counted, each) for agent, update, *counted in done]


def _require_plain(plan: Plan) -> None:
    """Refuse a question in plain about a plan that promises secure aggregation: its answer is masked, or none.

    Raises
    ------
    PrivacyError : the plan promises it.
    """
    if plan.aggregation == "secure":
        raise PrivacyError(
            "the plan promises secure aggregation, and this question would show the coordinator the site's own answer",
            where="aggregation",
            cure="Ask in a session of secure aggregation, or plan aggregation=plain.",
        )


def count_labels(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a query for label counts: plan in, counts out."""
    plan = read_plan(text(content, "plan"))
    _require_plain(plan)
    found = agent.count_labels(plan, seen_of(content))
    return pack(found.counts, {"site": agent.name, **ledger_facts(found)})


def count_statistics(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer a query for statistics: plan in, tables out."""
    plan = read_plan(text(content, "plan"))
    _require_plain(plan)
    found = agent.statistics(plan, seen_of(content))
    return pack(found.counts, {"site": agent.name, **ledger_facts(found)})


def _trained(agent: Agent, update: Update, counts: list[Counts | None], cpu_seconds: float) -> RecordDict:
    facts = {
        **_facts(agent, cpu_seconds),
        "weight": update.weight,
        "visits": update.visits,
        "loss": update.loss,
    }
    facts |= ledger_facts(update)
    told = [each.to_vector() for each in counts if each is not None]
    return pack_parts([update.delta, *told], facts) if told else pack(update.delta, facts)


def name(agent: Agent, content: RecordDict, secure: Callable[[], SecureSite]) -> RecordDict:
    """Answer a query: the site's name out, and where its sessions of the plan's run stand.

    Raises
    ------
    DataError, PolicyError : the site does not take part in the plan.
    VersionError : the coordinator's version of FedFER speaks otherwise.
    """
    facts: dict[str, str | int] = {"site": agent.name, **spoken()}
    if "plan" in facts_of(content):
        require_same(facts_of(content), "the coordinator's", agent.name)
        plan = read_plan(text(content, "plan"))
        agent.require_willing(plan)  # before anybody's work is in vain
        if plan.aggregation == "secure":
            facts["session"] = secure().last(plan)
    return tell(facts)


def evaluate(agent: Agent, content: RecordDict) -> RecordDict:
    """Answer an evaluate message: weights and plan in; counts out."""
    return evaluate_many([agent], content)[0]


def evaluate_many(agents: Sequence[Agent], content: RecordDict) -> list[RecordDict]:
    """Answer one evaluate message for several agents of this process, on full batches."""
    began = time.process_time()
    plan = read_plan(text(content, "plan"))
    _require_plain(plan)
    prove = bool(scalar(content, "prove"))
    vector = vector_of(content, np.float32)
    counts = evaluate_sites(agents, plan, vector, prove=prove, people=plan.server.people)
    each = (time.process_time() - began) / len(agents)
    if is_noisy(plan):
        noisy = [agent.audit(plan, vector, found) for agent, found in zip(agents, counts, strict=True)]
        return [
            pack(n.counts, _facts(agent, each) | ledger_facts(n))
            for agent, n in zip(agents, noisy, strict=True)
        ]
    told = [(found.to_vector(), *([found.people.to_vector()] if found.people else [])) for found in counts]
    facts = [_facts(agent, each) for agent in agents]
    return [pack(np.concatenate(own), fact) for own, fact in zip(told, facts, strict=True)]


def _facts(agent: Agent, seconds: float) -> dict[str, str | float]:
    """Return a site's name and its time, which follows the number of pictures and which a real site keeps to itself."""
    return {"site": agent.name, "cpu_seconds": seconds if agent.simulated else 0.0}


Find = tuple[Callable[[], Agent], Callable[[], SecureSite]]
"""Return the agent that answers, and its part in secure aggregation."""


def _by_agent(work: Callable[[Agent, RecordDict], RecordDict]) -> Callable[[Find, RecordDict], RecordDict]:
    return lambda find, content: work(find[0](), content)


def _masked(work: Callable[[SecureSite, RecordDict], Answer]) -> Callable[[Find, RecordDict], RecordDict]:
    def answered(find: Find, content: RecordDict) -> RecordDict:
        found = work(find[1](), content)
        if isinstance(found, FedferError):
            raise found
        return found

    return answered


ANSWERS: Mapping[str, Callable[[Find, RecordDict], RecordDict]] = {
    "query": lambda find, content: name(find[0](), content, find[1]),
    "query.label_counts": _by_agent(count_labels),
    "query.statistics": _by_agent(count_statistics),
    "train": _by_agent(train),
    "evaluate": _by_agent(evaluate),
    "query.secure": _masked(lambda site, content: site.keys(content)),
    "query.secure_label_counts": _masked(count_labels_secure),
    "query.secure_statistics": _masked(count_statistics_secure),
    "query.secure_moments": _masked(sum_moments_secure),
    "train.secure": _masked(lambda site, content: train_secure([site], [content], one_pass=False)[0]),
    "evaluate.secure": _masked(lambda site, content: evaluate_secure([site], [content])[0]),
}
"""Type of a message -> what a site answers to it."""


def make_app(find_agent: FindAgent, find_secure: FindSecure | None = None) -> ClientApp:
    """Return a ClientApp that relays to the agent of each node.

    Parameters
    ----------
    find_secure : returns the site of a node in secure aggregation; without it, none takes part.
    """

    def answer(kind: str, message: Message, context: Context) -> Message:
        find = (lambda: find_agent(context)), (lambda: _secure(find_secure, context))
        try:
            return Message(ANSWERS[kind](find, message.content), reply_to=message)
        except FedferError as error:
            return Message(error_to_wire(error), reply_to=message)

    return app_of(answer)


def _secure(find: FindSecure | None, context: Context) -> SecureSite:
    if find is None:
        raise PrivacyError(
            "this site has no keys for secure aggregation",
            where="aggregation",
            cure="Enrol it, or plan aggregation=plain.",
        )
    return find(context)
