"""Canonical expression names, and one code table a data set.

Integer codes differ between data sets (FER2013's 3 is happiness, AffectNet's 3 is surprise), so readers
return names and only this module turns a code into a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fer_models.errors import DataError

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""The eight canonical names, in FER+'s order (Barsoum et al. 2016)."""

SEVEN = EXPRESSIONS[:7]
"""The seven names without contempt."""

UNDISCLOSED = "undisclosed"
"""The value of a group column where nothing was disclosed; a row of its own in every report."""

FER2013_CODES: Mapping[str, str] = {
    "0": "anger",
    "1": "disgust",
    "2": "fear",
    "3": "happiness",
    "4": "sadness",
    "5": "surprise",
    "6": "neutral",
}
"""Codes of the column ``emotion`` in ``fer2013.csv`` (Goodfellow et al. 2013)."""

FERPLUS_COLUMNS = (*EXPRESSIONS, "unknown", "NF")
"""Vote columns of ``fer2013new.csv`` in their order; NF says that the picture shows no face."""

ALIASES: Mapping[str, str] = {
    **{name: name for name in EXPRESSIONS},
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "smiling": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
"""Words that folders and metadata files use for a canonical name, in lower case."""


def canonical(word: str, *, where: str) -> str:
    """Return the canonical name of a label word.

    Raises
    ------
    DataError : the word is in no table; an unknown label is an error, never a skipped row.
    """
    name = ALIASES.get(word.strip().lower())
    if name is None:
        raise DataError(
            f"unknown label {word!r}", where=where, cure=f"Use one of {', '.join(sorted(ALIASES))}."
        )
    return name


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct canonical names of ``names`` in the canonical order."""
    present = set(names)
    return tuple(name for name in EXPRESSIONS if name in present)
