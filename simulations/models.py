"""``fedfer models``: the nets of the zoo, what each costs, whether privacy lets it in, and where it is from.

Nothing here is a list of figures: parameters and multiplications are counted, speed is measured on this machine, and
the verdict is that of the guard that a private plan meets (:mod:`client.guards`).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from client.bookkeeping.gradients import PrivateGradients
from client.guards import prove
from client.strict import nearest
from fer_models.errors import ConfigError, PrivacyError
from fer_models.losses import soft_cross_entropy
from fer_models.memory import keep_freed_memory
from fer_models.plugins import added, origin
from fer_models.weights import state_bytes
from fer_models.zoo import NETS, ModelSpec, build, parameter_count
from simulations.threads import one_thread

SECONDS = 0.15
"""Processor seconds that one measurement of speed takes, at least."""

BATCH = 32
"""Pictures of a step whose speed is measured."""


@dataclass(frozen=True)
class Facts:
    """What is known of a net.

    Attributes
    ----------
    parameters : numbers that learn.
    macs : multiplications with an addition that one picture costs, in convolutions and products of matrices.
    bytes : of all numbers, in float32.
    private : whether the guard lets it into a private plan.
    reason : why not, empty where it does.
    trained_per_cpu_s : pictures of a step forward and backward, batches of 32, one thread; None not measured.
    answered_per_cpu_s : pictures answered one by one, one thread; None not measured.
    what, paper, changed : as in :class:`fer_models.zoo.Net`.
    """

    name: str
    parameters: int
    macs: int
    bytes: int
    private: bool
    reason: str
    trained_per_cpu_s: float | None
    answered_per_cpu_s: float | None
    what: str
    paper: str
    changed: str


def facts_of(spec: ModelSpec, *, speed: bool = True) -> Facts:
    """Build a net, count, try it under the guard, and measure.

    Raises
    ------
    ModelError : there is no such net.
    """
    module = build(spec, 0)
    entry = NETS.get(spec.name)
    reason = refusal(module, spec)
    module = build(spec, 0)  # as it is without the guard's hooks
    trained, answered = _speeds(module, spec) if speed else (None, None)
    return Facts(
        name=spec.name,
        parameters=parameter_count(module),
        macs=_macs(module, spec),
        bytes=state_bytes(module),
        private=not reason,
        reason=reason,
        trained_per_cpu_s=trained,
        answered_per_cpu_s=answered,
        what="" if entry is None else entry.what,
        paper=_origin(spec.name) if entry is None else entry.paper,
        changed="" if entry is None else entry.changed,
    )


def _origin(name: str) -> str:
    return origin("models", name) if name in added("models") else "timm"


def refusal(module: nn.Module, spec: ModelSpec) -> str:
    """Return why the guard refuses a net with cross-entropy in a private plan; empty where it does not."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, spec.channels, spec.size, spec.size, generator=generator)
    targets = torch.rand(3, spec.classes, generator=generator).softmax(1)
    gradients = PrivateGradients(module)
    try:
        prove(gradients, lambda given, wanted: soft_cross_entropy(module(given), wanted), x, targets)
    except PrivacyError as error:
        return f"{error.what} ({error.where})" if error.where else error.what
    finally:
        gradients.close()
    return ""


def _macs(module: nn.Module, spec: ModelSpec) -> int:
    counter = FlopCounterMode(display=False)
    with _answering(module), counter:
        module(torch.zeros(1, spec.channels, spec.size, spec.size))
    return counter.get_total_flops() // 2


def _speeds(module: nn.Module, spec: ModelSpec) -> tuple[float, float]:
    """Return pictures a processor second, in training and answered one by one."""
    keep_freed_memory()
    form = spec.channels, spec.size, spec.size
    x = torch.randn(BATCH, *form).to(memory_format=torch.channels_last)
    targets = torch.full((BATCH, spec.classes), 1 / spec.classes)

    def step() -> None:
        soft_cross_entropy(module(x), targets).mean().backward()

    with one_thread():
        trained = BATCH / _seconds_of(step)
        with _answering(module):
            answered = 1 / _seconds_of(lambda: module(x[:1]))
    module.zero_grad()
    return trained, answered


