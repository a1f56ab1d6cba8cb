"""What a ledger holds: events, each chained to all before it by its hash."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import NamedTuple

from client.mechanisms import Mechanism
from client.strict import require
from fer_models.errors import PrivacyError

VERSION = 2
"""Of the file's form; version 1 was lines of JSON."""

WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
NAME = re.compile(r"[\w.:+-]{0,100}")


@dataclass(frozen=True)
class Event:
    """One private release that left, or may have left, the site.

    Two equal events are one release: only a seeded simulation that repeats a round draws the same key.

    Attributes
    ----------
    kind : what was released, such as "training" (the steps of a round) or "label_counts"; small letters.
    run, plan : of which run, under the plan with which hash.
    round : of the run, 0 for what is released once.
    key : fingerprint of the key of the noise.
    delta : at which the plan states its epsilon.
    mechanism : noise, rate, how often, and whom it protects.
    """

    kind: str
    run: str
    plan: str
    round: int
    key: str
    delta: float
    mechanism: Mechanism

    def __post_init__(self) -> None:
        require(WORD.fullmatch(self.kind) is not None, f"kind {self.kind!r}", "kind", "Give a word.")
        for name in ("run", "plan", "key"):
            value = getattr(self, name)
            require(NAME.fullmatch(value) is not None, f"{name} {value!r}", name, "Give letters and digits.")
        require(self.round >= 0, f"round {self.round}", "round", "Give 0 or more.")
        require(0 < self.delta < 1, f"delta {self.delta:g}", "delta", "Give 1e-5 or so.")


class Head(NamedTuple):
    """Where a ledger stands: which it is, how many events it holds, and the hash of the newest.

    The hash depends on every event before it, so a ledger that once stood there holds all of them.
    """

    identity: str
    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.identity}:{self.number}:{self.hash}"

    @classmethod
    def of(cls, text: str) -> Head:
        """Return the head that a message states.

        Raises
        ------
        PrivacyError : it is none.
        """
        found = re.fullmatch(r"([0-9a-f]{32}):(\d{1,15}):([0-9a-f]{64})", text)
        if found is None:
            raise PrivacyError(
                "what a message says of the site's ledger cannot be read",
                where="ledger",
                cure="Run the same version of FedFER everywhere.",
            )
        return cls(found[1], int(found[2]), found[3])


def first_hash(identity: str, site: str, created: str) -> str:
    """Return the hash that the first event is chained to: of what the head record says."""
    text = json.dumps(["fedfer ledger", VERSION, identity, site, created], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def next_hash(previous: str, number: int, time: str, event: Event) -> str:
    """Return the hash of an event: SHA-256 of the hash before it and its canonical text."""
    text = json.dumps([previous, number, time, asdict(event)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(key: bytes) -> str:
    """Return a short digest that tells keys apart and does not give them away."""
    return hashlib.sha256(b"fedfer ledger|" + key).hexdigest()[:16]
