"""Sites judge weights on their test pictures: what each of them counts, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from client.evaluation import EVALUATION_BATCH, count_parts, evaluating, predict, prove_answers
from client.inputs import Fixed
from client.messages import tensor_of
from client.plan import Plan
from fer_models.counts import Counts

if TYPE_CHECKING:  # the agent's own work, which this is part of
    from client.agent import Agent


def evaluate_sites(
    agents: Sequence[Agent], plan: Plan, vector: NDArray[np.float32], *, prove: bool
) -> list[Counts]:
    """Evaluate several agents of one process on full batches; the counts are each site's own.

    All test pictures of a site that has opted out count as undisclosed.

    Parameters
    ----------
    vector : float32 (P + Q,), the weights.
    prove : whether to prove first that no answer depends on the other pictures of its batch.
    """
    for agent in agents:
        agent.require_willing(plan)
    bench = agents[0].bench(plan)
    bench.load_(tensor_of(vector))
    samples, rows = agents[0].samples, [agent.test for agent in agents]
    inputs, fixed = agents[0].inputs, bench.fixed(samples)
    everybody = np.concatenate(rows)
    module = bench.flat.module
    if fixed is None:
        found = predict(module, samples, everybody, device=bench.device, prove=prove, inputs=inputs)
    else:
        if prove:
            with evaluating(module):
                prove_answers(module, samples, everybody, inputs)
        found = np.concatenate([_predict_kept(agent, fixed) for agent in agents])
    hidden = [agent.opted_out for agent in agents]
    return count_parts(samples, rows, found, plan.attributes, hidden)


def _predict_kept(agent: Agent, fixed: Fixed) -> NDArray[np.int64]:
    """Return the predicted classes of a site's test pictures, from kept features; see :func:`predict`."""
    places = np.arange(len(agent.test))
    parts = [places[i : i + EVALUATION_BATCH] for i in range(0, len(places), EVALUATION_BATCH)]
    found = [np.zeros(0, np.int64)]
    with evaluating(fixed.net), torch.inference_mode():
        for part in parts:
            kept = [agent.tested.of(fixed, part, mirrored=mirrored) for mirrored in (False, True)]
            mean = (fixed.net(kept[0]).softmax(1) + fixed.net(kept[1]).softmax(1)) / 2
            found.append(mean.argmax(1).cpu().numpy())
    return np.concatenate(found)
