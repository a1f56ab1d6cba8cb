"""Who is on the test pictures of a simulation, which holds them all: its intervals go over people, whatever sites tell.

Pictures of one person are alike, and figures that take them as independent are surer than they may be. Sites of a real
run tell sums over their people with ``server.people=true`` (:mod:`fer_models.people`). A simulation needs not ask: it
judges the finished net on all test pictures once more, outside of any protocol, as it does for the figures of single
sites. No plan and no message changes by that. Here a person with pictures at several sites is one person, too.

Where that cannot be had, as where counts carry noise, a system says so (``doubt``), and no audit is sure of anything
that rests on rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.evaluation import count, groups_of, predict
from client.plan import Plan
from fer_models.counts import Counts
from fer_models.flat import FlatModel
from fer_models.people import People
from fer_models.samples import SUBJECTS, Samples
from fer_models.zoo import build
from simulations.partition import Partition

CURE = "Run with server.people=true, or audit the model on its pictures: fedfer audit model=RUN data=..."
NOISY = "Plan privacy.unit=subject, which counts one picture of each person."

ROWS = (
    "{whom} are on several pictures each, and nothing here tells how alike these are: intervals take pictures as "
    "independent and are too narrow, so no difference is called sure and no limit is decided."
)
"""What is in doubt, in words."""


def count_people(
    samples: Samples,
    rows: NDArray[np.intp],
    predicted: NDArray[np.int64],
    attributes: Mapping[str, tuple[str, ...]],
) -> Counts:
    """Count rows by group, true and predicted class, with the sums over whom they show, where that is known.

    Parameters
    ----------
    predicted : int64 (n,), of the rows.
    attributes : by which rows are counted -> their groups.
    """
    found = count(samples, rows, predicted, attributes)
    if samples.subject is None:
        return found
    groups = groups_of(samples, [rows], attributes)
    each = samples.subject[rows], samples.label[rows], predicted
    return replace(found, people=People.of(*each, len(found.labels), groups, found.groups))


def people_of_models(
    samples: Samples,
    rows: NDArray[np.intp],
    predicted: NDArray[np.int64],
    attributes: Mapping[str, tuple[str, ...]],
) -> People | None:
    """Return the sums over the people on rows that several models judged, for counts that hold all their answers.

    Parameters
    ----------
    predicted : int64 (models, n), of the rows.
    attributes : as in :func:`count_people`.
    """
    models = len(predicted)
    found = count_people(samples, np.tile(rows, models), predicted.ravel(), attributes).people
    return None if found is None else replace(found, repeats=models)


def several(samples: Samples) -> bool:
    """Whether anybody, or what else the table names, is on several test pictures."""
    rows = samples.rows("test")
    return samples.subject is not None and len(np.unique(samples.subject[rows])) < len(rows)


def alike(samples: Samples, division: Partition) -> dict[str, Any] | None:
    """Return what is told of the people on test pictures besides their number; None where nobody is named.

    Returns
    -------
    ``over``: people, or clips and the like; ``several``: whether they have several pictures each; ``at_several_sites``:
    how many have pictures at more than one site.
    """
    if samples.subject is None:
        return None
    rows = samples.rows("test")
    who, place = np.unique(samples.subject[rows], return_inverse=True)
    pairs = np.unique(np.stack([place, division.site[rows]]), axis=1)
    shared = int((np.bincount(pairs[0], minlength=len(who)) > 1).sum())
    return {"over": SUBJECTS[samples.subject_is], "several": len(who) < len(rows), "at_several_sites": shared}


def knowing_people(
    counts: Counts, plan: Plan, vector: torch.Tensor, samples: Samples, device: str
) -> People | None:
    """Return the sums over the people on all test pictures behind a finished net's counts.

    None where nobody is named or has several pictures, or where the counts are not those of all test pictures, as
    where messages were lost.

    Parameters
    ----------
    vector : float32 (P,), weights of the net alone.
    samples : everybody's pictures, with the groups that were told.
    """
    if not several(samples):
        return None
    flat = FlatModel(build(plan.model, plan.seed))
    flat.load_(vector)
    place, rows = torch.device(device), samples.rows("test")
    predicted = predict(flat.module.to(place), samples, rows, device=place, prove=False)
    found = count_people(samples, rows, predicted, plan.attributes)
    return found.people if found == counts else None


def doubt(counts: Counts, samples: Samples, *, noisy: bool = False, one_each: bool = False) -> dict[str, str]:
    """Return why nothing is sure that rests on counts, under the key ``doubt``; nothing where there is no doubt.

    Parameters
    ----------
    noisy : whether the counts carry noise.
    one_each : whether one picture of each person was counted.
    """
    if counts.people is not None or one_each or not several(samples):
        return {}
    whom = SUBJECTS[samples.subject_is]
    return {"doubt": f"{ROWS.format(whom=whom.capitalize())} {NOISY if noisy else CURE}"}
