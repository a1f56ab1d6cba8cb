"""How fast this machine trains and masks: a look of about a second, where ``fedfer bench`` measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from client.secagg.masks import add_masks
from fer_models.memory import keep_freed_memory
from simulations.bench.private_step import BATCH, Case, own_plain, private
from simulations.doctor.finding import Finding
from simulations.threads import one_thread

AREA = "speed"
CASE = Case("fer_nano")
REPEATS = 3
PARAMETERS = 1_000_000
"""Of the vector that is masked."""

SLOW_STEP = 3.0
"""A private step takes about 1.3 plain ones, see docs/benchmarks.md; above this something is wrong."""

SLOW_MASK = 0.01
"""Seconds a million parameters and peer; 0.001 with AES in hardware, see docs/secure-aggregation.md."""


def look() -> Iterator[Finding]:
    """Measure a training step without and with privacy, and one mask."""
    keep_freed_memory()
    with one_thread():
        plain, noisy = (best(way(CASE)) for way in (own_plain, private))
    yield of_step(plain, noisy)
    body = bytearray(4 * PARAMETERS)
    yield of_mask(best(lambda: add_masks(body, 0, [bytes(32)], [1])))


def best(work: Callable[[], object]) -> float:
    """Return the smallest processor seconds of some repeats, the first, which warms up, left out."""
    took = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took[1:])


def of_step(plain: float, noisy: float) -> Finding:
    """Judge the seconds of a plain and of a private step."""
    told = f"a private step on {BATCH} pictures takes {1e3 * noisy:.0f} ms, {noisy / plain:.1f} plain ones ({CASE.key})"
    if noisy > SLOW_STEP * plain:
        cure = "Look again on a quiet machine, then compare with fedfer bench private-step and docs/benchmarks.md."
        return Finding(AREA, "warning", told, cure)
    return Finding(AREA, "ok", told)


def of_mask(seconds: float) -> Finding:
    """Judge the seconds of one mask."""
    told = f"a mask over a million parameters takes {1e3 * seconds:.1f} ms"
    if seconds > SLOW_MASK:
        cure = "AES runs without the processor's help: give a virtual machine its host's AES instructions."
        return Finding(AREA, "warning", told, cure)
    return Finding(AREA, "ok", told)
