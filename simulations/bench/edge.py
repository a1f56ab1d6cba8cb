"""How fast compressed nets run on one thread at batch 1, beside eager torch and MicroExpNet, and what they have lost.

One net of the zoo is trained on drawn faces. Two smaller ones with ReLU learn its answers, on its own training faces
and on others that are drawn for that and need no label, and go to eight bits: ``fer_edge`` under 1 MB, ``fer_tiny``
under 100 kB. What is lost is counted on test faces of people that nobody trained on, a picture once and not with its
mirror image, as a box would run it. Speeds are taken in turns in one process, and the best of many short turns counts:
other work on the machine can only slow a turn down.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_models.edge.files import FILES
from fer_models.edge.folding import folded
from fer_models.edge.graphs import exported, quantised
from fer_models.edge.runtime import Run, openvino_session, session
from fer_models.edge.shrinking import distilled, with_relu
from fer_models.errors import EngineError
from fer_models.flat import FlatModel
from fer_models.samples import Samples
from fer_models.transforms import to_input
from fer_models.zoo import ModelSpec, build
from server.run_folder import RunFolder, write_bytes
from simulations.bench.run import Figures, Options
from simulations.comparison import Comparison
from simulations.compose import composed
from simulations.display import Display, new_console
from simulations.faces import FacesConfig, draw
from simulations.threads import one_thread

WORDS = (
    "data=faces",
    "data.options.count=8000",
    "data.options.pictures_per_person=2",
    "data.test=0.4",
    "model=fer_small",
    "model.norm=bn",
    "partition=iid",
    "partition.sites=2",
    "baseline.epochs=12",
    "baseline.evaluations=1",
    "compare.probes=false",
    "engine.workers=1",
)
"""What is trained; words after the name of the benchmark come after these."""

STUDENTS = {"1mb": "fer_edge", "100kb": "fer_tiny"}
"""Net that learns the answers -> what it is called in figures, after the size that it stays under."""

MORE, AGAIN = 15_000, 14.0
"""Faces that are drawn beside the training faces for the students, and passes over both."""

FRESH = 7_919
"""Seed of those faces: other people than those of the run, whose seed is another."""

PLACES, ROUNDS, CALLS = 4, 150, 20
"""Times that a contender is made anew, as where its memory lies tells, its turns then, least calls of each."""

TURN = 0.005
"""Seconds that a turn lasts at least."""

Call = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Small:
    """A compressed net: its bytes, and its graph's logits."""

    size: int
    run: Run


def bench(options: Options) -> Figures:
    """Return the figures of ``fedfer bench edge``; ``--run-dir`` keeps the nets for another time."""
    with one_thread(), tempfile.TemporaryDirectory(prefix="fedfer-edge-") as place:
        folder = options.run_dir or Path(place) / "run"
        net, samples = _trained(folder, options)
        train, test = samples.pictures[samples.rows("train")], samples.rows("test")
        shown = np.ascontiguousarray(to_input(train[:512]).numpy())
        graphs = {
            size: _kept(folder / f"{size}.onnx", lambda name=name: _student(name, net, train), shown)
            for size, name in STUDENTS.items()
        }
        micro = build(ModelSpec("microexpnet", norm="none", classes=7, size=84), 0).eval()
        graphs["microexpnet"] = _eight_bits(micro, _enlarged(train[:128]))
        one, faces = shown[:1].copy(), torch.zeros(1, 1, 84, 84)
        fps: dict[str, float] = {}
        for _ in range(PLACES):
            calls = {"eager micro": _eager(micro, faces), "eager torch": _eager(net, torch.from_numpy(one))}
            for name, graph in graphs.items():
                own = faces.numpy() if name == "microexpnet" else one
                calls |= {f"{name} {engine}": call for engine, call in _engines(graph, own).items()}
            for name, seconds in fastest(calls).items():
                fps[name] = max(fps.get(name, 0.0), 1 / seconds)
        smalls = {name: Small(len(graphs[name]), session(graphs[name])) for name in STUDENTS}
        return _figures(fps, smalls, _accuracy(net, smalls, samples, test))