def _seconds_of(work: Callable[[], Tensor | None]) -> float:
    """Return processor seconds a call, after one call that does not count."""
    work()
    start, calls = time.process_time(), 0
    while time.process_time() - start < SECONDS:
        work()
        calls += 1
    return (time.process_time() - start) / calls


@contextmanager
def _answering(module: nn.Module) -> Iterator[None]:
    training = module.training
    try:
        with torch.inference_mode():
            module.eval()
            yield
    finally:
        module.train(training)


def models(words: list[str], file: Path | None, console: Console) -> None:
    """List the nets, or tell all about those that are named.

    Parameters
    ----------
    words : names, ``speed=false``, and settings of a specification such as ``norm=bn`` or ``size=96``.
    file : for the facts as JSON; None for none.

    Raises
    ------
    ConfigError : an unknown setting.
    ModelError : an unknown net, or one that the settings do not fit.
    """
    from simulations.bench.run import machine

    names, speed, changes = _read(words)
    listed = names or [*NETS, *(name for name in added("models") if name not in NETS)]
    found = [facts_of(ModelSpec(name, **changes), speed=speed) for name in listed]
    if names:
        for facts in found:
            _tell(facts, console)
    else:
        _list(found, console)
    if file is not None:
        from server.run_folder import write_text

        content = {"machine": machine(), "spec": changes, "nets": [asdict(each) for each in found]}
        write_text(file, json.dumps(content, indent=1) + "\n")


def _read(words: list[str]) -> tuple[list[str], bool, dict[str, Any]]:
    known = {
        each.name: each.type
        for each in dataclasses.fields(ModelSpec)
        if each.name not in ("name", "clusters")
    }
    names, speed, changes = [], True, dict[str, Any]()
    for word in words:
        key, equals, value = word.partition("=")
        key = key.removeprefix("model.")
        if not equals and not word.startswith("-"):
            names.append(word)
        elif key == "speed" and value in ("true", "false"):
            speed = value == "true"
        elif equals and key in known:
            changes[key] = _number(value, word) if known[key] != "str" else value
        else:
            raise ConfigError(
                f"models takes no {word!r}", where="command line", cure=nearest(key, ["speed", *known])
            )
    return names, speed, changes


def _number(value: str, word: str) -> int | float:
    try:
        return float(value) if "." in value else int(value)
    except ValueError as error:
        raise ConfigError(f"{word} is no number", where="command line", cure="Write size=48.") from error


def _list(found: list[Facts], console: Console) -> None:
    table = Table("name", "parameters", "MACs", "bytes", "private", "trained/s", "answered/s", "what")
    for facts in found:
        table.add_row(
            facts.name,
            f"{facts.parameters:,}",
            f"{facts.macs:,}",
            f"{facts.bytes:,}",
            "yes" if facts.private else "no",
            _rate(facts.trained_per_cpu_s),
            _rate(facts.answered_per_cpu_s),
            facts.what,
        )
    console.print(table)
    console.print(
        "private: the guard's verdict. Pictures a processor second on one thread of this machine, trained in batches "
        f"of {BATCH}, answered one by one. fedfer models NAME tells what a net is from, and what was changed.",
        highlight=False,
    )


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _tell(facts: Facts, console: Console) -> None:
    table = Table("fact", "value", title=facts.name, title_justify="left")
    table.add_row("for", facts.what)
    table.add_row("parameters", f"{facts.parameters:,}")
    table.add_row("multiplications with addition a picture", f"{facts.macs:,}")
    table.add_row("bytes in float32", f"{facts.bytes:,}")
    table.add_row("under privacy", "yes" if facts.private else f"refused: {facts.reason}")
    table.add_row("trained, pictures a processor second", _rate(facts.trained_per_cpu_s))
    table.add_row("answered one by one, pictures a processor second", _rate(facts.answered_per_cpu_s))
    table.add_row("from", facts.paper)
    table.add_row("changed, and why", facts.changed)
    console.print(table)
