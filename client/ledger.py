"""What a site's training has cost in privacy, in a file that is written before an update leaves.

One line a release: plan, round, steps, sampling rate, noise multiplier, and a fingerprint of the noise key. Epsilon
composes over all lines. A crash between the line and the update over-counts, never under-counts; a round that is
repeated with the same key (only a seeded simulation can) releases the same bits and is counted once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from fer_models.errors import PrivacyError, RunFolderError

History = tuple[tuple[float, float, int], ...]
"""(noise multiplier, sampling rate, steps), as Opacus's accountants hold it."""


@dataclass(frozen=True)
class Release:
    """One update that left, or may have left, the site."""

    plan: str
    round: int
    steps: int
    rate: float
    noise_multiplier: float
    key: str

    @staticmethod
    def fingerprint(key: bytes) -> str:
        """Return a short digest that tells keys apart and does not give them away."""
        return hashlib.sha256(b"fedfer ledger|" + key).hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def epsilon_of(history: History, delta: float) -> tuple[float, str]:
    """Return (epsilon, accountant) of a history of Gaussian mechanisms with Poisson sampling.

    The accountant is "prv" (Gopi et al. 2021), or "rdp" (Mironov 2017) where prv gives no finite answer; both
    come from Opacus. An empty history costs 0.
    """
    from opacus.accountants import PRVAccountant, RDPAccountant

    if not history:
        return 0.0, "prv"
    for name, kind in (("prv", PRVAccountant), ("rdp", RDPAccountant)):
        accountant = kind()
        accountant.history = list(history)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                epsilon = float(accountant.get_epsilon(delta=delta))
        except (ValueError, RuntimeError, OverflowError):
            continue
        if math.isfinite(epsilon):
            return epsilon, name
    return math.inf, "none"


def noise_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the smallest noise multiplier that keeps ``steps`` within (epsilon, delta), to 0.1 %.

    Raises
    ------
    PrivacyError : no multiplier up to 1,000 does.
    """

    def cost(sigma: float) -> float:
        return epsilon_of(((sigma, rate, steps),), delta)[0]

    low, high = 0.0, 1.0
    while cost(high) > epsilon:
        low, high = high, high * 2
        if high > 1000:
            raise PrivacyError(
                f"epsilon {epsilon:g} is out of reach with {steps} steps at rate {rate:g}",
                where="privacy.target_epsilon",
                cure="Take fewer rounds or steps, a smaller rate, or a larger epsilon.",
            )
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    return high


class Ledger:
    """The releases of one site.

    Parameters
    ----------
    path : a file with one JSON object a line, made when missing; None keeps the ledger in memory.

    Raises
    ------
    PrivacyError : the file is damaged before its last line.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._releases: dict[tuple[str, int, str], Release] = {}
        self._known_bytes = 0
        self._read()

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        content = self._path.read_bytes()
        # What follows the last line end was torn by a crash before it was synced: its update never left.
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._add(Release(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise PrivacyError(
                    "the privacy ledger is damaged",
                    where=f"{self._path}:{number}",
                    cure="Restore the file from a copy; without it the site's epsilon is unknown.",
                ) from error
        self._known_bytes = len(whole)

    def _add(self, release: Release) -> None:
        self._releases[release.plan, release.round, release.key] = release

    def refresh(self) -> None:
        """Read what another process has written since."""
        if self._path is not None and self._path.exists() and self._path.stat().st_size != self._known_bytes:
            self._read()

    def record(self, release: Release) -> None:
        """Write a release and sync it to disk; the update may leave only after this returns."""
        self.refresh()
        if self._releases.get((release.plan, release.round, release.key)) == release:
            return
        if self._path is not None:
            self._append(json.dumps(asdict(release), separators=(",", ":")).encode() + b"\n")
        self._add(release)

    def _append(self, line: bytes) -> None:
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.truncate(self._known_bytes)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                self._known_bytes = file.tell()
        except OSError as error:
            raise RunFolderError(
                f"cannot write the privacy ledger: {error.strerror}",
                where=str(self._path),
                cure="Free disk space; no update leaves the site without its line in the ledger.",
            ) from error

    def history(self, plan: str | None = None) -> History:
        """Return the composed history, of one plan or of all."""
        steps: Counter[tuple[float, float]] = Counter()
        for release in self._releases.values():
            if plan in (None, release.plan):
                steps[release.noise_multiplier, release.rate] += release.steps
        return tuple((sigma, rate, count) for (sigma, rate), count in sorted(steps.items()))

    def epsilon(self, delta: float) -> float:
        """Return epsilon over everything in the ledger."""
        return epsilon_of(self.history(), delta)[0]
