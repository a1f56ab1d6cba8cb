"""One measurement in a process of its own: ``python -m simulations.bench.child WHAT [SITES]``."""

from __future__ import annotations

import json
import sys
import time

from simulations.bench.memory import peak_memory


def bare(sites: int) -> dict[str, float]:
    """Return the peak memory of two bare rounds, in KiB; imports nothing that a bare loop does not need."""
    import numpy as np
    import torch

    from fer_models.zoo import ModelSpec, build
    from simulations.bench.bare import BareLoop

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (sites * 20 + 1000, 48, 48), np.uint8)
    label = rng.integers(0, 7, len(pictures)).astype(np.int16)
    ends = sites * 20
    parts = [(pictures[i : i + 20], label[i : i + 20]) for i in range(0, ends, 20)]
    model = build(ModelSpec("cnn_tiny", classes=7, dropout=0.0), 0)
    loop = BareLoop(model, 0.02, 32, parts, (pictures[ends:], label[ends:]))
    loop.round()
    loop.round()
    return {"rss": peak_memory()}


def ours(sites: int) -> dict[str, float]:
    """Return the peak memory of two of our rounds, in KiB."""
    from simulations.bench.rounds import Case, run_case

    run_case(Case("cnn_tiny", sites, 20), 2, lambda _: None)
    return {"rss": peak_memory()}


def startup() -> dict[str, float]:
    """Return the seconds of the first round of one small site, imports done."""
    from simulations.bench.rounds import Case, run_case

    began = time.perf_counter()
    run_case(Case("cnn_tiny", 1, 20), 1, lambda _: None)
    return {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    what, rest = sys.argv[1], [int(word) for word in sys.argv[2:]]
    found = {"bare": bare, "ours": ours, "startup": startup}[what](*rest)
    sys.stdout.write(json.dumps(found) + "\n")
