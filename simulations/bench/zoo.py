"""Every net of the zoo for the same processor minutes, on pictures of FER2013 that none of them saw.

FER2013's training part alone, with a fifth of its people's pictures held out without copies on both sides. Each net is
trained twice, on FER+'s votes and on the original labels, by one recipe: AdamW under a one-cycle schedule, pictures
varied, a moving average of the weights. The schedule follows the processor seconds that are spent, so that a slow net
goes through the whole of it on fewer pictures. There is no choice among epochs: the last weights count.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.evaluation import evaluate
from client.strict import nearest
from fer_models.errors import ConfigError, DataError
from fer_models.flat import FlatModel
from fer_models.losses import soft_cross_entropy
from fer_models.memory import keep_freed_memory
from fer_models.metrics import summarise
from fer_models.readers import read
from fer_models.samples import Samples
from fer_models.splits import hold_out
from fer_models.transforms import Augmentation, augment, to_input
from fer_models.zoo import NETS, ModelSpec, build, parameter_count
from server.run_folder import write_text
from simulations.bench.fer2013 import data_of
from simulations.bench.run import Figures, Options

RULES = {"votes": "majority", "original": "original"}
"""Name of the targets -> rule of the reader."""

FIGURES = ("accuracy", "balanced_accuracy", "worst_recall")

PEAK, DECAY, CLIP, AVERAGE, BATCH, RISE = 5e-3, 0.05, 5.0, 0.998, 64, 0.2
"""Largest learning rate, weight decay, longest gradient, decay of the average, pictures a step, share of the way up."""


@dataclass(frozen=True)
class Asked:
    """What is trained: nets, kinds of targets, and processor minutes for each."""

    nets: tuple[str, ...]
    targets: tuple[str, ...]
    minutes: float


def bench(options: Options) -> Figures:
    """Train and judge; with ``--run-dir`` what is done is kept there, and the same command goes on from it.

    Raises
    ------
    ConfigError : no folder of FER2013, or words that are none of ``minutes``, ``nets`` and ``targets``.
    """
    wanted, root = asked(options.overrides), data_of(options)
    keep_freed_memory()
    figures: Figures = {"minutes": wanted.minutes}
    for kind in wanted.targets:
        samples: Samples | None = None
        for name in wanted.nets:
            file = (
                None
                if options.run_dir is None
                else options.run_dir / f"{name}-{kind}-{wanted.minutes:g}.json"
            )
            if file is not None and file.is_file():
                record = json.loads(file.read_text())
            else:
                samples = samples if samples is not None else _samples(root, kind)
                record = trained(name, samples, 60 * wanted.minutes)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_text(file, json.dumps(record, indent=1) + "\n")
            figures |= {f"{name}_{kind}_{key}": value for key, value in record.items()}
    return figures


def asked(words: list[str]) -> Asked:
    """Read ``minutes=2``, ``nets=fer_nano,vgg48`` and ``targets=votes``; all nets and both kinds where none are named.

    Raises
    ------
    ConfigError : another word, an unknown net or kind, or minutes that are none.
    """
    found = {"minutes": "10", "nets": ",".join(NETS), "targets": ",".join(RULES)}
    for word in words:
        key, _, value = word.partition("=")
        if key not in found:
            raise ConfigError(f"unknown word {word!r}", where="bench zoo", cure=nearest(key, list(found)))
        found[key] = value
    lists = {"nets": NETS, "targets": RULES}
    chosen = {key: tuple(found[key].split(",")) for key in lists}
    for key, known in lists.items():
        for each in chosen[key]:
            if each not in known:
                raise ConfigError(f"unknown {each!r}", where=key, cure=nearest(each, list(known)))
    try:
        minutes = float(found["minutes"])
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise ConfigError(f"{found['minutes']} minutes", where="minutes", cure="Write minutes=10.")
    return Asked(chosen["nets"], chosen["targets"], minutes)


def _samples(root: Path, kind: str) -> Samples:
    whole = read("fer2013", root, rule=RULES[kind])
    own = whole.rows("train")
    if not len(own):
        raise DataError("no row of the part Training", where=str(root), cure="Give the whole of fer2013.csv.")
    return hold_out(whole.take(own), 0.2, seed=0)


def trained(name: str, samples: Samples, seconds: float) -> dict[str, Any]:
    """Train a net for some processor seconds and return its figures on the rows that were held out."""
    classes = len(samples.labels)
    spec = ModelSpec(name, classes=classes, size=samples.size, dropout=0.0 if name == "hog_linear" else 0.2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout
        flat = FlatModel(build(spec, 0))
        seen, spent, steps = _train(flat, samples, seconds)
    counts = evaluate(flat.module, samples, samples.rows("test"), {}, device=torch.device("cpu"), prove=True)
    told = summarise(counts)
    record: dict[str, Any] = {
        "parameters": parameter_count(flat.module),
        "pictures": seen,
        "steps": steps,
        "cpu_seconds": spent,
        "test_rows": counts.rows,
    }
    for key in FIGURES:
        record[key] = told[key]
        record[f"{key}_low"], record[f"{key}_high"] = told[f"{key}_interval"]
    return record


def _train(flat: FlatModel, samples: Samples, seconds: float) -> tuple[int, float, int]:
    """Train in place, leave the averaged weights; return pictures seen, processor seconds and steps."""
    rows, average = samples.rows("train"), flat.full_vector.clone()
    targets = torch.from_numpy(samples.targets(rows))
    optimizer = torch.optim.AdamW([flat.vector], PEAK, weight_decay=DECAY)
    drawing, order = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    start, spent, steps, queue = time.process_time(), 0.0, 0, np.zeros(0, np.int64)
    while spent < seconds:
        if len(queue) < BATCH:
            queue = np.concatenate([queue, torch.randperm(len(rows), generator=order).numpy()])
        chosen, queue = queue[:BATCH], queue[BATCH:]
        optimizer.param_groups[0]["lr"] = one_cycle(spent / seconds)
        _step(flat, optimizer, _varied(samples, rows[chosen], drawing), targets[torch.from_numpy(chosen)])
        steps += 1
        average.lerp_(flat.full_vector, 1 - min(AVERAGE, (1 + steps) / (10 + steps)))
        spent = time.process_time() - start
    flat.load_(average)
    return steps * BATCH, spent, steps


def _varied(samples: Samples, rows: NDArray[np.intp], drawing: torch.Generator) -> torch.Tensor:
    return augment(to_input(samples.pictures[rows]), drawing, Augmentation())


def _step(flat: FlatModel, optimizer: torch.optim.Optimizer, x: torch.Tensor, targets: torch.Tensor) -> None:
    flat.zero_grad()
    soft_cross_entropy(flat(x), targets).mean().backward()
    with torch.no_grad():
        norm = torch.linalg.vector_norm(flat.gradient)
        flat.gradient.mul_((CLIP / (norm + 1e-6)).clamp(max=1.0))
        optimizer.step()


def one_cycle(share: float) -> float:
    """Return the learning rate when this share of the time is spent: up by a cosine, down by one (Smith 2018)."""
    low = PEAK / 25
    if share < RISE:
        return low + (PEAK - low) * (1 - math.cos(math.pi * share / RISE)) / 2
    return PEAK * (1 + math.cos(math.pi * (share - RISE) / (1 - RISE))) / 2
