"""Which weights a site has judged on its test pictures: exact counts are not to be had for any number of weights.

Counts without noise tell whoever may choose the weights something of single test pictures: which of them two nets tell
apart. So a site judges, under one plan, no more weights than the plan has evaluations, and as many again, as a run that
is resumed on other machines may end a round with slightly other ones. Counts with noise are bounded by the ledger.

The same weights over again tell nothing new as long as the answer is added up with those of the same sites. In a sum
over others it would: so a site agrees to sums of exact counts with the same weights over the same sites alone
(:mod:`client.secagg.journal`). In plain aggregation the coordinator sees a site's counts anyway.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.settled import Settled
from fer_models.errors import PrivacyError

if TYPE_CHECKING:
    from client.plan import Plan

REPEATS = 2
"""How many different weights may be judged for one evaluation of a plan."""

LINE = re.compile(r"[0-9a-f]{64} [0-9a-f]{64}")


def weights_digest(vector: NDArray[np.float32]) -> str:
    """Return what weights (P + Q,) are known by."""
    return hashlib.sha256(vector.tobytes()).hexdigest()


def evaluations_of(plan: Plan) -> int:
    """Return how many evaluations a plan has."""
    return sum(plan.evaluates_after(number) for number in range(1, plan.server.rounds + 1))


class Answered:
    """The weights that a site has judged, by plan, and how it tells counts of training pictures.

    Parameters
    ----------
    path : file in which the weights are kept, a line each; None keeps them in memory.
    settled : how counts of training pictures are told, None for no way so far.
    """

    def __init__(self, path: Path | None = None, settled: Settled | None = None) -> None:
        self._path, self.settled = path, settled or Settled()
        self._known: set[tuple[str, str]] | None = None if path else set()

    def admit(self, plan: Plan, digest: str, site: str) -> None:
        """Note that weights will be judged, before they are.

        Parameters
        ----------
        digest : of the weights, see :func:`weights_digest`.

        Raises
        ------
        PrivacyError : the plan's share of weights is used up, or the file is damaged.
        """
        known = self._read()
        if (plan.digest, digest) in known:
            return
        most = REPEATS * evaluations_of(plan)
        if sum(other == plan.digest for other, _ in known) >= most:
            raise PrivacyError(
                f"the site has judged {most} different weights under this plan, twice as many as it has evaluations",
                where=f"{site}, test counts",
                cure="Begin a new run with a new plan.",
            )
        if self._path is not None:
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
                file.write(f"{plan.digest} {digest}\n")
                file.flush()
                os.fsync(file.fileno())
        known.add((plan.digest, digest))

    def _read(self) -> set[tuple[str, str]]:
        if self._known is None:
            assert self._path is not None
            lines = self._path.read_text().splitlines() if self._path.exists() else []
            damaged = [number for number, line in enumerate(lines, 1) if not LINE.fullmatch(line)]
            if damaged:
                raise PrivacyError(
                    "the list of judged weights is damaged",
                    where=f"{self._path}:{damaged[0]}",
                    cure="Restore it, or take the line out if the site was stopped while it was written.",
                )
            self._known = {(line[:64], line[65:]) for line in lines}
        return self._known
