"""What sites that train alone come to: a model for each, all judged on everybody's test pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_models.counts import Counts
from fer_models.metrics import across_sites, summarise
from server.asking import sum_counts
from server.run_folder import RunFolder
from simulations.baseline_job import read_baseline
from simulations.prepare import Prepared
from simulations.subjects import count_people, doubt, people_of_models, several
from simulations.summaries import Summary, brief, cost


@dataclass(frozen=True)
class Alone:
    """A site's own model.

    Attributes
    ----------
    name : the site's.
    facts : what it cost: ``cpu_seconds``, ``visits``, and ``train``, its training pictures.
    everybody, own : its counts of everybody's test pictures, and of its site's.
    predicted : int64 (n,), what it said of everybody's; None where nobody has several, or an older version did not keep
        it.
    """

    name: str
    facts: dict[str, Any]
    everybody: Counts
    own: Counts
    predicted: NDArray[np.int64] | None


def read_alone(folder: RunFolder, site: str) -> Alone:
    """Return a site's own model from a run folder; raises as :func:`simulations.baseline_job.read_baseline`."""
    facts, (everybody, own) = read_baseline(folder, f"local_only-{site}", "all", "own")
    predicted = facts.get("predicted")
    return Alone(site, facts, everybody, own, None if predicted is None else np.array(predicted, np.int64))


def alone_summary(prepared: Prepared, found: Sequence[Alone]) -> Summary:
    """Return what is said of the sites' own models, in the order of the sites.

    The figures are means over the models. Where people have several test pictures, intervals are over people: of the
    models' mean answer on everybody's pictures, and of each model on its site's.
    """
    total, own = sum_counts([each.everybody for each in found]), [each.own for each in found]
    at_home = sum_counts(own)
    if several(prepared.samples):
        total, own, at_home = _over_people(prepared, found, total)
    everybody = [each.everybody for each in found]
    best = max(everybody, key=lambda counts: float(np.trace(counts.overall)))
    accuracy = np.trace(best.overall) / max(1, best.overall.sum())
    unsure = doubt(total, prepared.samples)
    home = summarise(at_home)
    hidden = {"accuracy_interval": None} if unsure else {}
    return {
        **summarise(total, repeats=len(found)),
        **cost(sum(each.facts["cpu_seconds"] for each in found), sum(each.facts["visits"] for each in found)),
        "own_accuracy": home["accuracy"],
        "own_accuracy_interval": home["accuracy_interval"],
        "best_accuracy": float(accuracy),
        "best_site": found[everybody.index(best)].name,
        "sites": across_sites(everybody),
        "per_site": [
            {
                "site": each.name,
                **brief(counts),
                **hidden,
                "train": each.facts["train"],
                "test": counts.rows,
                "epsilon": None,
            }
            for each, counts in zip(found, own, strict=True)
        ],
        **unsure,
        "note": "each site's own model, judged on everybody's test pictures; the mean over sites",
    }


def _over_people(
    prepared: Prepared, found: Sequence[Alone], total: Counts
) -> tuple[Counts, list[Counts], Counts]:
    """Return the counts of all models, of each at home, and of all at home, with whom they show where that is known."""
    samples, division, attributes = prepared.samples, prepared.partition, prepared.plan.attributes
    own = [each.own for each in found]
    predicted = [each.predicted for each in found if each.predicted is not None]
    if len(predicted) < len(found):
        return total, own, sum_counts(own)
    rows, said = samples.rows("test"), np.stack(predicted)
    people = people_of_models(samples, rows, said, attributes)
    homes = [division.rows(site, samples, "test") for site in range(len(found))]
    at = [np.searchsorted(rows, home) for home in homes]
    own = [count_people(samples, home, said[site, at[site]], attributes) for site, home in enumerate(homes)]
    whole = [said[site, places] for site, places in enumerate(at)]
    at_home = count_people(samples, np.concatenate(homes), np.concatenate(whole), attributes)
    return replace(total, people=people), own, at_home
