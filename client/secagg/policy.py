"""What a site holds an offer against: what it works out itself, and floors that only the site can lower."""

from __future__ import annotations

from dataclasses import dataclass

from client.secagg.refusals import refuse
from client.secagg.terms import FEWEST, MOST_COMPLETE, Profile, Secure, least_threshold
from client.secagg.wire import PROFILES, Offer


@dataclass(frozen=True)
class Expected:
    """What a site works out itself and finds in an offer again.

    Attributes
    ----------
    run, plan, layout : digests of the run's name, the plan and the vector's layout.
    purpose : what the sum is for.
    words64, words32 : numbers of 64 and of 32 bits of a vector.
    terms : the plan's: the threshold, the fewest sites of a sum, the most that are invited, the graph's degree.
    """

    run: bytes
    plan: bytes
    layout: bytes
    purpose: str
    words64: int
    words32: int
    terms: Secure

    def check(self, offer: Offer) -> None:
        """Raise a SecureAggregationError where an offer says otherwise, naming what differs."""
        for name in ("purpose", "run", "plan", "layout", "words64", "words32"):
            if getattr(offer, name) != getattr(self, name):
                raise refuse("wrong_offer", f"an offer whose {name} is not what the site works out")
        terms = self.terms
        asked = offer.threshold, offer.least, offer.profile, offer.degree
        if asked != (terms.threshold, terms.minimum, terms.profile, terms.degree):
            raise refuse("wrong_offer", "an offer whose terms are not the plan's")
        if len(offer.invited) > terms.sites:  # more could overflow the sum
            raise refuse(
                "wrong_offer", f"an offer to {len(offer.invited)} sites where the plan has {terms.sites}"
            )


@dataclass(frozen=True)
class Policy:
    """A site's floors.

    Attributes
    ----------
    colluders : sites that may tell the coordinator all they know without it learning more of this one.
    profile : "malicious", or "semi-honest" where the coordinator is trusted to follow the protocol.
    simulated : whether the site is one of a simulation; only such a site takes part in a sparse graph.
    """

    colluders: int = 0
    profile: Profile = "malicious"
    simulated: bool = False

    def check(self, offer: Offer) -> None:
        """Raise a SecureAggregationError where an offer is below a floor."""
        if offer.degree and not self.simulated:
            raise refuse("simulation_only", "a sparse graph, which the coordinator draws")
        if not offer.degree and len(offer.invited) > MOST_COMPLETE:
            raise refuse("below_floor", f"{len(offer.invited)} sites in a complete graph")
        if PROFILES.index(offer.profile) > PROFILES.index(self.profile):
            raise refuse("below_floor", f"an offer of the profile {offer.profile}")
        if offer.least < FEWEST + self.colluders:
            raise refuse("below_floor", f"a sum of {offer.least} sites")
        holders = offer.degree + 1 if offer.degree else len(offer.invited)
        floor = least_threshold(holders, offer.profile, self.colluders)
        if offer.threshold < floor:
            raise refuse("below_floor", f"a threshold of {offer.threshold} among {holders} sites")


def fewest(offer: Offer) -> int:
    """Return the fewest sites that a session goes on with."""
    return offer.least if offer.degree else max(offer.least, offer.threshold)
