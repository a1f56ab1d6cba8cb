"""``fedfer export``: from a net to a folder that a box can run, or a refusal with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from fer_models.card import model_card
from fer_models.checkpoints import CARD, CONFIG, WEIGHTS, load_model
from fer_models.edge.files import FILES, EdgeConfig, digests_of
from fer_models.edge.folding import folded
from fer_models.edge.graphs import difference, exported, quantised, require_same_answers, to_openvino
from fer_models.edge.runtime import GraphNet, Run, openvino_session, session
from fer_models.transforms import NORMALISATION, to_input
from fer_models.zoo import ModelSpec, parameter_count
from server.run_folder import write_bytes, write_text
from simulations.audit import require_same
from simulations.audit_origin import sha256_of
from simulations.crossing import with_crossed
from simulations.display import new_console
from simulations.exporting.asked import Asked, asked
from simulations.exporting.gate import Bench, gate
from simulations.exporting.pictures import Shown, shown
from simulations.exporting.shrink import shrunk
from simulations.prepare import audited, load, split
from simulations.run_audit import privacy_of_model
from simulations.settings import Settings

REAL = 64
"""Test pictures on which a graph is held against its net."""


@dataclass(frozen=True, eq=False)
class Source:
    """The net that is exported.

    Attributes
    ----------
    net : in evaluation mode, as it was trained.
    spec, labels : what it is.
    sha256 : of its weights.
    privacy : what its run says of its guarantee; empty where nothing is known.
    """

    net: nn.Module
    spec: ModelSpec
    labels: tuple[str, ...]
    sha256: str
    privacy: Mapping[str, Any]


def export(words: list[str], folder: Path) -> int:
    """Export what the words name to a folder.

    Raises
    ------
    ConfigError : a wrong word.
    ModelError : the net cannot be exported, or the graph answers otherwise.
    ToleranceError, EvidenceError : see :func:`simulations.exporting.gate.gate`.
    """
    wanted, console = asked(words), new_console()
    net, spec, labels = load_model(wanted.model)
    told = privacy_of_model(wanted.run).get("privacy", {})
    source = Source(net, spec, labels, sha256_of(wanted.model / WEIGHTS), told)
    bench = _bench(wanted.settings, source)
    forget(folder)
    say(console, f"judged on {len(bench.rows)} test pictures of {bench.samples.name}")
    make(source, wanted, bench, folder, console)
    return 0


def forget(folder: Path) -> None:
    """Take an earlier model out of a folder, which is to be refused or written anew."""
    for name in (CONFIG, CARD, *(file for names in FILES.values() for file in names)):
        (folder / name).unlink(missing_ok=True)


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def console_line(console: Console) -> Callable[[str], None]:
    """Return what prints a line as it is."""
    return lambda line: say(console, line)


def _bench(settings: Settings, source: Source) -> Bench:
    samples = split(load(settings.data, settings.seed), settings.data, settings.seed)
    require_same(samples, source.labels, (source.spec.size, source.spec.channels))
    samples = with_crossed(samples, settings.data.groups)
    return Bench(samples, samples.rows("test"), audited(samples, list(settings.data.groups)))


def make(source: Source, wanted: Asked, bench: Bench, folder: Path, console: Console) -> None:
    """Make the graph, hold it against the net, judge it, and write the folder."""
    how, spec = wanted.how, source.spec
    private = _is_private(source)
    net, made = shrunk(
        folded(source.net), source, how, bench.samples, private=private, say=console_line(console)
    )
    real = bench.rows[np.linspace(0, len(bench.rows) - 1, min(REAL, len(bench.rows))).astype(int)]
    x = to_input(bench.samples.pictures[real]).contiguous()
    graph = exported(net, spec.channels, spec.size, _metadata(source))
    most = require_same_answers(net, session(graph), x)
    say(console, f"ONNX beside torch on {len(real)} real pictures: logits differ by {most:.2g} at most")
    made["onnx_difference"] = most
    if how.format != "onnx":
        ranges = shown(how, bench.samples, spec.size, spec.channels, private=private)
        say(console, f"ranges observed on {ranges.what}")
        graph, told = _small(graph, ranges, net, x)
        made |= told
        say(
            console,
            f"INT8 beside torch: logits differ by {told['int8_difference']:.2g} at most, "
            f"{told['int8_agreement']:.1%} of the real pictures get the same class",
        )
    names = FILES[how.format]
    work = folder / ".part"
    work.mkdir(parents=True, exist_ok=True)
    try:
        run = _write_graph(graph, how.format, work)
        facts = {"door": "model", "model": str(wanted.path), "data": bench.samples.name, "format": how.format}
        figures = gate(
            bench, bench.judge(source.net), bench.judge(GraphNet(run)), how, facts, folder, console
        )
        digests = digests_of(work, names)
        for name in names:
            (work / name).replace(folder / name)
    finally:
        for left in work.iterdir():
            left.unlink()
        work.rmdir()
    _describe(source, wanted, made, figures, digests, folder, parameter_count(net))
    size = sum((folder / name).stat().st_size for name in names)
    say(console, f"exported: {folder}, {size / 1000:,.0f} kB in {', '.join(names)}")


def _is_private(source: Source) -> bool:
    return source.privacy.get("epsilon") is not None


def _metadata(source: Source) -> dict[str, str]:
    spec = source.spec
    return {
        "labels": json.dumps(list(source.labels)),
        "normalisation": NORMALISATION,
        "size": str(spec.size),
        "channels": str(spec.channels),
        "net": json.dumps(spec.to_dict()),
        "sha256_of_weights": source.sha256,
    }


def _small(graph: bytes, ranges: Shown, net: nn.Module, x: torch.Tensor) -> tuple[bytes, dict[str, Any]]:
    """Return the graph in eight bits, and how far its answers to real pictures are from the net's."""
    small = quantised(graph, np.ascontiguousarray(to_input(ranges.pictures).numpy()))
    with torch.inference_mode():
        own = net(x).numpy()
    given = session(small)(x.numpy())
    agreement = float((own.argmax(1) == given.argmax(1)).mean())
    told = {"ranges": ranges.what, "int8_difference": difference(own, given)[0], "int8_agreement": agreement}
    return small, told


