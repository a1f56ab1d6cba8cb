"""The open sessions of a real site outside its process, so that an agent that was killed goes on with them.

They are files in memory (a tmpfs) and, but for swap, never on a disk: whoever puts back an old copy of a disk, and a
machine that loses its power, must not bring back secrets that have masked a vector already, for a second vector under
the same masks takes both masks off. A file outlives the process and not the machine, and where there is no such place
nothing is kept, so that an agent that is killed drops out of its sessions.

A session is written before each of its answers leaves, whole or not at all, and removed when it is left. Its file is
for the owner's eyes. It never holds a masked vector together with the secrets that take its mask off: the seed and the
secrets with peers are erased before (:meth:`client.secagg.participant.Participant.mask`), and what is left of secrets
are the peers' shares.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.keys import make_folder, write_own

MEMORY, MOUNTS = Path("/dev/shm"), Path("/proc/mounts")
"""Where Linux has files in memory, and where it says so."""

SUFFIX, HASH = ".session", 32

OLDEST = 2 * 86400.0
"""Seconds after which a session is not taken up any more: no coordinator waits as long for an answer."""

log = logging.getLogger("fedfer.site")


def memory_folder(site: Path) -> Path | None:
    """Return the folder in memory for the sessions of the site in a folder; None where there is no such place that
    nobody else may enter.
    """
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
        if [fields[2] for fields in mounts if fields[1] == str(MEMORY)][-1:] != ["tmpfs"]:
            return None
        own = MEMORY / f"fedfer-{os.getuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        found = own.lstat()  # anybody may have made a folder, or a link, of that name
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        return None
    return own / hashlib.sha256(os.fsencode(site.resolve())).hexdigest()[:32]


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
        RunFolderError : it cannot be written; what was kept of it before may be old.
        """
        if not self._folder.is_dir():
            make_folder(self._folder.parent)  # by itself, as only the last one that is made gets its rights
            make_folder(self._folder)
        head = json.dumps({"state": left.state.decode(), "facts": dict(left.facts)}).encode()
        rest = b"\n".join((head, left.vector))
        write_own(self._path(left.number), hashlib.sha256(rest).digest() + rest)

    def drop(self, number: int) -> None:
        """Remove a session."""
        self._path(number).unlink(missing_ok=True)

    def read(self) -> Iterator[Left]:
        """Yield what is there; what is too old or cannot be read is removed, and said in the site's own log."""
        for path in self._folder.glob(f".*{SUFFIX}.part"):  # of a process that was killed as it wrote
            path.unlink(missing_ok=True)
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                if time.time() - path.stat().st_mtime > OLDEST:
                    raise ValueError("it is old")
                whole = path.read_bytes()
                digest, rest = whole[:HASH], whole[HASH:]
                if hashlib.sha256(rest).digest() != digest:
                    raise ValueError("its digest is another")
                head, _, vector = rest.partition(b"\n")
                found = json.loads(head)
                facts = {str(name): str(value) for name, value in found["facts"].items()}
                yield Left(int(path.stem), found["state"].encode(), vector, facts)
            except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                log.warning("the session %s is not taken up: %s", path.stem, error)
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}{SUFFIX}"
