"""Judge the predictions of any system, from a csv file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from client.strict import nearest
from fer_models.counts import Counts
from fer_models.errors import ConfigError
from fer_models.readers.predictions import TIES, Layout, read_predictions

NAMES = ("true", "predicted", "subject", "id")
LISTS = ("groups", "ignore", "labels")
OPTIONS = ("predictions", *NAMES, *LISTS, "words", "ties")


def count_predictions(
    words: Sequence[str],
) -> tuple[dict[str, Any], Counts, Mapping[str, Mapping[str, int]]]:
    """Count the file that ``predictions=FILE.csv`` names, read as the other words say.

    Returns
    -------
    What was judged, its counts, and attribute -> group -> people where rows name them.

    Raises
    ------
    ConfigError : an unknown word, or a value of the wrong kind.
    DataError : see :func:`fer_models.readers.predictions.read_predictions`.
    """
    path, layout = parsed(words)
    found = read_predictions(path, layout)
    source: dict[str, Any] = {"door": "predictions", "predictions": str(path), "rows": found.counts.rows}
    source["probabilities"] = found.probabilities
    if found.probabilities:
        source["calibration_error"] = {name: dict(each) for name, each in found.calibration.items()}
    return source, found.counts, found.people


def parsed(words: Sequence[str]) -> tuple[Path, Layout]:
    """Return the file and the layout that ``KEY=VALUE`` words name.

    Raises
    ------
    ConfigError : an unknown word, or a value of the wrong kind.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in OPTIONS or not equals:
            raise ConfigError(
                f"audit predictions=FILE.csv takes no {word!r}",
                where="command line",
                cure=nearest(key, OPTIONS),
            )
        given[key] = value
    path = given.pop("predictions", "")
    if not path:
        raise ConfigError("no file", where="predictions", cure="Write predictions=FILE.csv.")
    options = {key: _value(key, value) for key, value in given.items()}
    return Path(path), Layout(**options)


def _value(key: str, value: str) -> Any:
    if key in NAMES:
        return value
    if key in LISTS:
        return _list(key, value)
    if key == "ties":
        if value not in TIES:
            raise ConfigError(f"unknown value {value!r}", where=key, cure=f"Use one of {', '.join(TIES)}.")
        return value
    return _mapping(key, value)


def _list(key: str, value: str) -> tuple[str, ...]:
    names = tuple(each.strip() for each in value.strip("[]").split(",") if each.strip())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice!r} is named twice", where=key, cure="Name it once.")
    return names


def _mapping(key: str, value: str) -> dict[str, str]:
    """Read ``{WORD: CLASS}``; words stay words, also ``no`` and ``1``."""
    try:
        found = yaml.load(value, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) and each for each in found.values()):
        cure = "Write words={WORD: CLASS}, quoted, with a space after each colon."
        raise ConfigError(f"{value!r} is no mapping", where=key, cure=cure)
    return found
