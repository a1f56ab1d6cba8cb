"""The open sessions of a real site on disk, so that an agent that was killed goes on with them.

A session is written before each of its answers leaves, whole or not at all, and removed when it is left. Its file is
for the owner's eyes. It never holds a masked vector together with the secrets that take its mask off: the seed and the
secrets with peers are erased before (:meth:`client.secagg.participant.Participant.mask`), and what is left of secrets
are the peers' shares.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.keys import make_folder, write_own

SUFFIX = ".session"

OLDEST = 2 * 86400.0
"""Seconds after which a session is not taken up any more: no coordinator waits as long for an answer."""

log = logging.getLogger("fedfer.site")


@dataclass(frozen=True)
class Left:
    """A session as an earlier process left it.

    Attributes
    ----------
    number : the session's.
    state : of :meth:`client.secagg.participant.Participant.snapshot`.
    vector : the answer with the masked vector, empty before there was one.
    facts : what the ledger said with it.
    """

    number: int
    state: bytes
    vector: bytes
    facts: Mapping[str, str]


class SessionFiles:
    """The sessions that a site is in, a file each.

    Parameters
    ----------
    folder : where they are; it is made with the first one, and only its owner may enter it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, left: Left) -> None:
        """Write a session.

        Raises
        ------
        RunFolderError : it cannot be written; nothing of it may leave.
        """
        if not self._folder.is_dir():
            make_folder(self._folder)
        head = json.dumps({"state": left.state.decode(), "facts": dict(left.facts)}).encode()
        write_own(self._path(left.number), b"\n".join((head, left.vector)))

    def drop(self, number: int) -> None:
        """Remove a session."""
        self._path(number).unlink(missing_ok=True)

    def read(self) -> Iterator[Left]:
        """Yield what is there; what is too old or cannot be read is removed, and said in the site's own log."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                if time.time() - path.stat().st_mtime > OLDEST:
                    raise ValueError("it is old")
                head, _, vector = path.read_bytes().partition(b"\n")
                found = json.loads(head)
                facts = {str(name): str(value) for name, value in found["facts"].items()}
                yield Left(int(path.stem), found["state"].encode(), vector, facts)
            except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                log.warning("the session %s is not taken up: %s", path.stem, error)
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}{SUFFIX}"
