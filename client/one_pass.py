"""Several sites of one process train in one pass; see :mod:`client.together`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.messages import tensor_of
from client.plan import Plan
from client.releases import Update
from client.together import train_together
from client.told import NOTHING, Told

if TYPE_CHECKING:  # the agents' own work, which this is part of
    from client.agent import Agent


def train_sites(
    agents: Sequence[Agent],
    plan: Plan,
    round_number: int,
    vector: NDArray[np.float32],
    told: Told = NOTHING,
) -> list[Update]:
    """Train several agents of one process in one pass; see :mod:`client.together`."""
    for agent in agents:
        agent.require_willing(plan)
    bench = agents[0]._benches.of(plan)
    bench.expect(told, partial=agents[0].samples.known is not None)
    bench.fair = None
    if not bench.flat.module.training:
        bench.flat.module.train()
    data = [agent._rows(plan.local.targets) for agent in agents]
    entropies, names = [agent._entropy for agent in agents], [agent.name for agent in agents]
    ended, done = train_together(bench, data, plan, round_number, entropies, tensor_of(vector), names)
    ended -= vector
    deltas = bench.flat.trained.take(ended)
    return [agent._update(plan, delta, each) for agent, delta, each in zip(agents, deltas, done, strict=True)]
