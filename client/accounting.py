"""Epsilon: what a history of private releases costs, by the accountant that fits what is in it.

Gaussian steps under Poisson sampling go to Opacus's PRV (Gopi et al. 2021). With Laplace noise or another pure
mechanism among them, dp-accounting's privacy loss distributions (PLD) compose all exactly. Discrete Gaussian noise
costs what continuous noise does and a little more, see :mod:`client.discrete_accounting`. RDP is the answer where a
tight accountant has none, or would take gigabytes. All answers are upper bounds and name their accountant.

Opacus and dp-accounting are imported late: they take a second.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from client.composition import pld_epsilon, rdp_epsilon
from client.discrete_accounting import FAILURE, KEPT
from client.mechanisms import History, Unit, as_gaussian, gaussian, merged, of_unit
from client.strict import require
from fer_models.errors import PrivacyError

if TYPE_CHECKING:
    from opacus.accountants import IAccountant

PRV_POINTS = 1e7
"""Points of PRV's mesh above which it is not asked: 1e7 take about 1 GB, and a careless plan asks for 1e9."""

PRV_LARGEST = 600.0
"""RDP's bound above which PRV is not asked: e^epsilon leaves the floating-point numbers at 709, and Opacus's answer
stays at 708 from there on, however much larger epsilon is."""

PRV_STEP = 0.01
"""Error of epsilon that PRV allows itself, Opacus's default."""

ABSOLUTE, RELATIVE = 0.03, 0.01
"""How far two tight accountants may lie apart: 0.03, or 1 % of epsilon where that is more."""


class Epsilon(NamedTuple):
    """An upper bound of epsilon, and how it was found.

    Attributes
    ----------
    value : epsilon; infinity is no guarantee.
    accountant : "prv", "pld", "rdp", "units" (the bounds of two units added up), or "none" without an answer.
    unit : whom it protects.
    note : why it is not a tight accountant's, else empty; a whole sentence.
    """

    value: float
    accountant: str
    unit: Unit = "record"
    note: str = ""


@functools.lru_cache(maxsize=4096)
def epsilon_of(history: History, delta: float) -> Epsilon:
    """Return epsilon at ``delta`` of a history; an empty one costs 0.

    A history of one unit is answered for that unit. Where it holds both, the answer is for one picture: no person is
    protected as a whole, see :func:`_both_units`.

    Raises
    ------
    ConfigError : delta is not in (0, 1).
    """
    require(0 < delta < 1, f"delta {delta:g} is not in (0, 1)", "delta", "Give 1e-5 or so.")
    if not history:
        return Epsilon(0.0, "prv")
    if len({each.unit for each in history}) > 1:
        return _both_units(history, delta)
    if any(each.name == "discrete_gaussian" for each in history):
        return _discrete(history, delta)
    gaussian_only = all(each.name == "gaussian" for each in history)
    found = _gaussian(history, delta) if gaussian_only else _any_kind(history, delta)
    return found._replace(unit=history[0].unit)


def _discrete(history: History, delta: float) -> Epsilon:
    """Return the epsilon of a history with discrete noise, by the theorem of :mod:`client.discrete_accounting`."""
    uses = [each for each in history if each.name == "discrete_gaussian"]
    lost = sum(each.count * each.slack for each in uses)
    found = epsilon_of(as_gaussian(history), KEPT * delta * math.exp(-lost))
    failing, room = FAILURE * sum(each.count for each in uses), (1 - KEPT) * delta
    if not math.isfinite(found.value) or math.log(failing / room) + found.value + lost > -1:
        note = found.note or "Discrete noise is not accounted for at so large an epsilon."
        return Epsilon(math.inf, "none", found.unit, note)
    return found._replace(value=found.value + lost)


def _gaussian(history: History, delta: float) -> Epsilon:
    """Return what PRV says, or RDP where PRV has no finite answer or would need too much memory."""
    from client.gaussian_accounting import KeepingPRV, KeepingRDP

    bound = _opacus(KeepingRDP(), history, delta)
    tight = math.inf
    if bound <= PRV_LARGEST and _prv_points(history, delta, bound) <= PRV_POINTS:
        tight = _opacus(KeepingPRV(), history, delta)
    return Epsilon(tight, "prv") if math.isfinite(tight) else _loose(bound, history, "PRV")


def _any_kind(history: History, delta: float) -> Epsilon:
    bound = _ask(lambda: rdp_epsilon(history, delta))
    tight = _ask(lambda: pld_epsilon(history, delta, bound))
    return Epsilon(tight, "pld") if math.isfinite(tight) else _loose(bound, history, "PLD")


def _both_units(history: History, delta: float) -> Epsilon:
    """Return the epsilon of one picture where some releases protect pictures and others persons.

    A picture that changes while its person stays is a person replaced: taken out, and put in again. So what is
    (e, d)-DP for persons is (2 e, (1 + e^e) d)-DP for such a picture (group privacy: Vadhan 2017, lemma 2.2). That and
    the cost of the releases for pictures add up, each with half of delta (Lyu 2022, theorem 1).
    """
    pictures = epsilon_of(of_unit(history, "record"), delta / 2).value
    persons, share = of_unit(history, "subject"), delta / 2
    each = epsilon_of(persons, share).value
    while each < 300 and (1 + math.exp(each)) * share > delta / 2:
        share = min(share / 2, delta / 2 / (1 + math.exp(each)))
        each = epsilon_of(persons, share).value
    note = "Some releases protect single pictures only, so no person is protected as a whole."
    if each >= 300:
        return Epsilon(math.inf, "none", "record", note)
    return Epsilon(pictures + 2 * each, "units", "record", note)


