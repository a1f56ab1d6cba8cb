"""When a site works, and for how long: hours of the day by its own clock, and the time that each plan has taken."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path

from client.keys import write_own
from client.strict import require
from fer_models.errors import ConfigError

WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")

DAY = 24 * 60
"""Minutes."""

KEPT = 1000
"""Plans whose time is remembered, the newest."""

UNSAVED = 10.0
"""Seconds of work that a kill may let a site forget; writing after every answer would cost a sync each."""


def window_of(text: str) -> tuple[int, int]:
    """Return the minutes of the day at which a window such as 18:00-07:00 begins and ends; it may pass midnight.

    Raises
    ------
    ConfigError : it is none.
    """
    found = WINDOW.fullmatch(text)
    begins, ends = (0, 0) if found is None else _minutes(*found.groups())
    good = found is not None and ends <= DAY and begins != ends
    require(
        good,
        f"{text!r} is no time of the day",
        "training.times",
        'Write ["18:00-07:00"], or ["00:00-24:00"].',
    )
    return begins, ends


def _minutes(*parts: str) -> tuple[int, int]:
    first, second, third, fourth = map(int, parts)
    return 60 * first + second, 60 * third + fourth


def within(times: Sequence[str], now: datetime.datetime) -> bool:
    """Whether a moment lies in one of the windows."""
    minute = 60 * now.hour + now.minute
    for begins, ends in map(window_of, times):
        if begins <= minute < ends or (ends < begins and not ends <= minute < begins):
            return True
    return False


class Worked:
    """How long a site has worked for each plan, kept in a file.

    Parameters
    ----------
    path : of the file, made with the first work; None keeps it in memory.

    Raises
    ------
    ConfigError : the file is damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._unsaved = path, 0.0
        self._seconds: dict[str, float] = {}
        if path is not None and path.exists():
            try:
                given = json.loads(path.read_text())
                self._seconds = {str(plan): float(seconds) for plan, seconds in given.items()}
            except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
                raise ConfigError(
                    "how long this site has worked cannot be read",
                    where=str(path),
                    cure="Put a copy back; or delete it, and hours are counted anew.",
                ) from error

    def of(self, plan: str) -> float:
        """Return the seconds of a plan, by its digest."""
        return self._seconds.get(plan, 0.0)

    def add(self, plan: str, seconds: float) -> None:
        """Take note of work that was done.

        Raises
        ------
        RunFolderError : it cannot be written.
        """
        total = self._seconds.pop(plan, 0.0) + seconds  # last, as the newest are kept
        self._seconds[plan] = total
        for old in list(self._seconds)[:-KEPT]:
            del self._seconds[old]
        self._unsaved += seconds
        if self._unsaved >= UNSAVED:
            self.save()

    def save(self) -> None:
        """Write what is not written yet.

        Raises
        ------
        RunFolderError : it cannot be written.
        """
        if self._path is not None and self._unsaved:
            write_own(self._path, json.dumps(self._seconds))
        self._unsaved = 0.0
