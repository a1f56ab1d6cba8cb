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

COMPOUND = (
    "happily surprised",
    "happily disgusted",
    "sadly fearful",
    "sadly angry",
    "sadly surprised",
    "sadly disgusted",
    "fearfully angry",
    "fearfully surprised",
    "angrily surprised",
    "angrily disgusted",
    "disgustedly surprised",
)
"""Two expressions at once, in the order of RAF-DB's codes 1 to 11 (Li et al. 2017)."""

FURTHER = ("anxiety", "helplessness", "disappointment")
"""What MAFW tells apart besides the eight (Liu et al. 2022)."""

UNLABELLED = "unlabelled"
"""The class of pictures whose expression nobody labelled, in sets that tell groups alone."""

VOCABULARY = (*EXPRESSIONS, *COMPOUND, *FURTHER, UNLABELLED)
"""Every name that a reader may give a class."""

UNDISCLOSED = "undisclosed"
"""The value of a group column where nothing was disclosed; a row of its own in every report."""

TIE = "tie"
"""The answer of a vote in which several classes got most; never a true class."""

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

RAFDB_CODES: Mapping[str, str] = {
    "1": "surprise",
    "2": "fear",
    "3": "disgust",
    "4": "happiness",
    "5": "sadness",
    "6": "anger",
    "7": "neutral",
}
"""Codes of RAF-DB's basic set, from 1 on (its readme)."""

RAFDB_COMPOUND_CODES: Mapping[str, str] = {str(code): name for code, name in enumerate(COMPOUND, 1)}
"""Codes of RAF-DB's compound set, from 1 on."""

AFFECTNET_CODES: Mapping[str, str] = {
    "0": "neutral",
    "1": "happiness",
    "2": "sadness",
    "3": "surprise",
    "4": "fear",
    "5": "disgust",
    "6": "anger",
    "7": "contempt",
}
"""Codes of AffectNet's faces with an expression (Mollahosseini et al. 2017)."""

AFFECTNET_NO_EXPRESSION: Mapping[str, str] = {
    "8": "AffectNet code 8: none of the expressions",
    "9": "AffectNet code 9: annotator uncertain",
    "10": "AffectNet code 10: no face",
}
"""Codes of AffectNet's other pictures -> why they are left out."""

CKPLUS_CODES: Mapping[str, str] = {
    "0": "neutral",
    "1": "anger",
    "2": "contempt",
    "3": "disgust",
    "4": "fear",
    "5": "happiness",
    "6": "sadness",
    "7": "surprise",
}
"""Codes of CK+'s emotion files (its readme of 2010)."""

EXPW_CODES = FER2013_CODES
"""Codes of ExpW's list, which are those of FER2013 (Zhang et al. 2018)."""

DFEW_CODES: Mapping[str, str] = {
    "1": "happiness",
    "2": "sadness",
    "3": "neutral",
    "4": "anger",
    "5": "surprise",
    "6": "disgust",
    "7": "fear",
}
"""Codes of DFEW's own csv files, from 1 on (Jiang et al. 2020)."""

CLIP_CODES: Mapping[str, str] = {
    **{str(int(code) - 1): name for code, name in DFEW_CODES.items()},
    "7": "contempt",
    "8": "anxiety",
    "9": "helplessness",
    "10": "disappointment",
}
"""Codes of the clip lists of FERV39k and MAFW, from 0 on; FERV39k ends at 6 (lists of DFER-CLIP, Zhao 2023)."""

CREMAD_CODES: Mapping[str, str] = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
"""What an actor of CREMA-D was asked to show, from the name of a clip (Cao et al. 2014)."""

TWO_LETTER_CODES: Mapping[str, str] = {
    "AF": "fear",
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SP": "surprise",
    "SU": "surprise",
}
"""Letters that several sets of posed faces write into file names; each set takes some of them."""

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
    return tuple(name for name in VOCABULARY if name in present)
