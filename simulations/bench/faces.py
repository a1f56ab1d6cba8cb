"""How fast faces are drawn."""

from __future__ import annotations

import time

from simulations.bench.run import Figures, Options
from simulations.faces import FacesConfig, draw

REPEATS = 3
"""Repeats; the best one counts, since other work on the machine can only slow a repeat down."""

FACES = 2048
"""Faces drawn a repeat."""


def bench(options: Options) -> Figures:  # noqa: ARG001 - every benchmark takes the options
    """Return the figures of ``fedfer bench faces``."""
    return run()


def run() -> dict[str, float]:
    """Draw gray faces of 48 px and return ``faces_per_core_second``.

    Seconds are CPU seconds of the whole process, so threads of a numerical library would count too.
    """
    config = FacesConfig(count=FACES, size=48, channels=1)
    draw(FacesConfig(count=1), seed=0)
    seconds = min(_seconds(config, seed) for seed in range(REPEATS))
    return {"faces_per_core_second": FACES / seconds}


def _seconds(config: FacesConfig, seed: int) -> float:
    start = time.process_time()
    draw(config, seed)
    return time.process_time() - start
