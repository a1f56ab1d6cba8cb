"""Replay a session from its transcript, bit for bit, and name the first thing that is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load

from client.identity import Roster
from client.plan import Plan, read_plan
from client.secagg import statements
from client.secagg.encoding import CANARIES, Layout
from client.secagg.layout import layout_of, read_sum, session_layout
from client.secagg.policy import fewest
from client.secagg.refusals import refuse
from client.secagg.wire import PURPOSES, Advert, Complaint, Consent, Masked, Offer, Reveal, Shares
from fer_models.errors import FedferError, SecureAggregationError
from server.aggregation import mean_of_sum
from server.optimizers import ServerOptimizer
from server.secagg.session import added
from server.secagg.transcript import BEFORE, PLAN, ROSTER, STEP, weights_digest
from server.secagg.unmask import unmask
from server.secagg.view import View

NAMES = re.compile(
    r"(plan\.json|roster\.json|step\.json|before\.safetensors|(offer|sum)\.bin"
    r"|(advert|shares|masked|complaint|consent|reveal)-(0|[1-9]\d{0,4})\.bin)"
)
M = TypeVar("M", Advert, Shares, Complaint, Consent, Reveal)


@dataclass(frozen=True)
class Verified:
    """A session whose transcript holds.

    Attributes
    ----------
    run : the run's name.
    session, round_number, purpose : which session it was.
    survivors : names of the sites that are in the sum.
    checks : what was found to hold, a line each.
    before, after : digests of the weights before and after the server's step; None where nothing was trained.
    """

    run: str
    session: int
    round_number: int
    purpose: str
    survivors: tuple[str, ...]
    checks: tuple[str, ...]
    before: str | None = None
    after: str | None = None


def verify(folder: Path, roster: Roster | None = None) -> Verified:
    """Replay the session whose transcript is in ``folder``.

    Parameters
    ----------
    roster : the public keys that the auditor trusts; None takes those of the transcript, which then prove only that
        the transcript agrees with itself.

    Raises
    ------
    SecureAggregationError : the first thing that is wrong, with its file and a code.
    """
    return _Replay(folder, roster).run()


class _Replay:
    """One replay: the view that the coordinator had, built again from its messages."""

    def __init__(self, folder: Path, roster: Roster | None) -> None:
        self._folder, self._trusted = folder, roster
        self._checks: list[str] = []

    def run(self) -> Verified:
        self._files()
        view, plan, layout = self._opening()
        self._keys(view)
        total = self._vectors(view)
        self._unmasked(view, total)
        ends = self._stepped(plan, layout, view, total)
        names = tuple(view.roster.names[site] for site in view.survivors)
        offer = view.offer
        what = plan.run, offer.session, offer.round_number, offer.purpose
        return Verified(*what, names, tuple(self._checks), *ends)

    def _files(self) -> None:
        if not self._folder.is_dir():
            raise _wrong(self._folder.name, "there is no such folder")
        for path in sorted(self._folder.iterdir()):
            if not NAMES.fullmatch(path.name):
                raise _wrong(path.name, "a file that is no part of a transcript")

    def _opening(self) -> tuple[View, Plan, Layout]:
        """Read plan, roster and offer, and hold each against the other."""
        with _naming(PLAN):
            plan = read_plan(self._read(PLAN).decode())
        with _naming(ROSTER):
            roster = Roster.from_json(self._read(ROSTER).decode())
            if self._trusted is not None and roster.digest != self._trusted.digest:
                raise refuse("wrong_offer", "a roster that is not the one you trust")
        with _naming("offer.bin"):
            offer = Offer.parse(self._read("offer.bin"))
            run = hashlib.sha256(plan.run.encode()).digest()
            if (offer.run, offer.plan, offer.roster) != (run, bytes.fromhex(plan.digest), roster.digest):
                raise refuse("wrong_offer", "an offer of another run, plan or roster")
            layout = _layout_of(plan, offer)
        self._checks.append("offer: of this run, plan, roster and layout")
        return View(offer, roster), plan, layout

    def _keys(self, view: View) -> None:
        """Read who advertised and who shared, and check every signature."""
        for site in self._sites("advert"):
            with self._message("advert", site, view, Advert) as advert:
                if site not in view.offer.invited:
                    raise refuse("not_invited", "a site that was not invited", site)
                view.check_advert(advert)
                view.adverts[site] = advert
        view.session = statements.session_id(view.offer_hash, view.roll)
        for site in self._sites("shares"):
            with self._message("shares", site, view, Shares) as shares:
                _part_of(site, view.adverts)
                view.check_shares(shares)
                view.shares[site] = shares
        self._enough(view, len(view.shares), "shares-*.bin")
        self._checks.append(
            f"keys: {len(view.adverts)} adverts, {len(view.shares)} sets of shares, all signed"
        )

    def _vectors(self, view: View) -> bytearray:
        """Add up the masked vectors, each held against its signature and digest; return the sum, still masked."""
        total, nbytes = bytearray(view.offer.nbytes), view.offer.nbytes
        survivors = self._sites("masked")
        for site in survivors:
            name = f"masked-{site}.bin"
            with _naming(name):
                _part_of(site, view.shares)
                masked = Masked.parse(self._read(name), nbytes)
                _same(masked, site, view)
                view.question = view.question or masked.question
                view.check_masked(masked, hashed=True)
                added(total, view.offer.words64, masked.body)
        view.survivors = survivors
        self._enough(view, len(survivors), "masked-*.bin")
        complaints = self._sites("complaint")
        for site in complaints:
            with self._message("complaint", site, view, Complaint) as complaint:
                _part_of(site, view.shares)
                if site in survivors:
                    raise refuse("replayed", "a complaint of a site whose vector is in the sum", site)
                view.check_complaint(complaint)
        self._checks.append(f"vectors: {len(survivors)} signed and hashed, {len(complaints)} complaints")
        return total

    def _unmasked(self, view: View, total: bytearray) -> None:
        """Check consents and reveals, take off the masks, and compare the sum."""
        for site in self._sites("consent"):
            with self._message("consent", site, view, Consent) as consent:
                _part_of(site, view.survivors)
                view.check_consent(consent)
        agreed = len(self._sites("consent"))
        if agreed < view.offer.threshold:
            raise _wrong(
                "consent-*.bin", f"{agreed} consents where {view.offer.threshold} are needed", "too_few"
            )
        reveals: dict[int, Reveal] = {}
        for site in self._sites("reveal"):
            with self._message("reveal", site, view, Reveal) as reveal:
                _part_of(site, view.survivors)
                view.check_reveal(reveal)
                reveals[site] = reveal
        with _naming("reveal-*.bin"):
            unmask(view, total, reveals)
        with _naming("sum.bin"):
            if self._read("sum.bin") != total:
                raise refuse("bad_sum", "a sum that is not what the vectors add up to")
        self._checks.append(f"survivors: {agreed} consents to the same question and sites")
        self._checks.append(
            f"shares: {len(reveals)} sites revealed what was committed to, every secret is its owner's"
        )
        self._checks.append("sum: the same, bit for bit")

    def _stepped(
        self, plan: Plan, layout: Layout, view: View, total: bytearray
    ) -> tuple[str, str] | tuple[None, None]:
        """Read the sum, and where it trained make the server's step and compare the weights.

        Returns the digests of the weights before and after it.
        """
        with _naming("sum.bin"):
            found = read_sum(plan, layout, total, len(view.survivors))
        self._checks.append("count and canaries: no mask is left in the sum")
        if found.update is None:
            return None, None
        with _naming(STEP):
            facts = json.loads(self._read(STEP))
            told = facts["round"], facts["parameters"], facts["vector"], facts["average"]
            if told[0] != view.offer.round_number:
                raise refuse("wrong_offer", f"a step of round {told[0]} after a sum of another round")
        with _naming(BEFORE):
            before = self._read(BEFORE)
            if hashlib.sha256(before).hexdigest() != facts["before"]:
                raise refuse("bad_sum", "weights that are not those from which the step was made")
            state = load(before)
            start = weights_digest(state["vector"])
            optimizer = ServerOptimizer(plan.server, state["vector"], told[1])
            optimizer.restore(state)
            optimizer.step(mean_of_sum(plan, found)[: len(state["vector"])], told[0])
        with _naming(STEP):
            for name, weights, digest in zip(
                ("weights", "averaged weights"), (optimizer.vector, optimizer.average), told[2:], strict=True
            ):
                if weights_digest(weights) != digest:
                    raise refuse("bad_sum", f"{name} that the sum does not lead to")
        self._checks.append("next model: the weights that the sum leads to")
        return start, told[2]

    # Files

    def _read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def _sites(self, kind: str) -> tuple[int, ...]:
        """Return the sites of which there is a message of a kind, in increasing order."""
        return tuple(sorted(int(p.stem.partition("-")[2]) for p in self._folder.glob(f"{kind}-*.bin")))

    @contextlib.contextmanager
    def _message(self, kind: str, site: int, view: View, parser: type[M]) -> Iterator[M]:
        """Read a site's message; what is wrong with it in the block is said of its file."""
        name = f"{kind}-{site}.bin"
        with _naming(name):
            message = parser.parse(self._read(name))
            _same(message, site, view)
            yield message

    def _enough(self, view: View, count: int, name: str) -> None:
        if count < fewest(view.offer):
            raise _wrong(name, f"{count} sites where {fewest(view.offer)} are needed", "too_few")


