"""What a private plan can hope for, before anything is trained: the noise against the largest signal.

In a step, a site's noisy sum of clipped gradients is divided by q n, the sampling rate times the nominal number of its
units. The mean gradient that is left has a 2-norm of C at most, when all gradients point one way; the noise in it has
one of sigma C sqrt(P) / (q n) for P numbers that learn. Over the K sites of a round and T steps the signal adds up in
proportion to K T, independent noise in proportion to sqrt(K T), so that over the whole run

    noise / signal  >=  sigma sqrt(P) / (q n sqrt(K T)).

Where epsilon is given, sigma grows in proportion to q sqrt(T), nearly: neither the rate nor the number of rounds
changes much about it, but P, n, K and epsilon do.

This says nothing about any picture: all of it is public.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from client.plan import Plan
from fer_models.errors import PrivacyError

WEAK = 0.1
"""Noise over signal from which a run is warned of: on drawn faces less than half of what the same run learns without
noise is left (docs/privacy.md has the figures)."""

HOPELESS = 3.0
"""Noise over signal from which a run is refused: on drawn faces nothing was left, on any setting that was tried."""

CURE = (
    "Train fewer numbers (model=hog_linear, local.scope=head), allow a larger epsilon, or have more pictures a site "
    "or more sites."
)


@dataclass(frozen=True)
class Outlook:
    """What the public numbers of a plan say.

    Attributes
    ----------
    parameters : P, numbers that learn and get noise.
    batch : q n, the expected units in a site's batch.
    step : the 2-norm of the noise in a site's mean gradient over the largest that the mean gradient can have.
    run : the same over all sites and steps.
    """

    parameters: int
    batch: float
    step: float
    run: float

    @property
    def warning(self) -> str:
        """One sentence where there is reason to worry, else empty."""
        if self.batch < 1:
            return (
                f"a site's batch holds {self.batch:.2g} pictures on average, so most steps see none: "
                "raise local.rate, or leave such sites out"
            )
        if self.run >= WEAK:
            return f"{self._said()}: expect less than half of what the run would learn without noise. {CURE}"
        return ""

    def _said(self) -> str:
        return (
            f"the noise is {self.step:.3g} times the largest possible gradient in a step of one site and "
            f"{self.run:.2g} times over all sites and steps"
        )

    def require_useful(self, epsilon: float | None) -> None:
        """Refuse a plan in which noise is all there is.

        Raises
        ------
        PrivacyError : the noise over the whole run is :data:`HOPELESS` times the largest signal, or more.
        """
        if self.run >= HOPELESS:
            asked = "this noise" if epsilon is None else f"epsilon {epsilon:g}"
            raise PrivacyError(
                f"sites too small to be useful at {asked}: {self._said()}",
                where="privacy",
                cure=f"{CURE} privacy.allow_useless=true trains all the same.",
            )


def outlook(plan: Plan, parameters: int, steps: int) -> Outlook:
    """Return what the public numbers of a private plan say.

    Parameters
    ----------
    parameters : numbers that learn.
    steps : K T, of all sites together over all rounds.
    """
    privacy = plan.privacy
    assert privacy is not None
    batch = plan.local.rate * privacy.nominal_units
    # Of distributed noise a site adds a share; all shares together are what a site adds by itself otherwise.
    sharing = privacy.threshold - privacy.colluders if privacy.noise == "distributed" else 1
    step = privacy.noise_multiplier * math.sqrt(parameters / sharing) / batch
    return Outlook(parameters, batch, step, step / math.sqrt(steps))
