"""Samples of drawn faces, with or without the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_models.samples import Samples, picture_store
from simulations.faces.config import FacesConfig, by_group, shares
from simulations.faces.people import BLOCK, People, normal, people
from simulations.faces.rendering import render
from simulations.faces.shots import COLUMNS, shots
from simulations.faces.units import DRAWS, contractions, expression_table, intensities

CHUNK_PIXELS = 24 * 48 * 48
"""Pixels that are drawn at once; small enough for a core's cache."""


@dataclass(frozen=True)
class Truth:
    """What was drawn, whatever the label says.

    Attributes
    ----------
    label : int16 (N,), the expression that was drawn, an index into the labels of the samples.
    intensity : float32 (N,), 0 to 1; 0 for neutral.
    units : float32 (N, len(UNITS)), contraction of every unit of :data:`simulations.faces.units.UNITS`.
    """

    label: NDArray[np.int16]
    intensity: NDArray[np.float32]
    units: NDArray[np.float32]


def draw(config: FacesConfig, seed: int) -> Samples:
    """Draw the samples of a configuration; see :func:`draw_with_truth`."""
    return draw_with_truth(config, seed)[0]


def draw_with_truth(config: FacesConfig, seed: int) -> tuple[Samples, Truth]:
    """Draw samples and the truth behind them.

    The same configuration and seed give the same bits on one machine, and a larger ``count`` begins with
    the same pictures. All rows are in the split ``train``; ``subject`` names the person.
    """
    count = config.count
    whole = -(-count // BLOCK) * BLOCK
    owner = np.arange(whole) // config.pictures_per_person
    who = people(config, seed, int(owner[-1]) + 1)
    groups = {name: column[owner] for name, column in who.groups.items()}
    mean = by_group(config.intensity, config.intensity_by, groups, whole)
    wrong = by_group(config.label_noise, config.label_noise_by, groups, whole)
    store = picture_store(count, config.size, config.channels)
    facts = [
        _block(config, (seed, 2, start // BLOCK), who.take(owner[rows]), mean[rows], wrong[rows], store[rows])
        for start in range(0, whole, BLOCK)
        for rows in [slice(start, start + BLOCK)]
    ]
    label, true, strength, units = (np.concatenate(column)[:count] for column in zip(*facts, strict=True))
    samples = Samples(
        pictures=store,
        label=label,
        labels=config.labels,
        source=np.array([f"drawn:{seed}:{i}" for i in range(count)]),
        split=np.full(count, "train"),
        subject=np.array([f"person-{i}" for i in owner[:count]]),
        groups={name: column[:count] for name, column in groups.items()},
        name="faces",
    )
    return samples, Truth(true, strength, units)


def _block(
    config: FacesConfig,
    seed: tuple[int, ...],
    persons: People,
    mean: NDArray[np.float64],
    wrong: NDArray[np.float64],
    store: NDArray[np.uint8],
) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.float32], NDArray[np.float32]]:
    """Draw BLOCK pictures into ``store``, which may end earlier; return label, truth, intensity and units.

    A block is always drawn in the same chunks, so that its pictures do not depend on how many follow.
    """
    rng = np.random.default_rng(seed)
    true = _classes(shares(config.labels, config.class_shares, "class_shares"), rng)
    label = _mistaken(true, wrong, len(config.labels), rng)
    expression = expression_table(config.labels)[true]
    strength = intensities(normal(rng.random(BLOCK, np.float32)), mean, config.spread)
    strength *= expression.any(1)
    units = contractions(expression, strength, config.crosstalk, rng.random((BLOCK, DRAWS), np.float32))
    taken = shots(config, persons, rng.random((BLOCK, COLUMNS), np.float32))
    chunk = max(1, CHUNK_PIXELS // config.size**2)
    for start in range(0, len(store), chunk):
        rows = slice(start, start + chunk)
        drawn = render(persons.take(rows), taken.take(rows), units[rows], config.size, config.channels, rng)
        store[rows] = drawn[: len(store) - start]
    return label, true, strength, units


def _classes(table: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    """Return BLOCK classes with shares ``table`` as exactly as whole numbers allow, shuffled."""
    places = (np.arange(BLOCK) + rng.random()) / BLOCK
    index = np.minimum(np.searchsorted(np.cumsum(table), places, side="right"), len(table) - 1)
    return rng.permutation(index).astype(np.int16)


def _mistaken(
    true: NDArray[np.int16], wrong: NDArray[np.float64], classes: int, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Return labels that are another class with probability ``wrong``, every other class as likely."""
    other = (true + rng.integers(1, classes, len(true))) % classes
    return np.where(rng.random(len(true)) < wrong, other, true).astype(np.int16)
