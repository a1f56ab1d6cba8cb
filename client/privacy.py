"""What a plan says of differential privacy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from client.strict import require

COUNTS_EPSILON = 1e-3, 100.0
"""Smallest and largest epsilon of counts: their noise then has a deviation of 1,400 pictures, and none."""


@dataclass(frozen=True)
class Privacy:
    """Differentially private training at a site: DP-SGD (Abadi et al. 2016) with Poisson sampling.

    Attributes
    ----------
    noise_multiplier : sigma; a step adds Gaussian noise of deviation sigma * clip to the sum of gradients.
    clip : largest 2-norm C of one unit's gradient.
    delta : of (epsilon, delta); smaller than one over the units of a site, or of all sites of a round with noise
        "distributed".
    nominal_units : a public constant in place of the site's number of units, which is private: a step
        divides the noisy sum by ``rate * nominal_units``.
    unit : what is clipped, sampled and protected as one: "record" is a picture, "subject" all pictures of a person.
    views : augmented views of each picture in a batch, averaged before the clip (De et al. 2022).
    allow_slow : let Opacus's own formulas serve layers that the book-keeping does not know.
    target_epsilon : the epsilon for which sigma was chosen, None when sigma was given; for the reader.
    noise : "site" makes each site's update private by itself; "distributed" only the sum over the sites of a
        round (:mod:`client.distributed`).
    threshold : number of sites whose shares a round adds up, 1 with noise "site".
    colluders : how many of them may give their noise away without the guarantee failing.
    resolution : with noise "distributed", steps of the grid in one clip (:mod:`client.grid`).
    counts_epsilon : what the label counts that a site releases before the first round cost, in pure epsilon; None
        for none.
    audit_epsilon : what a site's counts of its test pictures cost, in pure epsilon (:mod:`client.audit_counts`); None
        leaves them without noise, and test pictures without a guarantee.
    parameters : with noise "distributed", how many numbers learn and get noise, for which the guarantee accounts.
    """

    noise_multiplier: float
    clip: float
    delta: float
    nominal_units: int
    unit: Literal["record", "subject"] = "record"
    target_epsilon: float | None = None
    views: int = 1
    allow_slow: bool = False
    noise: Literal["site", "distributed"] = "site"
    threshold: int = 1
    colluders: int = 0
    resolution: int = 1 << 16
    parameters: int = 1
    counts_epsilon: float | None = None
    audit_epsilon: float | None = None

    def __post_init__(self) -> None:
        self._require_shares()
        noisy = 0 < self.noise_multiplier < math.inf
        require(noisy, "no noise, no privacy", "privacy.noise_multiplier", "Give more than 0.")
        require(
            0 < self.clip < math.inf,
            "the clip is not positive",
            "privacy.clip",
            "Give more than 0, such as 1.0.",
        )
        smallest, largest = COUNTS_EPSILON
        require(
            self.counts_epsilon is None or smallest <= self.counts_epsilon <= largest,
            f"label counts at epsilon {self.counts_epsilon} are not in [{smallest}, {largest}]",
            "privacy.counts_epsilon",
            "Give 0.5 or so.",
        )
        require(
            self.audit_epsilon is None or smallest <= self.audit_epsilon <= largest,
            f"counts of test pictures at epsilon {self.audit_epsilon} are not in [{smallest}, {largest}]",
            "privacy.audit_epsilon",
            "Give 1 or so.",
        )
        require(0 < self.delta < 1, "delta is not in (0, 1)", "privacy.delta", "Give 1e-5 or so.")
        many = f"{self.views} views of a picture"
        require(1 <= self.views <= 64, many, "privacy.views", "Give 1 to 64, such as 4.")
        require(
            self.nominal_units >= 1,
            "nominal_units is not positive",
            "privacy.nominal_units",
            "Give 1 or more.",
        )

    def _require_shares(self) -> None:
        require(
            self.noise == "distributed" or (self.threshold, self.colluders) == (1, 0),
            "the noise of a site rests on no other site",
            "privacy.colluders",
            "Use privacy.noise=distributed, or privacy.colluders=0.",
        )
        require(self.threshold >= 1, "a sum of no sites", "privacy.threshold", "Give 1 or more.")
        require(
            0 <= self.colluders < self.threshold,
            f"{self.colluders} of {self.threshold} sites cannot all give their noise away",
            "privacy.colluders",
            f"Give 0 to {self.threshold - 1}, fewer than the sites of a round.",
        )
        require(
            1 <= self.resolution <= 1 << 30,
            f"{self.resolution} steps a clip are no grid",
            "privacy.resolution",
            "Give a power of two such as 65536, or null.",
        )
        require(
            self.parameters >= 1,
            "noise on no parameter",
            "privacy.parameters",
            "Give how many numbers learn.",
        )
