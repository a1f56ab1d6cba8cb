"""Seconds and bytes of a session of secure aggregation, beside Flower's SecAgg+ functions that do the same work.

One process on one core holds the coordinator and all sites, a tenth of which drops out before its masked vector is
sent. Every call of a site or of the coordinator is timed by itself, in CPU time; messages do not travel. A site's
figure is the median over those that stay to the end, encoding included; the coordinator's is everything that it does,
decoding included. Each sum is compared with one that is worked out without masks, and ends the benchmark where a bit
differs.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from client import identity
from client.identity import Identity
from client.secagg.encoding import Layout, Segment
from client.secagg.journal import MemoryJournal
from client.secagg.masks import add_masks
from client.secagg.participant import Participant
from client.secagg.policy import Expected, Policy
from client.secagg.shamir import combine, split
from client.secagg.terms import Profile, Secure, least_threshold
from client.secagg.wire import Offer
from fer_models.errors import ConfigError
from server.secagg.session import Session
from simulations.bench import secagg_flower
from simulations.bench.run import Figures, Options
from simulations.bench.secagg_rounds import overhead

CLIP, LARGEST_WEIGHT = 1.0, 1000
DROP_OUTS = 0.1
DEGREE = 48
"""Peers of a site in the sparse graph."""

REPEATS = 7
"""Times that a part is measured; the smallest counts."""

COORDINATOR = -1
"""The coordinator's name beside the sites' numbers."""

MOST_ERROR = 1e-7
"""Largest error of a decoded mean, as a part of the clip."""

SIZES = {"300k": 300_000, "1M": 1_000_000, "5M": 5_000_000}

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A session to measure: sites, numbers of an update, peers of a site (0 for all)."""

    sites: int
    size: str
    degree: int = 0

    @property
    def key(self) -> str:
        """The session's name in figures."""
        return f"{self.sites}_{self.size}"

    def terms(self) -> Secure:
        """Return the least terms that a plan may have."""
        profile: Profile = "semi-honest" if self.degree else "malicious"
        threshold = least_threshold(self.degree + 1 if self.degree else self.sites, profile)
        least = max(3, self.sites // 2)
        return Secure(self.sites, threshold, least, CLIP, LARGEST_WEIGHT, profile=profile, degree=self.degree)


CASES = (
    *(Case(sites, size) for sites in (10, 50, 100) for size in SIZES),
    Case(1000, "1M", DEGREE),
)


class Roster(identity.Roster):
    """A roster that remembers no signature: every site checks each anew, as on a machine of its own."""

    def verify(self, site: int, signature: bytes, message: bytes) -> None:
        """Check a site's signature."""
        self._good.clear()
        super().verify(site, signature, message)


class Clock:
    """Adds up the CPU time of everybody's calls, and the bytes that sites send."""

    def __init__(self) -> None:
        self.seconds: defaultdict[int, float] = defaultdict(float)
        self.sent: defaultdict[int, int] = defaultdict(int)

    def run(self, who: int, work: Callable[..., T], *args: object) -> T:
        """Return what ``work`` returns, its time put down to ``who``."""
        start = time.process_time()
        found = work(*args)
        self.seconds[who] += time.process_time() - start
        return found

    def send(self, site: int, answer: Callable[..., bytes], take: Callable[..., None], *args: object) -> None:
        """Let a site answer and the coordinator take the answer."""
        message = self.run(site, answer, *args)
        self.sent[site] += len(message)
        self.run(COORDINATOR, take, site, message)


class Reference:
    """The sum without masks: wide whole numbers that no sum reaches, and the real mean."""

    def __init__(self, layout: Layout, size: int) -> None:
        self._layout, self._narrow = layout, np.zeros(layout.words32, np.uint64)
        self._wide, self._real, self._weight = [0] * layout.words64, np.zeros(size), 0

    def add(self, body: bytearray, update: NDArray[np.float32], weight: int) -> None:
        """Add one site's encoded vector, and what it encodes."""
        split = 8 * self._layout.words64
        wide = np.frombuffer(body[:split], "<u8").tolist()
        self._wide = [total + each for total, each in zip(self._wide, wide, strict=True)]
        self._narrow += np.frombuffer(body, "<u4", offset=split)
        self._real += np.clip(update, -CLIP, CLIP).astype(np.float64) * weight
        self._weight += weight

    def error(self, total: bytes, survivors: int) -> float:
        """Return the largest error of the decoded mean over the clip.

        Raises
        ------
        AssertionError : the sum differs in a bit.
        """
        wide = np.array([word % (1 << 64) for word in self._wide], "<u8")
        if total != wide.tobytes() + (self._narrow & 0xFFFF_FFFF).astype("<u4").tobytes():
            raise AssertionError("a sum of masked vectors that is not the sum of the vectors")
        found = self._layout.decode(total, survivors)["update"].astype(np.float64)
        error = float(np.abs(found - self._real).max()) / self._weight / CLIP
        if error > MOST_ERROR:
            raise AssertionError(f"a decoded mean that is off by {error:.1e} of the clip")
        return error


class Measured:
    """One session of a case; ``recorded``: with every vector hashed, as where a transcript is kept."""

    def __init__(self, case: Case, *, recorded: bool = False) -> None:
        self.case, self.clock, size = case, Clock(), SIZES[case.size]
        terms = case.terms()
        parts = Segment("update", "fixed", size, clip=CLIP), Segment("visits", "exact", 1, 1 << 40)
        self.layout = Layout(parts, case.sites, LARGEST_WEIGHT)
        identities = [Identity(_key("identity", site)) for site in range(case.sites)]
        roster = Roster({f"site-{site:04}": each.public for site, each in enumerate(identities)})
        run, plan, words = _key("run"), _key("plan"), (self.layout.words64, self.layout.words32)
        offer = Offer(
            1, run, "train", 1, terms.profile, plan, roster.digest, self.layout.digest, *words,
            tuple(range(case.sites)), terms.threshold, terms.minimum, terms.degree,
            _key("graph") if terms.degree else bytes(32),
        )  # fmt: skip
        expected = Expected(run, plan, self.layout.digest, "train", *words, terms)
        record = (lambda *_: None) if recorded else None
        self.session = self.clock.run(COORDINATOR, Session, offer, roster, record)
        self.sites = [self._participant(each, roster, expected) for each in identities]
        self.reference = Reference(self.layout, size)
        self._update = np.random.default_rng(0).normal(0, CLIP / 3, size).astype(np.float32)

    def _participant(self, own: Identity, roster: Roster, expected: Expected) -> Participant:
        site = roster.site_of(own)
        policy = Policy(profile=expected.terms.profile, simulated=True)
        return Participant(
            own, roster, expected, policy, MemoryJournal(), lambda purpose: _key("secret", site, purpose)
        )

    def figures(self) -> Figures:
        """Run the session, and return its figures."""
        clock, session, sites = self.clock, self.session, self.sites
        everybody, key = range(self.case.sites), self.case.key
        staying = [site for site in everybody if (site * 7 + 3) % 10 >= 10 * DROP_OUTS]
        offer = session.offer()
        for site in everybody:
            clock.send(site, sites[site].advertise, session.take_advert, offer)
        roll = clock.run(COORDINATOR, session.roll)
        for site in everybody:
            clock.send(site, sites[site].share, session.take_shares, roll)
        session.ask(_key("question"))
        for site in staying:
            self._mask(site)
        survivors = clock.run(COORDINATOR, session.survivors)
        for site in staying:
            clock.send(site, sites[site].consent, session.take_consent, survivors)
        for site in staying:
            consents = clock.run(COORDINATOR, session.consents, site)
            clock.send(site, sites[site].reveal, session.take_reveal, consents)
        done = clock.run(COORDINATOR, session.finish)
        clock.run(COORDINATOR, self.layout.decode, done.total, len(staying))
        return {
            f"site_s_{key}": statistics.median(clock.seconds[site] for site in staying),
            f"server_s_{key}": clock.seconds[COORDINATOR],
            f"bytes_per_parameter_{key}": max(clock.sent.values()) / SIZES[self.case.size],
            f"error_{key}": self.reference.error(done.total, len(staying)),
        }

    def _mask(self, site: int) -> None:
        """Let a site open its inbox, encode and mask; its vector lives no longer than this."""
        clock, participant, weight = self.clock, self.sites[site], LARGEST_WEIGHT // 2 + site % 500
        update, visits = np.roll(self._update, 997 * site), np.array([weight])
        inbox = clock.run(COORDINATOR, self.session.inbox, site)
        clock.run(site, participant.open, inbox)
        values = {"update": update, "visits": visits}
        body = clock.run(site, self.layout.encode, values, weight, _key("dither", site))
        self.reference.add(body, update, weight)
        clock.send(site, participant.mask, self.session.take_masked, inbox, _key("question"), body)


def parts() -> Figures:
    """Return milliseconds of one mask of a million numbers, and of sharing among 50 sites and putting together."""
    body, keys = bytearray(4 * SIZES["1M"]), [_key("mask", each) for each in range(10)]
    secrets = [_key("secret", site) for site in range(50)]
    shares = split(secrets, 50, 34, _key("polynomials"))
    work: dict[str, Callable[[], object]] = {
        "mask_ms_1M": lambda: add_masks(body, 0, keys, [1] * len(keys)),
        "split_ms_50": lambda: split(secrets[:2], 50, 34, _key("polynomials")),
        "combine_ms_50": lambda: combine(range(1, 35), shares[:34]),
    }
    return {
        name: 1e3
        * min(_seconds(each) for _ in range(REPEATS))
        / (len(keys) if name.startswith("mask") else 1)
        for name, each in work.items()
    }


def bench(options: Options) -> Figures:
    """Measure the sessions that are chosen.

    Raises
    ------
    ConfigError : a setting that this benchmark does not have.
    """
    cases, flower, rounds = chosen(options)
    figures = parts()
    for case in cases:
        figures |= Measured(case).figures()
        if case.key == "50_1M":
            recorded = Measured(case, recorded=True).figures()
            figures["server_transcript_s_50_1M"] = recorded["server_s_50_1M"]
    if flower:
        site, server = secagg_flower.seconds(50, SIZES["1M"], DROP_OUTS)
        figures |= {"flower_site_s_50_1M": site, "flower_server_s_50_1M": server}
    if rounds:
        figures["round_overhead_ratio"] = overhead()
    return figures


def chosen(options: Options) -> tuple[list[Case], bool, bool]:
    """Return the sessions that ``sessions=50_1M,1000_1M`` names, else all; whether Flower and rounds are measured."""
    cases, beside = {case.key: case for case in CASES}, {"flower": True, "rounds": True}
    found = list(cases.values())
    for word in options.overrides:
        name, _, value = word.partition("=")
        if name == "sessions" and set(value.split(",")) <= set(cases):
            found = [cases[key] for key in value.split(",")]
        elif name in beside and value in ("true", "false"):
            beside[name] = value == "true"
        else:
            cure = f"Use sessions={','.join(cases)}, flower=true or false, rounds=true or false."
            raise ConfigError(f"unknown setting {word!r}", where="command line", cure=cure)
    return found, beside["flower"], beside["rounds"]


def _key(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
