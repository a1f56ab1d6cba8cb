"""A site's sums of features for the steps after the last round, in whole numbers, with noise under privacy.

:mod:`client.finish` has the steps, what one picture adds at most, and the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.discrete import discrete_gaussian
from client.evaluation import EVALUATION_BATCH, evaluating
from client.finish import BINS, COUNTED, STEPS, deviation, erased_groups, size_of
from client.groups import places
from client.inputs import Inputs
from client.plan import Plan
from client.randomness import KeyedStream
from client.workbench import Workbench
from fer_models.clusters import Clustered, nearest
from fer_models.embedding import embed, last_layer
from fer_models.erasure import Moments
from fer_models.errors import EvaluationError, PrivacyError
from fer_models.samples import Samples
from fer_models.transforms import for_forward

Features = NDArray[np.floating]


def norm_bins(z: Features) -> NDArray[np.int64]:
    """Return how many rows of (n, F) have a norm up to 2^-16, 2^-15, ... 2^16, each in one bin; int64 (BINS,)."""
    norms = np.maximum(np.linalg.norm(z, axis=1), 2.0**-BINS)
    bins = np.clip(np.ceil(np.log2(norms)) + BINS // 2, 0, BINS - 1)
    return np.bincount(bins.astype(np.int64), minlength=BINS)


def radius_of(counts: NDArray[np.floating]) -> float:
    """Return the smallest power of two that has nine tenths of the norms that were counted (BINS,) at or below it."""
    kept = np.cumsum(np.maximum(counts, 0.0))
    return 2.0 ** (int(np.searchsorted(kept, 0.9 * kept[-1])) - BINS // 2)


def cut(z: Features, radius: float) -> NDArray[np.float64]:
    """Return rows (n, F) divided by ``radius``, those that are then longer than 1 shortened to 1."""
    scaled = np.asarray(z, np.float64) / radius
    return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1.0)


@dataclass(frozen=True)
class Looked:
    """Pictures as the finished net sees them.

    Attributes
    ----------
    z : float32 (n, F), features.
    group : int (n,), from :func:`group_index`.
    label : int (n,), class.
    given : float64 (n, C), probabilities.
    cell : int (n,), the cluster; all 0 where the net has none.
    """

    z: Features
    group: NDArray[np.int64]
    label: NDArray[np.integer]
    given: NDArray[np.float64]
    cell: NDArray[np.int64]


def look(
    bench: Workbench, plan: Plan, inputs: Inputs, rows: NDArray[np.intp], *, opted_out: bool = False
) -> Looked:
    """Return what the bench's net makes of some rows, in evaluation mode; raises as :func:`features`."""
    z, samples = features(bench, plan, inputs, rows), inputs.samples
    group = group_index(plan, samples, rows, opted_out=opted_out)
    last = last_layer(bench.flat.module, plan.model)
    owner = next((each for each in bench.flat.module.modules() if isinstance(each, Clustered)), None)
    with torch.inference_mode():
        at = torch.from_numpy(z).to(last.weight)
        given = last(at).double().softmax(1).cpu().numpy()
        cell = np.zeros(len(rows), np.int64) if owner is None else nearest(at, owner.centres).cpu().numpy()
    return Looked(z, group, samples.label[rows], given, cell)


def features(bench: Workbench, plan: Plan, inputs: Inputs, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return what the last layer of the bench's net is given of some pictures (n, F), the net in evaluation mode.

    Raises
    ------
    EvaluationError : a number is not finite.
    PrivacyError : there are other than the plan's, for which noise and cost are worked out.
    """
    assert plan.finish is not None
    module = bench.flat.module
    last, width = last_layer(module, plan.model), plan.finish.features
    if last.in_features != width:
        raise PrivacyError(
            f"sums for {width} features where the net has {last.in_features}",
            where="finish",
            cure="Run the same version of FedFER everywhere.",
        )
    found = [np.zeros((0, width), np.float32)]
    with evaluating(module):
        for start in range(0, len(rows), EVALUATION_BATCH):
            x = for_forward(inputs(rows[start : start + EVALUATION_BATCH]))
            found.append(embed(module, last, x).flatten(1).cpu().numpy())
    z = np.concatenate(found)
    if not np.isfinite(z).all():
        raise EvaluationError(
            "features that are not finite",
            where="finish",
            cure="Lower local.learning_rate: the net diverged.",
        )
    return z


def group_index(
    plan: Plan, samples: Samples, rows: NDArray[np.intp], *, opted_out: bool = False
) -> NDArray[np.int64]:
    """Return the place of each row's group among those that are made alike, -1 where it is undisclosed.

    Parameters
    ----------
    opted_out : the site tells nobody's group.
    """
    assert plan.finish is not None
    names = erased_groups(plan)
    values = samples.groups.get(plan.finish.erase)
    if values is None or opted_out:  # a site that does not know tells nothing
        return np.full(len(rows), -1)
    return places(values[rows], names, -1)


def sums_of(plan: Plan, step: str, looked: Looked, radius: float) -> NDArray[np.float64]:
    """Return what a step adds up over pictures: float64 (P,).

    Parameters
    ----------
    radius : R, which the step "norms" has no use for.

    Raises
    ------
    PrivacyError : a radius that is none.
    """
    assert plan.finish is not None
    if not 2.0**-BINS <= radius <= 2.0**BINS:
        raise PrivacyError(
            f"features cut to {radius:g}", where="finish", cure="Run the same version of FedFER everywhere."
        )
    if step == "norms":
        return norm_bins(looked.z).astype(np.float64)
    z, groups = cut(looked.z, radius), len(erased_groups(plan))
    if step == "moments" and plan.finish.second:
        return Moments.of(z, looked.group, groups).to_vector()
    if step == "spread":
        return np.concatenate([[COUNTED * len(z)], z.sum(0), [COUNTED * np.square(z).sum()]])
    whose, among = (looked.group, groups) if step == "moments" else (looked.cell, plan.finish.clusters)
    shown = (whose == np.arange(among)[:, None]).astype(np.float64)
    if step == "scores":
        labelled = np.eye(len(plan.labels))[looked.label]
        return np.concatenate([(shown @ labelled).ravel(), (shown @ looked.given).ravel()])
    return np.concatenate([COUNTED * shown.sum(1), (shown @ z).ravel()])


def moments_of(plan: Plan, sums: NDArray[np.float64]) -> Moments:
    """Return what the step "moments" added up (P,)."""
    assert plan.finish is not None
    features, groups = plan.finish.features, len(erased_groups(plan))
    if plan.finish.second:
        return Moments.from_vector(sums, features, groups)
    return Moments.of_groups(sums[:groups] / COUNTED, sums[groups:].reshape(groups, features))


def encode(plan: Plan, step: str, sums: NDArray[np.float64], key: bytes) -> NDArray[np.int64]:
    """Return sums (P,) as whole numbers of :data:`client.finish.STEPS` in 1, with the site's noise.

    Parameters
    ----------
    key : of the noise, used for this step alone.
    """
    found = np.round(sums * STEPS).astype(np.int64)
    noise = deviation(plan, step)
    if noise:
        found += discrete_gaussian(noise).draw(KeyedStream(key), size_of(plan, step))
    return found
