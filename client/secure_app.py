"""How sites answer the messages of secure aggregation: several sites of one process at once, each by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from client.agent import LabelCounts, Update
from client.answers import judged, updates
from client.audit_counts import is_noisy
from client.judging import evaluate_sites
from client.messages import scalar, text, vector_of
from client.plan import Plan, read_plan
from client.question import read_question, seen_of
from client.secagg.layout import audited, evaluated, labelled, summed, tabled, trained
from client.secure_site import SecureSite
from client.statistics import KIND
from fer_models.counts import Counts
from fer_models.errors import FedferError

Answer = RecordDict | FedferError
"""A site's answer, or the error that it has instead; other sites go on."""

T = TypeVar("T")


def train_secure(
    sites: Sequence[SecureSite], contents: Sequence[RecordDict], *, one_pass: bool
) -> list[Answer]:
    """Answer a round's question for several sites with their masked vectors.

    Parameters
    ----------
    one_pass : train the sites together (:mod:`client.together`).
    """
    began = time.process_time()
    question = read_question(contents[0])
    plan, number = question.plan, question.round_number
    answers = [_tried(lambda s=s, c=c: s.begin(c, plan, "train", number)) for s, c in _pairs(sites, contents)]
    free = [i for i, answer in enumerate(answers) if answer is None]
    if free:
        agents, own = [sites[i].agent for i in free], [contents[i] for i in free]
        counts = judged(agents, question)
        found = updates(agents, own, question, _tried, one_pass=one_pass)
        each = (time.process_time() - began) / len(free)
        for i, update, counted in zip(free, found, counts, strict=True):
            answers[i] = _tried(
                lambda i=i, u=update, c=counted: _finished(sites[i], contents[i], plan, u, c, each)
            )
    return [answer for answer in answers if answer is not None]


def _pairs(
    sites: Sequence[SecureSite], contents: Sequence[RecordDict]
) -> list[tuple[SecureSite, RecordDict]]:
    return list(zip(sites, contents, strict=True))


def _tried(work: Callable[[], T]) -> T | FedferError:
    try:
        return work()
    except FedferError as error:
        return error


def _finished(
    site: SecureSite,
    content: RecordDict,
    plan: Plan,
    update: Update | FedferError,
    counts: Counts | None,
    seconds: float,
) -> RecordDict:
    if isinstance(update, FedferError):
        raise update
    # Time follows the size of the batches, which a real site keeps to itself.
    values = trained(plan, update, seconds if site.agent.simulated else 0.0, counts)
    return site.finish(content, plan, "train", values, update)


def evaluate_secure(sites: Sequence[SecureSite], contents: Sequence[RecordDict]) -> list[Answer]:
    """Answer an evaluation by itself for several sites with their masked counts."""
    began = time.process_time()
    plan, number = read_plan(text(contents[0], "plan")), int(scalar(contents[0], "round"))
    prove, vector = bool(scalar(contents[0], "prove")), vector_of(contents[0], np.float32)
    pairs = _pairs(sites, contents)
    answers = [_tried(lambda s=s, c=c: s.begin(c, plan, "evaluate", number)) for s, c in pairs]
    free = [i for i, answer in enumerate(answers) if answer is None]
    if free:
        agents = [sites[i].agent for i in free]
        counts = evaluate_sites(agents, plan, vector, prove=prove, people=plan.server.people)
        each = (time.process_time() - began) / len(free)
        for i, found in zip(free, counts, strict=True):
            seconds = each if sites[i].agent.simulated else 0.0
            answers[i] = _tried(
                lambda i=i, c=found, s=seconds: _evaluated(sites[i], contents[i], plan, vector, c, s)
            )
    return [answer for answer in answers if answer is not None]


def _evaluated(
    site: SecureSite,
    content: RecordDict,
    plan: Plan,
    vector: NDArray[np.float32],
    counts: Counts,
    seconds: float,
) -> RecordDict:
    if not is_noisy(plan):
        return site.finish(content, plan, "evaluate", evaluated(counts, seconds))
    noisy = site.agent.audit(plan, vector, counts, seen_of(content))
    return site.finish(content, plan, "evaluate", audited(noisy.counts, seconds), noisy)


def count_labels_secure(site: SecureSite, content: RecordDict) -> RecordDict:
    """Answer a question for label counts with the masked counts."""
    plan = read_plan(text(content, "plan"))
    early = site.begin(content, plan, "label_counts", 0)
    if early is not None:
        return early
    found: LabelCounts = site.agent.count_labels(plan, seen_of(content))
    return site.finish(content, plan, "label_counts", labelled(found.counts), found)


def count_statistics_secure(site: SecureSite, content: RecordDict) -> RecordDict:
    """Answer a question for statistics with the masked tables."""
    plan = read_plan(text(content, "plan"))
    early = site.begin(content, plan, KIND, 0)
    if early is not None:
        return early
    found: LabelCounts = site.agent.statistics(plan, seen_of(content))
    return site.finish(content, plan, KIND, tabled(found.counts), found)


def sum_moments_secure(site: SecureSite, content: RecordDict) -> RecordDict:
    """Answer a question for sums of features, after the last round, with the masked sums."""
    plan, number = read_plan(text(content, "plan")), int(scalar(content, "round"))
    early = site.begin(content, plan, "moments", number)
    if early is not None:
        return early
    vector, radius = vector_of(content, np.float32), float(scalar(content, "radius"))
    found = site.agent.moments(plan, number, vector, radius, seen_of(content))
    return site.finish(content, plan, "moments", summed(found.counts), found)
