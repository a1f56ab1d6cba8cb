"""The terms of secure aggregation: how many sites a sum is over, who may fail, and how large what they send may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from client.secagg.codec import MOST_SITES
from client.strict import require

Profile = Literal["malicious", "semi-honest"]
"""Whom the terms hold against: a coordinator that deviates from the protocol, or one that only looks."""

FEWEST = 3
"""Honest sites in a sum, at least: of two, each could subtract its own part and see the other's."""

MOST_COMPLETE = 200
"""Sites up to which everybody shares masks and secrets with everybody."""

LARGEST_WEIGHT = 1 << 30
"""Largest weight that terms may name; updates times weights have to fit in 32 bits on a useful grid."""


def least_threshold(holders: int, profile: Profile, colluders: int = 0) -> int:
    """Return the fewest shares that may open a secret of which there are ``holders``.

    Two thirds and one more against a coordinator that shows different survivors to different sites (two sets that
    each have as many members share one honest site at least), half and one more against one that only looks
    (Bonawitz et al. 2017, section 6). Colluders sign and reveal for two sets at once: the honest sites and they must
    not reach the threshold twice.
    """
    least = (2 * holders // 3 if profile == "malicious" else holders // 2) + 1
    return max(least, (holders + colluders) // 2 + 1)


@dataclass(frozen=True)
class Secure:
    """What a plan fixes about secure aggregation; a site checks it against its own floors.

    Attributes
    ----------
    sites : most sites that a round invites; no sum of so many overflows.
    threshold : t, shares that open a secret; fewer survivors lose the round.
    minimum : sites that a sum has to be over, at least.
    clip : largest coordinate of an update; what lies beyond is cut before it is encoded.
    largest_weight : largest weight of a site in the mean, 1 when all weigh alike.
    colluders : sites that may tell the coordinator all they know without it learning more of the others.
    profile : whom it holds against.
    everybody : sites of the run, all of which evaluate and count labels; 0 where every round invites all.
    degree : peers with which a site shares masks and secrets, 0 for all; others only in simulation, because a
        coordinator that deviates would choose the graph (Bell et al. 2020).
    """

    sites: int
    threshold: int
    minimum: int
    clip: float
    largest_weight: int = 1
    colluders: int = 0
    profile: Profile = "malicious"
    degree: int = 0
    everybody: int = 0

    def __post_init__(self) -> None:
        self._require_sites()
        self._require_threshold()
        self.of("evaluate")  # which refuses more sites than it can ask
        require(
            0 < self.clip < math.inf,
            f"coordinates of up to {self.clip:g} are no update",
            "aggregation.clip",
            "Give the largest change of a weight in one round, such as 16.0.",
        )
        require(
            1 <= self.largest_weight <= LARGEST_WEIGHT,
            f"a largest weight of {self.largest_weight}",
            "aggregation.largest_weight",
            f"Give the rows of the largest site, 1 to {LARGEST_WEIGHT}.",
        )

    def _require_sites(self) -> None:
        require(
            self.colluders >= 0, f"{self.colluders} colluders", "aggregation.colluders", "Give 0 or more."
        )
        floor = FEWEST + self.colluders
        beside = f" besides {self.colluders} that may tell what they know" if self.colluders else ""
        require(
            self.sites >= floor,
            f"a sum of {self.sites} sites a round hides none of them: it takes {FEWEST}{beside}",
            "aggregation",
            f"Run {floor} or more sites a round (partition.sites, server.participation), or aggregation=plain.",
        )
        require(
            self.sites <= MOST_SITES,
            f"{self.sites} sites a round",
            "aggregation",
            f"Invite {MOST_SITES} at most (server.participation).",
        )
        require(
            self.everybody == 0 or self.sites <= self.everybody <= MOST_SITES,
            f"{self.sites} sites a round of {self.everybody} in all",
            "aggregation.everybody",
            "Give the number of all sites, or 0 where every round invites all.",
        )
        require(
            floor <= self.minimum <= self.sites,
            f"a sum of {self.minimum} sites is not allowed where {self.sites} are invited",
            "aggregation.minimum",
            f"Give {floor} to {self.sites}.",
        )

    def _require_threshold(self) -> None:
        require(
            self.degree > 0 or max(self.sites, self.everybody) <= MOST_COMPLETE,
            f"{max(self.sites, self.everybody)} sites that all share masks with all",
            "aggregation",
            f"Have {MOST_COMPLETE} sites at most, use aggregation=plain, or simulate a sparse graph with "
            "aggregation.degree=48 aggregation.profile=semi-honest.",
        )
        require(
            self.degree % 2 == 0 and 0 <= self.degree < self.sites,
            f"{self.degree} peers a site among {self.sites} sites",
            "aggregation.degree",
            f"Give an even number from 2 to {self.sites - 1}, or 0 for all.",
        )
        require(
            self.degree == 0 or self.profile == "semi-honest",
            "a coordinator that deviates from the protocol would choose each site's peers",
            "aggregation.degree",
            "Use aggregation.degree=0, or in a simulation aggregation.profile=semi-honest.",
        )
        least = least_threshold(self.holders, self.profile, self.colluders)
        require(
            least <= self.threshold <= self.holders,
            f"a threshold of {self.threshold} among {self.holders} sites that hold shares",
            "aggregation.threshold",
            f"Give {least} to {self.holders} with the profile {self.profile}, or null for {least}."
            if least <= self.holders
            else "Raise aggregation.degree, or lower aggregation.colluders.",
        )

    @property
    def holders(self) -> int:
        """How many sites hold a share of one site's secrets, itself among them."""
        return self.degree + 1 if self.degree else self.sites

    def of(self, purpose: str) -> Secure:
        """Return the terms of a session: training asks a round's sites, anything else asks everybody."""
        if purpose == "train" or self.everybody in (0, self.sites):
            return self
        holders = self.holders if self.degree else self.everybody
        threshold = max(self.threshold, least_threshold(holders, self.profile, self.colluders))
        return replace(self, sites=self.everybody, threshold=threshold)

    @property
    def fewest(self) -> int:
        """The fewest sites that a sum can be over; with fewer the round is lost."""
        return self.minimum if self.degree else max(self.threshold, self.minimum)
