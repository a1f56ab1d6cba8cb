"""The form in which every method of fair training declares itself."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "nothing"


@dataclass(frozen=True)
class Method:
    """One choice of ``fairness``.

    Attributes
    ----------
    name : as in ``fairness=NAME``.
    what : what it does, in a line.
    source : where it comes from.
    needs : what a site must know of its pictures besides the pictures and their labels.
    reveals : what the coordinator learns besides the update that training sends anyway; under secure aggregation it
        learns sums over sites alone.
    epsilon, traffic, work : what it costs under differential privacy, in numbers sent, and in a site's computing time.
    plain, secure, private : why it is refused under plain aggregation, under secure aggregation and under
        differential privacy; empty where it is not.
    caution : what it does not do, though one might expect it.
    """

    name: str
    what: str
    source: str
    needs: str = NOTHING
    reveals: str = NOTHING
    epsilon: str = "none"
    traffic: str = "none"
    work: str = "none"
    plain: str = ""
    secure: str = ""
    private: str = ""
    caution: str = ""
