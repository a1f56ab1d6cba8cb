"""What a site's training has cost in privacy, in a file that is written before an update leaves.

One line a release: plan, round, steps, sampling rate, noise multiplier, and a fingerprint of the noise key. Epsilon
composes over all lines. A crash between the line and the update over-counts, never under-counts; a round that is
repeated with the same key (only a seeded simulation can) releases the same bits and is counted once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from client.accounting import epsilon_of
from client.mechanisms import History, Mechanism, merged
from client.strict import parse, require
from fer_models.errors import ConfigError, PrivacyError, RunFolderError


@dataclass(frozen=True)
class Release:
    """One update that left, or may have left, the site."""

    plan: str
    round: int
    steps: int
    rate: float
    noise_multiplier: float
    key: str
    mechanism: Literal["gaussian", "discrete_gaussian"] = "gaussian"
    slack: float = 0.0

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"{self.steps} steps", "steps", "Give 1 or more.")
        require(0 < self.rate <= 1, f"rate {self.rate}", "rate", "Give more than 0, up to 1.")
        require(self.noise_multiplier > 0, "no noise", "noise_multiplier", "Give more than 0.")

    @staticmethod
    def fingerprint(key: bytes) -> str:
        """Return a short digest that tells keys apart and does not give them away."""
        return hashlib.sha256(b"fedfer ledger|" + key).hexdigest()[:16]


class Ledger:
    """The releases of one site.

    Several processes may share the file: each writes under a lock, after reading what the others wrote.

    Parameters
    ----------
    path : a file with one JSON object a line, made when missing; None keeps the ledger in memory.

    Raises
    ------
    PrivacyError : the file is damaged before its last line, or has lost lines.
    RunFolderError : the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._releases: dict[Release, None] = {}
        self._known_bytes = self._lines = 0
        self.refresh()

    def refresh(self) -> None:
        """Read what another process has written since."""
        if self._path is not None and (self._known_bytes or self._path.exists()):
            with self._opened(os.O_RDONLY, "read") as file:
                self._take(file)

    def record(self, release: Release) -> None:
        """Write a release and sync it to disk; the update may leave only after this returns."""
        if self._path is None:
            self._releases[release] = None
            return
        with self._opened(os.O_RDWR | (0 if self._known_bytes else os.O_CREAT), "write") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._take(file)
            if release not in self._releases:
                self._append(file, release)

    @contextlib.contextmanager
    def _opened(self, flags: int, purpose: str) -> Iterator[BinaryIO]:
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(self._path, flags, 0o600), "rb" if purpose == "read" else "r+b") as file:
                yield file
        except FileNotFoundError as error:
            raise self._damaged("the privacy ledger is gone", str(self._path)) from error
        except OSError as error:
            raise RunFolderError(
                f"cannot {purpose} the privacy ledger: {error.strerror}",
                where=str(self._path),
                cure="Free disk space or mend the disk; no update leaves the site without its line in the ledger.",
            ) from error

    def _take(self, file: BinaryIO) -> None:
        """Take in the lines that are new."""
        size = os.fstat(file.fileno()).st_size
        if size < self._known_bytes:
            raise self._damaged("the privacy ledger has lost lines", str(self._path))
        file.seek(self._known_bytes)
        content = file.read(size - self._known_bytes)
        # What follows the last line end was torn by a crash before it was synced: its update never left.
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.split(b"\n")[:-1]:
            self._lines += 1
            try:
                self._releases[parse(Release, json.loads(line))] = None
            except (ValueError, RecursionError, ConfigError) as error:
                place = f"{self._path}:{self._lines}"
                raise self._damaged("the privacy ledger is damaged", place) from error
        self._known_bytes += len(whole)

    def _append(self, file: BinaryIO, release: Release) -> None:
        line = json.dumps(asdict(release), separators=(",", ":")).encode() + b"\n"
        if os.fstat(file.fileno()).st_size > self._known_bytes:
            file.truncate(self._known_bytes)
        file.seek(self._known_bytes)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
        if not self._known_bytes:
            self._sync_folder()
        self._known_bytes += len(line)
        self._lines += 1
        self._releases[release] = None

    def _sync_folder(self) -> None:
        """Sync the folder, without which a new file's name may not outlive a crash."""
        assert self._path is not None
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @staticmethod
    def _damaged(what: str, where: str) -> PrivacyError:
        cure = "Restore the file from a copy; without it the site's epsilon is unknown."
        return PrivacyError(what, where=where, cure=cure)

    def history(self, plan: str | None = None) -> History:
        """Return the composed history, of one plan or of all."""
        chosen = [each for each in self._releases if plan in (None, each.plan)]
        return merged(
            Mechanism(r.mechanism, r.noise_multiplier, r.rate, r.steps, slack=r.slack) for r in chosen
        )

    def epsilon(self, delta: float) -> float:
        """Return epsilon over everything in the ledger."""
        return epsilon_of(self.history(), delta).value
