"""SCAFFOLD: steps corrected by control variates (Karimireddy et al. 2020, ICML, algorithm 1, option II).

Sites whose pictures differ pull their weights apart in local steps. Each keeps a control variate c_i, the mean gradient
of its last local work, and the coordinator tells everybody their mean c. A step then goes along

    g(y) - c_i + c

and after K steps of rate eta from x to y the site's new control variate is c_i - c + (x - y) / (K eta). It sends the
update y - x, and behind it the change of its control variate: two segments of one vector, of which secure
aggregation tells the sum alone.

The coordinator's c is right as long as it has counted each change that a site has made, and no other: what is off once
stays off, for the new c_i does not follow from c. So a site keeps two control variates, before its last answer and
after it, and with every question is told after which round its answer was last counted. It goes on from that one.
An answer that was lost on the way, or that a kill at either end took, is then as if it had never been given. A site
that has neither, because its folder was put back from an old copy, refuses.

With one step a round the corrections cancel over the sites, and a round is a step along the mean gradient, as without.
Privacy is refused: that what is sent is private follows for updates alone from a clip of single pictures, and nobody
has shown here that it holds for what a site keeps and sends in later rounds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.strict import require
from fer_models.errors import PrivacyError, RunFolderError

if TYPE_CHECKING:
    from client.plan import Plan

PAIR = 2
"""Control variates that a site keeps of a plan: before and after its last answer."""

PLANS = 8
"""Plans whose control variates a site keeps; those of the oldest make way."""

Variate = NDArray[np.float32]
"""(T,)."""


def require_scaffold(plan: Plan) -> None:
    """Refuse a plan for which the sum of control variates would not be what the method needs.

    Raises
    ------
    PrivacyError : it is private.
    ConfigError : something in it moves weights or weighs sites otherwise.
    """
    work, server = plan.local, plan.server
    if plan.privacy is not None:
        raise PrivacyError(
            "control variates of single pictures' gradients would leave the site, and no proof here bounds them",
            where="local.scaffold",
            cure="Use local.scaffold=false, or privacy=none.",
        )
    for key, plain in (("optimizer", "sgd"), ("momentum", 0.0), ("proximal", 0.0)):
        require(
            getattr(work, key) == plain,
            f"with local.{key}={getattr(work, key)} the way of a site is not the sum of its gradients",
            "local.scaffold",
            f"Use local.{key}={plain}, or local.scaffold=false.",
        )
    require(
        server.rule == "mean" and server.by_site is None,
        "the coordinator's control variate is the mean of the sites', and this rule makes another one",
        "local.scaffold",
        "Use server.rule=mean and no rule by site, or local.scaffold=false.",
    )
    require(
        server.weighting == "uniform" or server.participation >= 1,
        "a mean by size over all sites needs the sizes of those that a round leaves out",
        "local.scaffold",
        "Use server.weighting=uniform, or server.participation=1.",
    )
    require(
        plan.fairness is None,
        "fair training weighs pictures otherwise in every round, so a gradient of the last one says little",
        "local.scaffold",
        "Use fairness=none, or local.scaffold=false.",
    )


def largest_change(plan: Plan) -> float:
    """Return the largest number by which a control variate changes in a round; what lies beyond is cut.

    A mean of gradients of norm G changes by 2 G at most; without a clip of gradients it is bounded as updates are.
    """
    assert plan.secure is not None
    clip = plan.local.gradient_clip
    return 2 * clip if clip > 0 else plan.secure.clip


@dataclass(frozen=True)
class Correction:
    """What a site is told of control variates in a round.

    Attributes
    ----------
    common : float32 (T,), c: the mean over sites.
    counted : the last round in which the site's answer was counted, 0 for none.
    """

    common: Variate
    counted: int


class Variates:
    """A site's own control variates, by plan; a plan's digest holds the name of its run.

    Parameters
    ----------
    folder : where they are kept, made when there are any; None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._held: dict[str, dict[int, Variate]] = {}

    def of(self, plan: Plan, told: Correction | None, site: str) -> Variate:
        """Return the control variate (T,) that the site had after the round that was last counted.

        ``told`` is None without SCAFFOLD, where a site has none.

        Raises
        ------
        RunFolderError : it is not there, or its file is damaged.
        """
        if told is None:
            return np.zeros(0, np.float32)
        if told.counted == 0:
            return np.zeros_like(told.common)
        held = self._read(plan)
        if told.counted not in held or len(held[told.counted]) != len(told.common):
            raise RunFolderError(
                f"the control variate after round {told.counted} is not there: restored from a copy?",
                where=site,
                cure="Begin a new run; without it the mean over the sites would stay wrong.",
            )
        return held[told.counted]

    def answer(
        self, plan: Plan, round_number: int, told: Correction | None, own: Variate, delta: Variate, steps: int
    ) -> Variate:
        """Return what a site sends: its update and the change of its control variate, (T + T,); the new one is kept.

        Parameters
        ----------
        own : what :meth:`of` returned.
        delta : y - x (T,) after ``steps`` steps; it is returned as it is where ``told`` is None.
        """
        if told is None:
            return delta
        change = (-delta / (steps * plan.local.learning_rate) - told.common).astype(np.float32)
        if plan.secure is not None:
            np.clip(change, -largest_change(plan), largest_change(plan), out=change)
        self._keep(plan, {told.counted: own, round_number: np.add(own, change, dtype=np.float32)})
        return np.concatenate([delta, change])

    def _path(self, plan: Plan) -> Path:
        assert self._folder is not None
        return self._folder / f"{plan.digest}.variates"

    def _read(self, plan: Plan) -> dict[int, Variate]:
        if self._folder is None:
            return self._held.get(plan.digest, {})
        path = self._path(plan)
        if not path.exists():
            return {}
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            facts = json.loads(head)
            if facts["sha256"] != hashlib.sha256(body).hexdigest():
                raise ValueError("another body")
            halves = np.split(np.frombuffer(body, np.float32), PAIR)
            return dict(zip(map(int, facts["rounds"]), halves, strict=True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                "the control variates are damaged", where=str(path), cure="Begin a new run."
            ) from error

    def _keep(self, plan: Plan, held: dict[int, Variate]) -> None:
        """Write them so that they are there whole, or as before; a full disk is a RunFolderError."""
        if self._folder is None:
            self._held[plan.digest] = held
            return
        from client.keys import make_folder, write_own  # which needs what plans alone do not

        make_folder(self._folder)
        body = b"".join(values.astype(np.float32).tobytes() for values in held.values())
        facts = {"rounds": list(held), "sha256": hashlib.sha256(body).hexdigest()}
        write_own(self._path(plan), json.dumps(facts).encode() + b"\n" + body)
        kept = sorted(self._folder.glob("*.variates"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-PLANS]:
            old.unlink(missing_ok=True)