def _write_graph(graph: bytes, kind: str, folder: Path) -> Run:
    names = FILES[kind]
    if kind == "openvino":
        to_openvino(graph, names, folder)
        return openvino_session(folder / names[0])
    write_bytes(folder / names[0], graph)
    return session(graph)


def _describe(
    source: Source,
    wanted: Asked,
    made: Mapping[str, Any],
    figures: Mapping[str, Any],
    digests: Mapping[str, str],
    folder: Path,
    parameters: int,
) -> None:
    """Write the card and, last, the configuration."""
    spec, how = source.spec, wanted.how
    origin = {"spec": spec.to_dict(), "sha256": source.sha256}
    config = EdgeConfig(how.format, source.labels, spec.channels, spec.size, parameters, made, origin)
    shown_figures = {
        key: figures[key] for key in ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall")
    }
    told: dict[str, Any] = {
        "name": f"{spec.name}, {how.format}",
        "data": wanted.settings.data.reader,
        "figures": shown_figures,
        "export": {"format": how.format, **made, "made of weights with SHA-256": source.sha256},
        "files": {name: f"SHA-256 {digest}" for name, digest in digests.items()},
        "audit": "`audit/` holds the audit of this model, `comparison/` what it does worse and better than the net "
        "that it was made of, and for whom.",
    }
    epsilon = source.privacy.get("epsilon")
    if epsilon is not None:
        told["privacy"] = (
            f"epsilon {epsilon:.2f}, delta {source.privacy['delta']:g}, as the net that it was made of"
        )
    elif not source.privacy:
        told["privacy"] = (
            "Nothing is known of how the net was trained: take it that its weights reveal pictures."
        )
    write_text(folder / CARD, model_card(spec, source.labels, told, parameters))
    write_text(folder / CONFIG, json.dumps(config.to_json(digests), indent=1, allow_nan=False) + "\n")
