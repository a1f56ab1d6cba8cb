"""Which sites take part in a round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cohort(seed: int, round_number: int, nodes: Sequence[int], share: float) -> list[int]:
    """Return the nodes of a round, in the given order: a seeded draw of ``share`` of them, at least one."""
    if share >= 1:
        return list(nodes)
    size = max(1, round(share * len(nodes)))
    drawn = np.random.default_rng([seed, round_number]).choice(len(nodes), size, replace=False)
    return [nodes[i] for i in sorted(drawn)]
