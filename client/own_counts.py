"""How a site's own training pictures fare, in clear: what rules that compare sites go by (:mod:`client.by_site`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from client.evaluation import count, evaluating
from client.randomness import KeyedStream
from client.training import LocalRows
from client.workbench import Workbench
from fer_models.counts import Counts
from fer_models.labels import UNDISCLOSED

MOST = 256
"""Training pictures that a site counts in a round, drawn anew for each; a share of them is known to .03."""


def count_own(
    bench: Workbench,
    data: LocalRows,
    attributes: Mapping[str, tuple[str, ...]],
    stream: KeyedStream,
    *,
    opted_out: bool,
) -> Counts:
    """Count some of a site's training pictures by group, true and predicted class, with the bench's weights.

    Parameters
    ----------
    attributes : by which they are counted, with their values, :data:`UNDISCLOSED` among them where a site opts out.
    stream : draws the pictures.
    opted_out : all count as undisclosed.
    """
    drawn = np.argsort(stream.uniform(len(data.rows)))[:MOST]
    fixed = bench.fixed(data.samples)
    with evaluating(bench.flat.module), torch.inference_mode():
        if fixed is None:
            logits = bench.flat.module(data.inputs(drawn, bench.device))
        else:
            logits = fixed.net(data.features.of(fixed, drawn))
    samples = data.samples
    if opted_out:
        hidden = dict.fromkeys(attributes, np.full(len(samples), UNDISCLOSED))
        samples = replace(samples, groups={**samples.groups, **hidden})
    return count(samples, data.rows[drawn], logits.argmax(1).cpu().numpy(), attributes)
