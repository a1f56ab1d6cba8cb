"""What a site asks of every question, whatever its plan says: who signed the plan, and whether it is time to work."""

from __future__ import annotations

import datetime
import time
from collections import deque
from collections.abc import Callable

from client.hours import Worked, within
from client.plan import Plan
from client.plan_signature import is_signed
from client.policy import SitePolicy
from fer_models.errors import PolicyError

MOST_PLANS = 200
"""New plans that a site looks at in a day; each is an entry of its audit log, which must not grow at others' will."""

MOST_UNSIGNED = 20
"""Plans that nobody has signed of which a site's audit log tells in a day; of others the agent's log does."""

A_DAY = 24 * 3600.0
"""Seconds."""


def _here() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


class Conditions:
    """Holds every question against the rules that no plan can tell by itself.

    Parameters
    ----------
    policy, site : whose rules, and its name for errors.
    coordinator : the public key that the site has pinned, hexadecimal.
    worked : how long it has worked for each plan.
    clock : returns the time at the site.
    """

    def __init__(
        self,
        policy: SitePolicy,
        site: str,
        coordinator: str,
        worked: Worked,
        clock: Callable[[], datetime.datetime] = _here,
    ) -> None:
        self._policy, self._site, self._coordinator = policy, site, coordinator
        self._clock, self.worked = clock, worked
        self._signed: set[str] = set()
        self._new: deque[float] = deque()
        self._unsigned: deque[float] = deque()

    def require_signed(self, plan: Plan, signature: str | None) -> None:
        """Refuse a plan that the coordinator has not signed, where the policy asks for that.

        Raises
        ------
        PolicyError : it has no signature, or another's.
        """
        if not self._policy.coordinator.signed or plan.digest in self._signed:
            return
        if signature is None or not is_signed(plan, signature, self._coordinator):
            what = (
                "nobody has signed the plan" if signature is None else "the plan is signed by somebody else"
            )
            raise self._refusal(
                "coordinator.signed",
                what,
                "Let the coordinator ask with fedfer server run, which signs plans.",
            )
        if len(self._signed) >= MOST_PLANS:
            self._signed.clear()
        self._signed.add(plan.digest)

    def require_new(self) -> None:
        """Refuse a plan that was never seen, where too many came within a day.

        Raises
        ------
        PolicyError : they did.
        """
        if not _another(self._new, MOST_PLANS):
            raise self._refusal("plans a day", f"{MOST_PLANS} plans came within a day", "Ask again tomorrow.")

    def notes_unsigned(self) -> bool:
        """Whether the audit log takes one more plan that nobody has signed, on this day."""
        return _another(self._unsigned, MOST_UNSIGNED)

    def require_time(self, plan: Plan) -> None:
        """Refuse to work at this hour, or for this run any longer.

        Raises
        ------
        PolicyError : by which rule.
        """
        rules = self._policy.training
        if not within(rules.times, self._clock()):
            what = f"this site works at {', '.join(rules.times) or 'no hour'} by its own clock"
            raise self._refusal(
                "training.times", what, "Run at those hours; the rounds that are done are kept."
            )
        if self.worked.of(plan.digest) > rules.hours * 3600:
            what = f"this site has worked for the run longer than {rules.hours:g} hours"
            raise self._refusal("training.hours", what, "Plan fewer rounds, or less local work.")

    def _refusal(self, rule: str, what: str, cure: str) -> PolicyError:
        return PolicyError(what, where=f"{self._site}, {rule}", cure=cure)


def _another(times: deque[float], most: int) -> bool:
    """Whether one more fits into a day, and note it if so."""
    now = time.monotonic()
    while times and now - times[0] > A_DAY:
        times.popleft()
    if len(times) >= most:
        return False
    times.append(now)
    return True
