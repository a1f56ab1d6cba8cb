"""Whose face is on a site's pictures, as far as a plan asks: groups for the critic, weights, and the tally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.plan import Plan
from client.told import Told
from fer_models.errors import DataError
from fer_models.samples import Samples


@dataclass(frozen=True)
class Grouped:
    """Groups and classes of a site's training pictures.

    Attributes
    ----------
    group : int (n,), index of each picture's disclosed group, G where it is undisclosed.
    label : int (n,), its class.
    groups, classes : G and C.
    """

    group: NDArray[np.intp]
    label: NDArray[np.intp]
    groups: int
    classes: int

    @property
    def cells(self) -> NDArray[np.intp]:
        """int (n,): the place of each picture in counts by group and class, (G + 1) C in all."""
        return self.group * self.classes + self.label

    def weights(self, told: Told) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what each picture weighs in the net's loss and in the critic's, float32 (n,), in [0, 1]."""
        own = np.ones(len(self.label), np.float32)
        if told.weights:
            own = np.array(told.weights, np.float32)[self.group, self.label]
        balance = np.array([*(told.balance or (1.0,) * self.groups), 0.0], np.float32)
        return own, balance[self.group]

    def columns(self, told: Told, *, private: bool) -> torch.Tensor:
        """Return what :class:`fer_models.critic.FairLoss` is given beside the classes: float32 (n, G + 2).

        Under privacy both weights are 1, because weights before the clip are undone by it.
        """
        shown = self.group[:, None] == np.arange(self.groups)
        own, critics = self.weights(told)
        if private:
            own, critics = np.ones_like(own), np.ones_like(critics)
        else:
            own, critics = own / np.float32(told.means[0]), critics / np.float32(told.means[1])
        return torch.from_numpy(np.column_stack([shown, own, critics]).astype(np.float32))


def places(values: NDArray[np.str_], names: Sequence[str], missing: int) -> NDArray[np.intp]:
    """Return the place of each value (n,) among ``names``, ``missing`` where it is none of them."""
    found = np.full(len(values), missing, np.intp)
    for index, name in enumerate(names):
        found[values == name] = index
    return found


def grouped(plan: Plan, samples: Samples, rows: NDArray[np.intp], *, opted_out: bool) -> Grouped:
    """Return the groups of some rows; a value that the plan does not name is undisclosed.

    Parameters
    ----------
    opted_out : the site tells nobody's group: all are undisclosed.

    Raises
    ------
    DataError : the site has no such column, and has not opted out.
    """
    assert plan.fairness is not None
    names, attribute = plan.disclosed, plan.fairness.attribute
    group = np.full(len(rows), len(names), np.intp)
    if not opted_out:
        if attribute not in samples.groups:
            raise DataError(
                f"no column tells {attribute!r}",
                where=samples.name,
                cure="Give the pictures that column, with undisclosed where it is not known, or opt the site out.",
            )
        group = places(samples.groups[attribute][rows], names, len(names))
    return Grouped(group, samples.label[rows].astype(np.intp), len(names), len(plan.labels))


class Tally:
    """How a site's training pictures fare, by group and class.

    Call it with each batch's predicted classes; :meth:`note` then says whose they were.

    Parameters
    ----------
    parity : tell apart what was predicted, C answers, and not only wrong and right, 2.

    Attributes
    ----------
    total : float64 (K,), by group, class and answer; one unit adds 1 in all.
    """

    def __init__(self, data: Grouped, *, parity: bool) -> None:
        answers = data.classes if parity else 2
        self._data, self._answers, self._parity = data, answers, parity
        self._seen: list[torch.Tensor] = []
        self.total = np.zeros((data.groups + 1) * data.classes * answers)

    def __call__(self, predicted: torch.Tensor) -> None:
        """Take predicted classes (B,)."""
        self._seen.append(predicted)

    def note(self, positions: NDArray[np.integer], sizes: Sequence[int] | None = None) -> None:
        """Count the answers since the last call.

        Parameters
        ----------
        positions : (n,), of the pictures whose answers they were, in their order.
        sizes : of each unit of privacy, whose pictures and views share its count of 1; one each when None.
        """
        seen, self._seen = self._seen, []
        if not len(positions):
            return
        predicted = torch.cat(seen).cpu().numpy()
        kind = predicted if self._parity else predicted == self._data.label[positions]
        place = self._data.cells[positions] * self._answers + kind
        share = np.ones(len(positions)) if sizes is None else np.repeat(1 / np.array(sizes), sizes)
        np.add.at(self.total, place, share)


@dataclass(frozen=True)
class FairRound:
    """What a site adds to its pictures in one round of fair training.

    Attributes
    ----------
    columns : float32 (n, G + 2), see :meth:`Grouped.columns`.
    own, critics : float32 (n,), weights in the net's loss and in the critic's, as told.
    means : what a site divides by.
    has_critic : whether there are weights of a critic.
    tally : counts how its pictures fare, None where the plan asks for none.
    """

    columns: torch.Tensor
    own: NDArray[np.float32]
    critics: NDArray[np.float32]
    means: tuple[float, ...]
    has_critic: bool
    tally: Tally | None

    def unit_weights(self, positions: NDArray[np.integer], sizes: Sequence[int]) -> list[NDArray[np.float32]]:
        """Return the weights of clipped gradients, the net's and with a critic its own, (units,) each, in [0, 1].

        A unit of several pictures weighs what they do on average.
        """
        starts = np.cumsum([0, *sizes[:-1]])
        counts = np.array(sizes, np.float32)
        each = [self.own[positions], *([self.critics[positions]] if self.has_critic else [])]
        if not sizes:
            return each
        return [(np.add.reduceat(w, starts) / counts).astype(np.float32) for w in each]


def fair_round(plan: Plan, data: Grouped, told: Told) -> FairRound:
    """Return what a site adds to its pictures in a round.

    Raises
    ------
    ConfigError : what is told is for other groups or classes.
    """
    assert plan.fairness is not None
    told.require_shape(data.groups, data.classes)
    own, critics = data.weights(told)
    tally = Tally(data, parity=plan.fairness.tolerance_on == "parity") if plan.tally_size else None
    columns = data.columns(told, private=plan.privacy is not None)
    return FairRound(columns, own, critics, told.means, plan.fairness.has_critic, tally)
