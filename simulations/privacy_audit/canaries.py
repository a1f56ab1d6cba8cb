"""Canaries: pictures that the audit puts among a site's own, each by the toss of a coin."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.randomness import KeyedStream, SeededEntropy
from client.strict import require
from fer_models.labels import UNDISCLOSED
from fer_models.samples import Samples
from simulations.faces import FacesConfig, draw
from simulations.partition import Partition

GRAY = 128
"""Brightness of an empty canary."""

SOURCE = "~canary"
"""What the source and subject columns of a canary begin with; it comes after other names in their order."""


@dataclass(frozen=True)
class Canaries:
    """m made-up pictures with made-up labels, and which of them are in.

    Attributes
    ----------
    pictures : uint8 (m, H, W) or (m, H, W, 3).
    label : int16 (m,), uniform over the classes.
    site : int32 (m,), where a canary trains if it is in; the sites have nearly as many each.
    included : bool (m,), a fair coin each, drawn apart from the sites' randomness.
    """

    pictures: NDArray[np.uint8]
    label: NDArray[np.int16]
    site: NDArray[np.int32]
    included: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pictures)

    def targets(self, classes: int) -> NDArray[np.float32]:
        """Return one-hot labels (m, classes)."""
        return np.eye(classes, dtype=np.float32)[self.label]


def make_canaries(kind: str, count: int, samples: Samples, sites: int, seed: int) -> Canaries:
    """Return canaries that fit a table, all from the seed.

    Parameters
    ----------
    kind : "patches", a small patch of noise on a gray picture: hardly two canaries have a gradient in common, so
        that each can be told from the others; or "faces", drawn faces of nobody with labels at random, as they could
        slip into anybody's data.

    Raises
    ------
    ConfigError : an unknown kind, or too few.
    """
    require(count >= 2, f"{count} canaries", "privacy_audit.canaries", "Give 2 or more, such as 1000.")
    require(
        kind in ("patches", "faces"),
        f"unknown canaries {kind!r}",
        "privacy_audit.pictures",
        "Use patches or faces.",
    )
    entropy = SeededEntropy(seed, "privacy audit")
    chance = np.random.default_rng(list(entropy.key(0, "canaries")))
    make = _patches if kind == "patches" else _faces
    return Canaries(
        pictures=make(count, samples, chance),
        label=chance.integers(0, len(samples.labels), count).astype(np.int16),
        site=chance.permutation(np.arange(count) % sites).astype(np.int32),
        included=KeyedStream(entropy.key(0, "coins")).uniform(count) < 0.5,
    )


def _patches(count: int, samples: Samples, chance: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a square of noise, an eighth of the picture wide, anywhere on gray."""
    size = samples.size
    side = max(4, size // 8)
    shape = (count, *samples.pictures.shape[1:])
    found = np.full(shape, GRAY, np.uint8)
    noise = chance.integers(0, 256, (count, side, side, *shape[3:]), np.uint8)
    for index, (top, left) in enumerate(chance.integers(0, size - side + 1, (count, 2))):
        found[index, top : top + side, left : left + side] = noise[index]
    return found


def _faces(count: int, samples: Samples, chance: np.random.Generator) -> NDArray[np.uint8]:
    config = FacesConfig(count=count, pictures_per_person=1, size=samples.size, channels=samples.channels)
    return draw(config, int(chance.integers(1 << 31))).pictures


def extremes(samples: Samples) -> tuple[list[str], NDArray[np.uint8]]:
    """Return names of pictures unlike any face, and the pictures uint8 (k, H, W) or (k, H, W, 3) that fit a table."""
    size = samples.size
    down, across = np.indices((size, size))
    point = (down == size // 2) & (across == size // 2)
    drawn = {
        "a blank picture": np.zeros((size, size), bool),
        "a white point on black": point,
        "a black point on white": ~point,
        "one black half": across < size // 2,
        "stripes": down // 4 % 2 == 1,
        "a fine chessboard": (down + across) % 2 == 1,
    }
    found = np.stack([each * np.uint8(255) for each in drawn.values()])
    if samples.pictures.ndim == 4:
        found = np.repeat(found[..., None], samples.pictures.shape[3], 3)
    return list(drawn), found


def insert(samples: Samples, division: Partition, canaries: Canaries) -> tuple[Samples, Partition]:
    """Return the table with the canaries that are in as further training rows, and who holds what.

    Of a canary that is out nothing is in the table, so training cannot know it.
    """
    chosen = np.flatnonzero(canaries.included)
    names = np.array([f"{SOURCE}:{index}" for index in chosen], dtype=np.str_)

    def longer(column: NDArray[np.str_], value: str) -> NDArray[np.str_]:
        return np.concatenate([column, np.full(len(chosen), value)])

    votes = samples.votes
    if votes is not None:
        votes = np.concatenate([votes, canaries.targets(len(samples.labels))[chosen]])
    known = samples.known
    if known is not None:
        known = np.concatenate([known, np.ones((len(chosen), known.shape[1]), bool)])
    table = replace(
        samples,
        pictures=np.concatenate([samples.pictures, canaries.pictures[chosen]]),
        label=np.concatenate([samples.label, canaries.label[chosen]]),
        source=np.concatenate([samples.source, names]),
        split=longer(samples.split, "train"),
        votes=votes,
        known=known,
        subject=None if samples.subject is None else np.concatenate([samples.subject, names]),
        groups={name: longer(column, UNDISCLOSED) for name, column in samples.groups.items()},
    )
    return table, Partition(np.concatenate([division.site, canaries.site[chosen]]), division.sites)
