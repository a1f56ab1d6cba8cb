"""What a ledger says, in figures and in sentences: for those who answer for a site's pictures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from client.accounting import CrossCheck, Epsilon, cross_check, epsilon_of
from client.ledger import Event, Head, Ledger
from client.limits import Limit, rounds_that_fit
from client.mechanisms import History, Mechanism, merged

MOST_ROUNDS = 10_000
"""Further rounds that are counted; more are "more"."""

PROTECTED = {"record": "one picture", "subject": "one person with all pictures"}

NOISES = {
    "gaussian": "Gaussian",
    "discrete_gaussian": "discrete Gaussian",
    "laplace": "Laplace",
}


@dataclass(frozen=True)
class Release:
    """All releases of one kind in one run.

    Attributes
    ----------
    run, plan, kind : which.
    unit : whom they protect.
    history : the mechanisms.
    rounds : in which they were made, in order.
    first, last : when, in UTC.
    epsilon : of these alone.
    """

    run: str
    plan: str
    kind: str
    unit: str
    history: History
    rounds: tuple[int, ...]
    first: str
    last: str
    epsilon: Epsilon


@dataclass(frozen=True)
class Statement:
    """What one ledger says.

    Attributes
    ----------
    site, head : whose, and where it stands; the chain up to there was verified.
    delta : at which every epsilon is stated.
    releases : by run, kind and unit.
    total : epsilon of everything.
    by_unit : epsilon of the releases of each unit, where there are two.
    limit : the site's, None for none.
    more : how many rounds like the last still fit below the limit, None without a limit or training.
    checks : the second opinion, empty when it was not asked.
    """

    site: str
    head: Head
    delta: float
    releases: tuple[Release, ...]
    total: Epsilon
    by_unit: tuple[Epsilon, ...]
    limit: Limit | None
    more: int | None
    checks: tuple[CrossCheck, ...]


def state(ledger: Ledger, *, check: bool = False) -> Statement:
    """Read a ledger that has been verified.

    Parameters
    ----------
    check : ask a second accountant.

    Raises
    ------
    PrivacyError : the two accountants disagree.
    """
    limit, events = ledger.stated_limit, ledger.events
    delta = limit.delta if limit else min((event.delta for event in events), default=1e-5)
    history = ledger.history()
    units = sorted({each.unit for each in history})
    parts = [tuple(each for each in history if each.unit == unit) for unit in units]
    return Statement(
        site=ledger.site,
        head=ledger.head,
        delta=delta,
        releases=tuple(_releases(events, delta)),
        total=epsilon_of(history, delta),
        by_unit=tuple(epsilon_of(part, delta) for part in parts) if len(parts) > 1 else (),
        limit=limit,
        more=_more(events, history, limit),
        checks=cross_check(history, delta) if check else (),
    )


def _releases(events: dict[Event, str], delta: float) -> Iterator[Release]:
    groups: dict[tuple[str, str, str, str], list[Event]] = defaultdict(list)
    for event in events:
        groups[event.run, event.plan, event.kind, event.mechanism.unit].append(event)
    for (run, plan, kind, unit), members in groups.items():
        history = merged(event.mechanism for event in members)
        rounds = tuple(sorted({event.round for event in members if event.round}))
        times = [events[event] for event in members]
        yield Release(
            run, plan, kind, unit, history, rounds, min(times), max(times), epsilon_of(history, delta)
        )


def _more(events: dict[Event, str], history: History, limit: Limit | None) -> int | None:
    """Return how many more rounds like the newest round of training fit."""
    trained = [event for event in events if event.kind == "training"]
    if limit is None or not trained:
        return None
    return rounds_that_fit(history, (trained[-1].mechanism,), limit, MOST_ROUNDS)


# In words


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers in order as text: 1-3, 5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(str(end) for end in part) for part in parts)


def noise_of(mechanism: Mechanism) -> str:
    """Return a mechanism's noise as text; of a pure one, its epsilon."""
    if mechanism.name == "pure":
        return f"epsilon {1 / mechanism.noise:.4g}"
    return f"{NOISES[mechanism.name]} {mechanism.noise:.4g}"


def figure(epsilon: Epsilon) -> str:
    """Return an epsilon as text, rounded up, so that it stays a bound."""
    if not math.isfinite(epsilon.value):
        return "none"
    return f"{math.ceil(epsilon.value * 100) / 100:,.2f}"


def sentences(said: Statement) -> Iterator[str]:
    """Yield what a ledger says, in plain sentences."""
    if not said.releases:
        yield f"{said.site or 'This ledger'} has released nothing."
        return
    total = said.total
    yield (
        f"All that {said.site or 'the site'} released, taken together, tells whether {PROTECTED[total.unit]} was "
        f"among its training data with epsilon {figure(total)} at most, at delta {said.delta:g}."
        if math.isfinite(total.value)
        else f"No epsilon can be stated for {PROTECTED[total.unit]}."
    )
    if total.note:
        yield total.note
    for part in said.by_unit:
        yield f"Releases that protect {PROTECTED[part.unit]}: epsilon {figure(part)} by themselves."
    yield from _about_limit(said)
    for check in said.checks:
        yield _about_check(check)
    yield f"The chain of {said.head.number} entries is whole; its newest hash begins with {said.head.hash[:12]}."


def _about_limit(said: Statement) -> Iterator[str]:
    if said.limit is None:
        yield "The site has set no limit."
        return
    left = math.floor((said.limit.epsilon - said.total.value) * 100) / 100
    if left < 0:
        yield f"The limit of epsilon {said.limit.epsilon:g} is passed."
    else:
        yield f"Of the limit of epsilon {said.limit.epsilon:g}, {left:.2f} is left."
    if said.more is not None:
        count = f"More than {MOST_ROUNDS:,}" if said.more >= MOST_ROUNDS else said.more or "No"
        yield f"{count} more round{'' if said.more == 1 else 's'} like the last would fit."


def _about_check(check: CrossCheck) -> str:
    first, second, tolerance = check
    if second.accountant == "none":
        return f"{first.accountant.upper()} says epsilon {first.value:.3f}; there is no second opinion at such noise."
    both = (
        f"For {PROTECTED[first.unit]}, {first.accountant.upper()} says epsilon {first.value:.3f} and dp-accounting's "
        f"{second.accountant.upper()} {second.value:.3f}"
    )
    if abs(first.value - second.value) > tolerance:  # see cross_check: one is RDP
        return f"{both}: they agree, as RDP's is a looser bound."
    return f"{both}: they agree (tolerance {tolerance:.2f})."


def plain(said: Statement) -> dict[str, Any]:
    """Return a statement as plain data for JSON; an infinite epsilon is null."""

    def of(epsilon: Epsilon) -> dict[str, Any]:
        value = epsilon.value if math.isfinite(epsilon.value) else None
        return {**epsilon._asdict(), "value": value}

    return {
        "site": said.site,
        "chain": {"whole": True, **said.head._asdict()},
        "delta": said.delta,
        "total": of(said.total),
        "by_unit": [of(part) for part in said.by_unit],
        "releases": [
            {
                **{name: getattr(each, name) for name in ("run", "plan", "kind", "unit", "first", "last")},
                "mechanisms": [asdict(mechanism) for mechanism in each.history],
                "rounds": list(each.rounds),
                "epsilon": of(each.epsilon),
            }
            for each in said.releases
        ],
        "limit": None if said.limit is None else asdict(said.limit),
        "rounds_left": said.more,
        "checks": [
            {"first": of(check.first), "second": of(check.second), "tolerance": check.tolerance}
            for check in said.checks
        ],
    }
