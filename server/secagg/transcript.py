"""What an auditor needs to replay a session: every message that counted, as it travelled, in a folder of its own.

::

    plan.json, roster.json       what the run is, and everybody's public keys
    offer.bin                    what the session is about
    advert-3.bin, shares-3.bin   site 3's public keys; its sealed shares and the commitments to them
    masked-3.bin                 its masked vector, or complaint-3.bin
    consent-3.bin                its signature over the question, who shared and who survived
    reveal-3.bin                 the shares that it revealed
    sum.bin                      the sum of the survivors' vectors
    before.safetensors           the server's weights and the state of its optimizer before the round's step
    step.json                    the round, the digest of that file, and those of the weights after the step

Whoever reads it learns what the coordinator did and no more: sums, not vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import torch
from safetensors.torch import save

from client.identity import Roster
from client.plan import Plan
from client.secagg.wire import Offer
from fer_models.errors import RunFolderError
from server.optimizers import ServerOptimizer
from server.run_folder import write_bytes, write_text

TRANSCRIPTS = "transcripts"
"""Folder of a run's transcripts, one folder a session."""

PLAN, ROSTER, SUM = "plan.json", "roster.json", "sum.bin"
BEFORE, STEP = "before.safetensors", "step.json"


def weights_digest(vector: torch.Tensor) -> str:
    """Return the SHA-256, in hexadecimal, of weights as little-endian float32."""
    return hashlib.sha256(vector.detach().cpu().numpy().astype("<f4").tobytes()).hexdigest()


class Transcripts:
    """The transcripts of a run, one folder a session.

    Parameters
    ----------
    folder : where they go.
    plan, roster : of the run.
    """

    def __init__(self, folder: Path, plan: Plan, roster: Roster) -> None:
        self._folder, self._plan, self._roster = folder, plan, roster
        self._training: dict[int, Path] = {}

    @property
    def last(self) -> int:
        """Number of the last session that is kept, -1 for none: a run that is resumed goes on behind it."""
        kept = self._folder.iterdir() if self._folder.is_dir() else ()
        return max((int(path.name) for path in kept if path.name.isdecimal()), default=-1)

    def record(self, offer: Offer, masked: Collection[int] | None = None) -> Callable[[str, bytes], None]:
        """Return what keeps each message of a session, given its name.

        Parameters
        ----------
        masked : of a session that is taken up, the sites whose vectors or complaints are in it. What an earlier process
            had noted of others, just before it died, is removed, for it counts in no sum.

        Raises
        ------
        RunFolderError : the folder cannot be written.
        """
        folder = self._folder / f"{offer.session:06}"
        if masked is not None:
            for name in ("masked", "complaint"):
                for site in set(offer.invited) - set(masked):
                    _remove(folder / f"{name}-{site}.bin")
        write_text(folder / PLAN, self._plan.text)
        write_text(folder / ROSTER, self._roster.to_json())
        if offer.purpose == "train":
            # The session of a round begins before the step of the round before.
            self._training = {n: f for n, f in self._training.items() if n == offer.round_number - 1}
            self._training[offer.round_number] = folder

        def keep(name: str, data: bytes) -> None:
            write_bytes(folder / f"{name}.bin", data)

        return keep

    @contextlib.contextmanager
    def step(self, round_number: int, optimizer: ServerOptimizer) -> Iterator[None]:
        """Keep what the optimizer is before the block, which makes the round's step, and what weights it made."""
        folder = self._training[round_number]
        self._training = {number: path for number, path in self._training.items() if number > round_number}
        state = save({k: v.contiguous() for k, v in optimizer.state().items()})
        write_bytes(folder / BEFORE, state)
        yield
        facts = {
            "round": round_number,
            "parameters": optimizer.parameters,
            "before": hashlib.sha256(state).hexdigest(),
            "vector": weights_digest(optimizer.vector),
            "average": weights_digest(optimizer.average),
        }
        write_text(folder / STEP, json.dumps(facts, indent=1))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        what, cure = f"cannot remove: {error.strerror}", "Give the run folder back to whoever runs this."
        raise RunFolderError(what, where=str(path), cure=cure) from error
