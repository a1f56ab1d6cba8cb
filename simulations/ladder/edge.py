"""The last rung: the net of a finished run in eight bits, judged on the same test pictures by the same code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from client.evaluation import count
from fer_models.checkpoints import WEIGHTS, load_model
from fer_models.edge.folding import folded
from fer_models.edge.graphs import exported, quantised, require_same_answers
from fer_models.edge.runtime import GraphNet, session
from fer_models.transforms import to_input
from server.figures import judged
from server.run_folder import RunFolder, write_bytes
from simulations.audit_origin import sha256_of
from simulations.crossing import with_crossed
from simulations.exporting.asked import Export
from simulations.exporting.gate import Bench
from simulations.exporting.pictures import shown
from simulations.ladder.rungs import INT8
from simulations.prepare import audited, load, split
from simulations.settings import Settings

GRAPH = "model.onnx"
"""The eight-bit net, in the rung's folder."""

COMPARED = 64
"""Test pictures on which the graph is held against the net before it is made small."""

KEPT = ("epsilon", "bytes_up", "visits")
"""What the eight-bit net has of the training it comes from: rounding is no look at any picture."""


def make_edge(source: Path, settings: Settings, place: Path) -> None:
    """Make the eight-bit net of a run and count its answers, unless that lies in its folder already.

    Ranges of activations are observed on faces drawn for it with another seed, so a guarantee of the net holds for
    what is made of it. Nothing is refused here: what it costs is what the ladder is to tell.

    Parameters
    ----------
    source : the folder of a whole run.
    settings : of that run.
    place : the rung's own folder.

    Raises
    ------
    ModelError : the net cannot be exported, or the graph answers otherwise.
    RunFolderError : the folder holds the rung of another net.
    """
    folder = RunFolder(place)
    facts = {"edge": sha256_of(source / "model" / WEIGHTS), "format": INT8}
    folder.open(facts, OmegaConf.to_yaml(OmegaConf.structured(settings)))
    if folder.complete:
        return
    bench = _bench(settings)
    begun = time.process_time()
    net, spec, _ = load_model(source / "model")
    rows = bench.rows[np.linspace(0, len(bench.rows) - 1, min(COMPARED, len(bench.rows))).astype(int)]
    plain = folded(net)
    graph = exported(plain, spec.channels, spec.size, {})
    require_same_answers(plain, session(graph), to_input(bench.samples.pictures[rows]).contiguous())
    how = Export(format=INT8, pictures="faces", seed=settings.seed + 1)
    ranges = shown(how, bench.samples, spec.size, spec.channels, private=True)
    small = quantised(graph, np.ascontiguousarray(to_input(ranges.pictures).numpy()))
    counts = count(bench.samples, bench.rows, bench.judge(GraphNet(session(small))), bench.values)
    write_bytes(place / GRAPH, small)
    run = RunFolder(source).read_json("summary.json")
    before = run["systems"]["federated"]
    own: dict[str, Any] = {
        **judged(counts),
        **{key: before[key] for key in KEPT},
        "cpu_seconds": round(before["cpu_seconds"] + time.process_time() - begun, 3),
        "ranges": ranges.what,
        "model_bytes": len(small),
        "net_bytes": (source / "model" / WEIGHTS).stat().st_size,
    }
    folder.write_json("summary.json", {"data": run["data"], "systems": {INT8: own}})
    folder.finish()


def _bench(settings: Settings) -> Bench:
    samples = split(load(settings.data, settings.seed), settings.data, settings.seed)
    samples = with_crossed(samples, settings.data.groups)
    return Bench(samples, samples.rows("test"), audited(samples, list(settings.data.groups)))