def _loose(bound: float, history: History, missing: str) -> Epsilon:
    """Return RDP's bound, with the reason why it has to do."""
    noise = min(each.noise for each in history)
    if not math.isfinite(bound):
        return Epsilon(math.inf, "none", note=f"A noise multiplier of {noise:g} gives no guarantee at all.")
    note = (
        f"{missing} has no answer at a noise multiplier of {noise:g}: this is RDP's bound, which is larger."
    )
    return Epsilon(bound, "rdp", note=note)


def _prv_points(history: History, delta: float, bound: float) -> float:
    """Estimate the points of PRV's mesh, to about a third, from an upper bound of epsilon.

    The mesh of Gopi et al. 2021 as Opacus sets it, over a range a little wider than the bound.
    """
    steps = sum(each.count for each in history)
    return 2 * (bound + 4) * math.sqrt(steps * math.log(12 / (delta / 1000)) / 2) / PRV_STEP


def _opacus(accountant: IAccountant, history: History, delta: float) -> float:
    accountant.history = [(each.noise, each.rate, each.count) for each in history]
    return _ask(lambda: accountant.get_epsilon(delta=delta))


def _ask(accountant: Callable[[], float]) -> float:
    """Return what an accountant says, infinity where it fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            epsilon = float(accountant())
    except (ValueError, ArithmeticError, RuntimeError, MemoryError):
        return math.inf
    return epsilon if epsilon >= 0 else math.inf


class CrossCheck(NamedTuple):
    """Two accountants that agree, within ``tolerance``, on a history of one unit; FedFER reports the first.

    The second is "none" where it has no finite answer, so that there is nothing to compare with.
    """

    first: Epsilon
    second: Epsilon
    tolerance: float


def cross_check(history: History, delta: float) -> tuple[CrossCheck, ...]:
    """Ask a second accountant, dp-accounting's, about each unit of a history.

    Two tight accountants, PRV and PLD, have to agree. Where one of them is RDP, it must not be the smaller.

    Raises
    ------
    PrivacyError : they disagree.
    """
    units: tuple[Unit, ...] = ("record", "subject")
    return tuple(_checked(part, delta) for unit in units if (part := of_unit(history, unit)))


@functools.lru_cache(maxsize=256)
def _checked(history: History, delta: float) -> CrossCheck:
    first = epsilon_of(history, delta)
    if first.accountant == "pld":
        second = Epsilon(_ask(lambda: rdp_epsilon(history, delta)), "rdp", first.unit)
    else:
        lost = sum(each.count * each.slack for each in history)
        found = _ask(lambda: pld_epsilon(as_gaussian(history), delta * math.exp(-lost), first.value))
        second = Epsilon(found + lost, "pld", first.unit)
    tolerance = max(ABSOLUTE, RELATIVE * first.value)
    if not math.isfinite(second.value):
        return CrossCheck(first, second._replace(accountant="none"), tolerance)
    good = {
        "prv": abs(first.value - second.value) <= tolerance,
        "pld": first.value <= second.value + tolerance,
        "rdp": second.value <= first.value + tolerance,
        "none": True,
    }
    if not good[first.accountant]:
        raise PrivacyError(
            f"{first.accountant} says epsilon {first.value:.3f}, {second.accountant} says {second.value:.3f}",
            where="accounting",
            cure="Release nothing more until it is known which is wrong; fedfer site ledger shows what was released.",
        )
    return CrossCheck(first, second, tolerance)


def noise_for(
    epsilon: float, delta: float, rate: float, steps: int, *, unit: Unit = "record", beside: History = ()
) -> float:
    """Return the smallest noise multiplier that keeps Gaussian ``steps`` within (epsilon, delta), to 0.1 %.

    Parameters
    ----------
    beside : what else is released and has to fit in as well, such as label counts.

    Raises
    ------
    ConfigError : epsilon is not positive and finite.
    PrivacyError : no multiplier up to 1,000 does.
    """
    where = "privacy.target_epsilon"
    what = f"epsilon {epsilon:g} is not positive and finite"
    require(0 < epsilon < math.inf, what, where, "Give a number such as 8.")

    @functools.cache
    def cost(sigma: float) -> float:
        return epsilon_of(merged((*gaussian(sigma, rate, steps, unit), *beside)), delta).value

    low, high = _bracket(cost, epsilon)
    if low is None:
        others = " beside the other releases" if beside else ""
        raise PrivacyError(
            f"epsilon {epsilon:g} is out of reach with {steps} steps at rate {rate:g}{others}",
            where=where,
            cure="Take fewer rounds or steps, a smaller rate, or a larger epsilon.",
        )
    side = 1
    while high > low * (1 + 1e-3):
        # Epsilon is nearly a power of the noise; aim a little to the side that has not moved.
        share = (
            math.log(cost(low) / epsilon) / math.log(cost(low) / cost(high)) if cost(low) < math.inf else 0.5
        )
        aimed = low * (high / low) ** share * (1 + side * 3e-4)
        middle = min(max(aimed, low * (1 + 2e-4)), high / (1 + 2e-4))
        side = -1 if cost(middle) <= epsilon else 1
        low, high = (low, middle) if side < 0 else (middle, high)
    return high


def _bracket(cost: Callable[[float], float], epsilon: float) -> tuple[float | None, float]:
    """Return (low, high): noise that costs more than epsilon, and noise that does not, at most twice as much.

    ``low`` is None where 1,000, the most that is tried, costs too much.
    """
    low = high = 1.0
    while cost(low) <= epsilon:
        low, high = low / 2, low
    while cost(high) > epsilon:
        if high >= 1000:
            return None, high
        low, high = high, min(2 * high, 1000.0)
    return low, high