def _figures(fps: Mapping[str, float], smalls: Mapping[str, Small], right: Mapping[str, float]) -> Figures:
    def best(name: str) -> float:
        return max(value for key, value in fps.items() if key.startswith(f"{name} "))

    eager = fps["eager micro"]
    found = {"fps_under_1mb": best("1mb"), "points_lost_under_1mb": 100 * (right["net"] - right["1mb"])}
    found |= {"fps_under_100kb": best("100kb"), "fps_eager_microexpnet": eager}
    found |= {"fps_int8_microexpnet": best("microexpnet"), "fps_eager_torch": fps["eager torch"]}
    found |= {f"times_eager_microexpnet_under_{name}": best(name) / eager for name in ("1mb", "100kb")}
    found |= {f"kb_under_{name}": smalls[name].size / 1000 for name in ("1mb", "100kb")}
    found |= {f"accuracy_under_{name}": right[name] for name in ("1mb", "100kb")}
    found |= {"accuracy_eager_torch": right["net"]}
    return found | {f"fps_{key.replace(' ', '_')}": value for key, value in fps.items() if "eager" not in key}


def _trained(folder: Path, options: Options) -> tuple[nn.Module, Samples]:
    """Train the net that is compressed, or take it from a folder where it is; return it with its samples."""
    settings, _ = composed([*WORDS, *options.overrides])
    with Display(new_console()) as display:
        comparison = Comparison(settings, folder, ["pooled"], display)
        comparison.prepare()
        comparison.run()
    prepared = comparison.prepared
    kept = RunFolder(folder).load_checkpoint("baselines/pooled")
    assert kept is not None
    flat = FlatModel(build(prepared.plan.model, prepared.plan.seed))
    flat.load_(kept[0]["vector"])
    return flat.module.eval(), prepared.samples


def _student(name: str, teacher: nn.Module, train: NDArray[np.uint8]) -> nn.Module:
    """Return a net that has learned the teacher's answers, with ReLU, and its BatchNorms folded."""
    spec = ModelSpec(name, norm="bn", classes=7, size=train.shape[1])
    more = draw(FacesConfig(count=MORE, size=train.shape[1], pictures_per_person=2), FRESH).pictures
    return folded(
        distilled(with_relu(build(spec, 1)), teacher, np.concatenate([train, more]), AGAIN, 1, anew=True)
    )


def _kept(path: Path, make: Callable[[], nn.Module], shown: NDArray[np.float32]) -> bytes:
    """Return a net's graph in eight bits, from a file where it is there already."""
    if not path.is_file():
        write_bytes(path, _eight_bits(make(), shown))
    return path.read_bytes()


def _eight_bits(net: nn.Module, shown: NDArray[np.float32]) -> bytes:
    return quantised(exported(net, shown.shape[1], shown.shape[2], {}), shown)


def _engines(graph: bytes, one: NDArray[np.float32]) -> dict[str, Call]:
    """Return a graph in ONNX Runtime and, where it is installed, in OpenVINO, each asked about one picture."""
    run = session(graph, batch=1)
    calls: dict[str, Call] = {"onnxruntime": lambda: run(one)}
    try:
        calls["openvino"] = _openvino(graph, one)
    except EngineError:
        new_console().print("OpenVINO is not installed, and left out: pip install 'fedfer[openvino]'")
    return calls


def _openvino(graph: bytes, one: NDArray[np.float32]) -> Call:
    with tempfile.TemporaryDirectory(prefix="fedfer-edge-") as folder:
        path = Path(folder) / FILES["int8"][0]
        path.write_bytes(graph)
        run = openvino_session(path, batch=1)
    return lambda: run(one)


def _enlarged(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = to_input(pictures).contiguous()
    return nn.functional.interpolate(x, size=84, mode="bilinear").numpy()


def _eager(net: nn.Module, x: torch.Tensor) -> Call:
    net = copy.deepcopy(net)

    @torch.inference_mode()
    def call() -> object:
        return net(x)

    return call


def fastest(calls: Mapping[str, Call], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the seconds of each call, the best mean of a turn; turns go round among all of them.

    A turn lasts for some milliseconds at least: the first calls of a small net read again what the contender before has
    put out of the cache.
    """
    best, many = dict.fromkeys(calls, float("inf")), {}
    for name, call in calls.items():
        many[name] = max(CALLS, round(TURN / _seconds(call, CALLS)))
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], _seconds(call, many[name]))
    return best


def _seconds(call: Call, many: int) -> float:
    start = time.perf_counter()
    for _ in range(many):
        call()
    return (time.perf_counter() - start) / many


def _accuracy(
    net: nn.Module, smalls: Mapping[str, Small], samples: Samples, test: NDArray[np.intp]
) -> dict[str, float]:
    """Return how many of the test faces are told right, each looked at once."""
    x, label = to_input(samples.pictures[test]).contiguous(), samples.label[test]
    with torch.inference_mode():
        logits = {"net": net(x).numpy()}
    logits |= {name: smalls[name].run(x.numpy()) for name in ("1mb", "100kb")}
    return {name: float((each.argmax(1) == label).mean()) for name, each in logits.items()}