def _named(plan: Plan, offer: Offer, numbers: int, *, evaluates: bool) -> Layout:
    if offer.purpose == "moments":
        return session_layout(plan, offer.purpose, offer.round_number, numbers)
    return layout_of(plan, offer.purpose, numbers, evaluates=evaluates)  # type: ignore[arg-type]


def _layout_of(plan: Plan, offer: Offer) -> Layout:
    """Return the layout that an offer means: the plan's for its purpose, with or without an evaluation."""
    if plan.secure is None or offer.purpose not in PURPOSES:
        raise refuse("wrong_offer", "an offer for a plan without secure aggregation")
    for evaluates in (False, True):
        numbers = max(0, offer.words32 - CANARIES * (1 + plan.local.scaffold))
        layout = _named(plan, offer, numbers, evaluates=evaluates)
        if (layout.digest, layout.words64, layout.words32) == (offer.layout, offer.words64, offer.words32):
            return layout
    raise refuse("wrong_offer", "an offer whose layout is not the plan's")


def _part_of(site: int, known: object) -> None:
    if site not in known:  # type: ignore[operator]
        raise refuse("unknown_site", "a message of a site that had no part in this exchange", site)


def _same(message: Advert | Shares | Masked | Complaint | Consent | Reveal, site: int, view: View) -> None:
    if (message.site, message.session) != (site, view.offer.session):
        raise refuse("wrong_session", "a message of another site or session", site)


def _wrong(name: str, what: str, code: str = "malformed") -> SecureAggregationError:
    return SecureAggregationError(
        what, code=code, where=f"{name}, {code}", cure="Do not rely on this round's model."
    )


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say of everything that is wrong in the block in which file it is."""
    try:
        yield
    except SecureAggregationError as error:
        wrong = _wrong(name, error.what, error.code)
        wrong.culprit = error.culprit
        raise wrong from error
    except FedferError as error:
        raise _wrong(name, error.what) from error
    except FileNotFoundError as error:
        raise _wrong(name, "a file that is missing") from error
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RuntimeError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise _wrong(name, f"a file that cannot be read: {type(error).__name__}") from error
