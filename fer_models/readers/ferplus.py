"""FER+ votes and the target rules of their authors (Barsoum et al. 2016, arXiv:1608.01041).

Ten annotators a picture of FER2013 voted for one of eight expressions, *unknown*, or *NF* (no face). The
rules are those of ``src/ferplus.py`` in github.com/microsoft/FERPlus, over whole columns at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_models.errors import ConfigError, DataError
from fer_models.labels import EXPRESSIONS, FERPLUS_COLUMNS
from fer_models.readers.tables import table

RULES = ("majority", "probability", "crossentropy", "multi_target")
"""Target rules of FER+; each first removes single votes, then decides which classes a picture shows."""

NO_NAME = "no image name in FER+ (the picture shows no face)"
NOT_A_FACE = "FER+ votes say: not a face (NF)"
UNKNOWN = "FER+ votes say: unknown expression"
NO_AGREEMENT = "FER+ votes do not agree"

_FACES = len(EXPRESSIONS)


@dataclass(frozen=True)
class Ballot:
    """The rows of ``fer2013new.csv`` in their order.

    Attributes
    ----------
    usage : N words of the column Usage.
    line : N line numbers.
    named : bool (N,), False where the image name is blank.
    votes : int32 (N, 10), one column a name of :data:`fer_models.labels.FERPLUS_COLUMNS`.
    """

    usage: list[str]
    line: list[int]
    named: NDArray[np.bool_]
    votes: NDArray[np.int32]


@dataclass(frozen=True)
class Targets:
    """What a rule makes of the votes.

    Attributes
    ----------
    label : int16 (N,), index into EXPRESSIONS; without meaning where ``reason`` is not empty.
    votes : float32 (N, 8), the weight of each expression in the training target.
    reason : str (N,), why a row is dropped, empty where it is kept.
    """

    label: NDArray[np.int16]
    votes: NDArray[np.float32]
    reason: NDArray[np.str_]


def read_ballot(path: Path) -> Ballot:
    """Read ``fer2013new.csv`` (also ``.gz``).

    Raises
    ------
    DataError : a column is missing, or a cell is no whole number of votes.
    """
    usage: list[str] = []
    lines: list[int] = []
    named: list[bool] = []
    votes: list[list[int]] = []
    for line, row in table(path, ("Usage", "Image name", *FERPLUS_COLUMNS)):
        cells = [row[name] for name in FERPLUS_COLUMNS]
        if not is_votes(cells):
            wrong = [cell for cell in cells if not is_votes([cell])]
            raise DataError(
                f"{wrong[0]!r} is no number of votes",
                where=f"{path}:{line}",
                cure="Download FER+ again.",
            )
        usage.append(row["Usage"])
        lines.append(line)
        named.append(bool(row["Image name"]))
        votes.append([int(cell) for cell in cells])
    return Ballot(usage, lines, np.array(named, bool), np.array(votes, np.int32).reshape(-1, 10))


def is_votes(cells: Sequence[str]) -> bool:
    """Whether cells are whole numbers of votes."""
    return all(cell.isascii() and cell.isdigit() and len(cell) <= 4 for cell in cells)


def known_rule(rule: str) -> None:
    """Refuse a rule that is not in :data:`RULES`."""
    if rule not in RULES:
        cure = f"Use one of {', '.join(RULES)}, original."
        raise ConfigError(f"unknown rule {rule!r}", where="rule", cure=cure)


def targets(ballot: Ballot, rule: str) -> Targets:
    """Apply a rule of :data:`RULES`.

    Votes of exactly 1 count as 0 everywhere. ``majority``: the class with more than half of the votes left;
    its target is the votes left over the eight expressions. ``probability`` and ``crossentropy``: classes in
    descending order until they hold 75 % of the votes, at most 3, and more than half. ``multi_target``:
    every class with at least 30 %, equal weights, together more than half.
    """
    if rule not in RULES:
        raise ConfigError(
            f"unknown rule {rule!r}", where="rule", cure=f"Use one of {', '.join(RULES)}, original."
        )
    decide = {"majority": _majority, "multi_target": _multi_target}.get(rule, _descending)
    label, weights, reason = decide(np.where(ballot.votes == 1, 0, ballot.votes))
    reason = np.where(ballot.named, reason, NO_NAME)
    return Targets(label.astype(np.int16), weights.astype(np.float32), reason)


_Decision = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.str_]]


def _said(top: NDArray[np.integer], agreed: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Why a row is dropped, from its winning column and whether the votes agree on it."""
    reason = np.where(top == _FACES, UNKNOWN, np.where(top > _FACES, NOT_A_FACE, ""))
    return np.where(agreed, reason, NO_AGREEMENT)


def _majority(votes: NDArray[np.integer]) -> _Decision:
    top = votes.argmax(1)
    agreed = 2 * votes.max(1, initial=0) > votes.sum(1)
    return top, votes[:, :_FACES], _said(top, agreed)


def _descending(votes: NDArray[np.integer]) -> _Decision:
    total = votes.sum(1)
    left, chosen = votes.copy(), np.zeros_like(votes)
    for _ in range(3):
        # A row goes on while it has under 75 % of its votes, under 3 classes, and met neither unknown nor NF.
        open_ = (4 * chosen.sum(1) < 3 * total) & ((chosen > 0).sum(1) < 3) & ~chosen[:, _FACES:].any(1)
        tie = (left == left.max(1, initial=0, keepdims=True)) & (left > 0) & open_[:, None]
        chosen[tie], left[tie] = votes[tie], 0
    faces = chosen[:, :_FACES]
    # Unknown or NF counts only when it came first; behind an expression it just ends the list.
    first = np.where(faces.any(1), faces.argmax(1), np.where(chosen.any(1), chosen.argmax(1), 0))
    held = np.where(faces.any(1), faces.sum(1), chosen.max(1, initial=0))
    agreed = (2 * held > total) & ((faces > 0).sum(1) <= 3)
    return first, faces, _said(first, agreed)


def _multi_target(votes: NDArray[np.integer]) -> _Decision:
    total = votes.sum(1)
    chosen = np.where(10 * votes >= 3 * total[:, None], votes, 0)
    top = chosen.argmax(1)
    return top, (chosen[:, :_FACES] > 0).astype(int), _said(top, 2 * chosen.sum(1) > total)
