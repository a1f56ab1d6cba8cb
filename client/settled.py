"""How a site tells exact counts of its training pictures: as it did at first, for good.

Tables of counts hide what is small (:mod:`client.statistics`). What one way of counting hides another may show: counts
from another number of pictures on, tables of other lists of groups, label counts beside tables that leave small classes
out. Each by itself gives nothing small away, and their difference does. So the first plan of which a site tells exact
counts settles three things for all later ones:

- from how many pictures on it counts; counts that hide nothing are from 1 on;
- of each attribute that it gave a table of, which groups are told apart;
- whether all pictures of a class are counted, as label counts do, or classes that are too small are left out.

Plans whose counts carry noise pay for each release, and are not held against this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from client.keys import write_own
from client.statistics import is_bare, shows_totals, tables_of
from fer_models.errors import PolicyError
from fer_models.labels import UNDISCLOSED

if TYPE_CHECKING:
    from client.plan import Plan

SMALLEST, TOTALS, GROUPS = "smallest", "classes", "groups of "
"""Names of what is settled; the last goes before an attribute's."""

WHOLE, HIDDEN = "whole", "small ones left out"
"""How classes are counted."""


def way_of(plan: Plan) -> dict[str, str]:
    """Return how a plan has exact counts of training pictures told, name -> value; empty where it asks for none."""
    asked = plan.statistics
    if plan.privacy is not None or not (asked or plan.counts_labels or is_bare(plan)):
        return {}
    found = {SMALLEST: "1"} if is_bare(plan) else {}
    if asked is not None:
        found[SMALLEST] = str(asked.smallest)
    found[TOTALS] = WHOLE if asked is None or shows_totals(plan) else HIDDEN
    if asked is not None:
        for name, groups in tables_of(plan).items():
            if name:
                found[GROUPS + name] = ", ".join(sorted(set(groups) - {UNDISCLOSED}))
    return found


class Settled:
    """How one site has told exact counts so far.

    Parameters
    ----------
    path : file in which it is kept; None keeps it in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, str] | None = None if path else {}

    def hold(self, plan: Plan, site: str, *, telling: bool) -> None:
        """Refuse a plan that has exact counts told in another way than before.

        Parameters
        ----------
        telling : counts are about to be made, and so their way is settled.

        Raises
        ------
        PolicyError : what differs; or the file is damaged.
        """
        asked = way_of(plan)
        if not asked:
            return
        known = self._read(site)
        for name, value in asked.items():
            if known.get(name, value) != value:
                what, cure = _difference(name, value, known[name])
                raise PolicyError(what, where=f"{site}, settled.json", cure=cure)
        if telling and not asked.items() <= known.items():
            after = {**known, **asked}
            if self._path is not None:
                write_own(self._path, json.dumps(after, indent=1, sort_keys=True) + "\n")
            self._known = after

    def _read(self, site: str) -> Mapping[str, str]:
        if self._known is None:
            assert self._path is not None
            try:
                found = json.loads(self._path.read_text()) if self._path.exists() else {}
            except (OSError, ValueError):
                found = None
            if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
                raise PolicyError(
                    "what is kept of earlier exact counts cannot be read",
                    where=f"{site}, {self._path.name}",
                    cure="Let whoever keeps the site put the newest copy back.",
                )
            self._known = found
        return self._known


def _difference(name: str, asked: str, known: str) -> tuple[str, str]:
    """Return what differs from what is settled, and the cure."""
    noise = "or privacy=dp, with noise on counts"
    if name == SMALLEST:
        what = (
            f"exact counts from {asked} pictures on, which the site tells from {known} on since it first did"
        )
        return what, f"Plan statistics.smallest={known}, and no other exact counts by group; {noise}."
    if name == TOTALS:
        if asked == WHOLE:
            what = "exact label counts, beside tables in which the site has left small classes out"
            return what, f"Give the shares of the classes in local.prior; {noise}."
        what = "tables that leave small classes out, of which the site has told exact label counts"
        return what, f"Plan the label counts beside the tables, as server.adjustment=1.0 does; {noise}."
    attribute = name.removeprefix(GROUPS)
    what = f"tables by {attribute} of the groups {asked}, which the site tells of {known} since it first did"
    return what, f"Plan with these groups, or without {attribute} in statistics.by; {noise}."
