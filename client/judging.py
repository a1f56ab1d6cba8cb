"""Sites judge weights on their test pictures: what each of them counts, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from client.answered import weights_digest
from client.audit_counts import is_noisy
from client.evaluation import (
    EVALUATION_BATCH,
    count_parts,
    evaluating,
    groups_of,
    predict,
    prove_answers,
)
from client.inputs import Fixed
from client.messages import tensor_of
from client.plan import Plan
from fer_models.counts import Counts
from fer_models.people import People
from fer_models.samples import Samples

if TYPE_CHECKING:  # the agent's own work, which this is part of
    from client.agent import Agent


def evaluate_sites(
    agents: Sequence[Agent],
    plan: Plan,
    vector: NDArray[np.float32],
    *,
    prove: bool,
    people: bool = False,
) -> list[Counts]:
    """Evaluate several agents of one process on full batches; the counts are each site's own.

    All test pictures of a site that has opted out count as undisclosed. Where counts carry noise that protects people,
    one picture of each person counts (:mod:`client.audit_counts`).

    Parameters
    ----------
    vector : float32 (P + Q,), the weights.
    prove : whether to prove first that no answer depends on the other pictures of its batch.
    people : whether the sums over people go with the counts.
    """
    digest = weights_digest(vector)
    for agent in agents:
        agent.require_willing(plan)
        agent.admit_counts(plan, digest)
    bench = agents[0].bench(plan)
    bench.load_(tensor_of(vector))
    samples, places = agents[0].samples, [agent.counted_test(plan) for agent in agents]
    rows = [agent.test[own] for agent, own in zip(agents, places, strict=True)]
    inputs, fixed = agents[0].inputs, bench.fixed(samples)
    everybody = np.concatenate(rows)
    module = bench.flat.module
    if fixed is None:
        found = predict(module, samples, everybody, device=bench.device, prove=prove, inputs=inputs)
    else:
        if prove:
            with evaluating(module):
                prove_answers(module, samples, everybody, inputs)
        kept = zip(agents, places, strict=True)
        found = np.concatenate([_predict_kept(agent, fixed, own) for agent, own in kept])
    hidden = [agent.opted_out for agent in agents]
    told = samples if is_noisy(plan) else agents[0].blurred
    counts = count_parts(told, rows, found, plan.attributes, hidden)
    if not people:
        return counts
    said = np.split(found, np.cumsum([len(own) for own in rows])[:-1])
    each = zip(counts, rows, said, hidden, strict=True)
    return [_with_people(own, told, test, answers, silent) for own, test, answers, silent in each]


def _with_people(
    counts: Counts, samples: Samples, rows: NDArray[np.intp], said: NDArray[np.int64], hidden: bool
) -> Counts:
    """Return a site's counts of some rows with the sums over the people on them."""
    assert samples.subject is not None  # or the site had refused the plan
    groups = groups_of(samples, [rows], counts.groups, [hidden])
    true, who = samples.label[rows], samples.subject[rows]
    return replace(counts, people=People.of(who, true, said, len(counts.labels), groups, counts.groups))


def _predict_kept(agent: Agent, fixed: Fixed, places: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the predicted classes of some of a site's test pictures, from kept features; see :func:`predict`."""
    parts = [places[i : i + EVALUATION_BATCH] for i in range(0, len(places), EVALUATION_BATCH)]
    found = [np.zeros(0, np.int64)]
    with evaluating(fixed.net), torch.inference_mode():
        for part in parts:
            kept = [agent.tested.of(fixed, part, mirrored=mirrored) for mirrored in (False, True)]
            mean = (fixed.net(kept[0]).softmax(1) + fixed.net(kept[1]).softmax(1)) / 2
            found.append(mean.argmax(1).cpu().numpy())
    return np.concatenate(found)
