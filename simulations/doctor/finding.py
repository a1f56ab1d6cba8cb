"""What a check found."""

from __future__ import annotations

from typing import NamedTuple

LEVELS = ("ok", "note", "warning", "error")
"""From good to bad: in order; worth knowing; works, and less well than it could; to be put right first."""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    area : what it belongs to, one word.
    level : one of :data:`LEVELS`.
    what : what was found, one clause.
    cure : what to do, a whole sentence; empty where nothing has to be done.
    """

    area: str
    level: str
    what: str
    cure: str = ""
