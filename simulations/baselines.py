"""What federation is compared with: one pooled model, and one model a site that never talks to the others.

Both see the same split, the same net from the same initial weights, and by default as many pictures as the federated
run does.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.evaluation import count, predict
from client.label_counts import shares
from client.nets import model_of, with_critic
from client.plan import LocalWork, Plan
from client.randomness import SeededEntropy, torch_generator
from client.strict import require
from client.told import NOTHING, Told
from client.training import (
    LocalResult,
    LocalRows,
    dropout_seeded,
    finite,
    losses_of,
    shape_gradient,
    shuffled,
)
from client.workbench import Workbench
from fer_models.counts import Counts
from fer_models.errors import TrainingError
from fer_models.metrics import headline
from fer_models.samples import Samples
from server.run_folder import RunFolder, reading
from simulations.pooled_private import without_fairness

Progress = Callable[[dict[str, Any]], None]

CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class CentralWork:
    """How a model is trained where all its pictures are in one place.

    AdamW under a one-cycle schedule (Smith 2018), gradient clipping, and a moving average of the weights.

    Attributes
    ----------
    epochs : passes over the training rows.
    batch : largest batch; small sets use a sixteenth of their rows, but at least 16.
    learning_rate : peak of the one-cycle schedule.
    weight_decay, gradient_clip, ema, smoothing : of AdamW, of the batch gradient, of the average, of labels.
    augment, targets : as in :class:`client.plan.LocalWork`.
    evaluations : how often the test pictures are counted on the way, for the curves.
    """

    epochs: float = 20.0
    batch: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    gradient_clip: float = 5.0
    ema: float = 0.998
    smoothing: float = 0.0
    augment: bool = True
    targets: str = "votes"
    evaluations: int = 5

    def __post_init__(self) -> None:
        require(self.epochs > 0, "no epochs", "baseline.epochs", "Give more than 0.")
        require(self.batch >= 1, "an empty batch", "baseline.batch", "Give 1 or more.")
        require(
            self.learning_rate > 0, "the learning rate is not positive", "baseline.learning_rate", "Raise it."
        )
        require(self.evaluations >= 1, "no evaluation", "baseline.evaluations", "Give 1 or more.")
        require(0 <= self.ema < 1, "ema is not in [0, 1)", "baseline.ema", "Give 0 to 0.999.")
        for name in ("weight_decay", "gradient_clip"):
            require(getattr(self, name) >= 0, f"{name} is negative", f"baseline.{name}", "Give 0 or more.")

    def local(self, rows: int) -> LocalWork:
        """Return the same work in a site's terms."""
        batch = min(rows, self.batch, max(16, rows // 16))
        return LocalWork(
            unit="epochs",
            batch=batch,
            optimizer="adamw",
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            gradient_clip=self.gradient_clip,
            augment=self.augment,
            targets="votes" if self.targets == "votes" else "label",
            smoothing=self.smoothing,
        )


@dataclass(frozen=True)
class CentralResult:
    """A trained baseline: weights (P,), pictures seen, CPU seconds, and the counts of test rows.

    ``counts`` maps "all" to everybody's test rows, and "own" to those of the model's own site; ``predicted`` to what
    it said of them, int64 (n,).
    """

    vector: torch.Tensor
    visits: int
    cpu_seconds: float
    counts: dict[str, Counts]
    predicted: dict[str, NDArray[np.int64]]


class CentralTrainer:
    """Trains one model on some rows of a table, resumable at any step.

    Parameters
    ----------
    plan : net, labels and attributes; its local and server parts are not used: all layers learn.
    rows : int (n,), training rows.
    tests : name -> test rows, counted on the way ("all" must be among them) and at the end.
    name : of the system, for seeds, metrics and the checkpoint.
    initial : float32 (P + Q,), weights to start from; None takes those that the plan's seed gives.
    """

    def __init__(
        self,
        plan: Plan,
        work: CentralWork,
        samples: Samples,
        rows: NDArray[np.intp],
        tests: dict[str, NDArray[np.intp]],
        *,
        name: str,
        folder: RunFolder,
        device: str = "cpu",
        initial: torch.Tensor | None = None,
    ) -> None:
        plan = without_fairness(plan)  # in one place nobody's group is hidden, and nothing steers by it
        plan = replace(plan, local=replace(plan.local, scope="all"))
        self.plan, self.work, self.samples, self.tests, self.name, self.folder = (
            plan,
            work,
            samples,
            tests,
            name,
            folder,
        )
        local = work.local(len(rows))
        more = {"erase": plan.local.erase, "light": plan.local.light} if work.augment else {}
        self._local = replace(local, **more)
        self._bench = Workbench(plan, torch.device(device))
        own = np.bincount(samples.label[rows], minlength=len(samples.labels))
        told = (
            Told(shares(own)) if plan.local.tells_prior else NOTHING
        )  # whoever has the pictures has their shares
        self._bench.expect(told, partial=samples.known is not None)
        if initial is not None:
            self._bench.flat.load_(with_critic(self._bench.flat, initial))
        source = samples if work.targets == "votes" else replace(samples, votes=None)
        self._data = LocalRows(samples, rows, torch.from_numpy(source.targets(rows)))
        self._entropy = SeededEntropy(plan.seed, name)
        self._steps = max(1, round(work.epochs * len(rows) / self._local.batch))
        self._average = self._bench.flat.full_vector.clone()
        self._optimizer = torch.optim.AdamW(
            [self._bench.flat.vector], work.learning_rate / 25, weight_decay=work.weight_decay
        )
        # With exactly five steps torch would divide by the zero steps of the way up.
        total = 6 if self._steps == 4 else self._steps + 1
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, work.learning_rate, total_steps=total, pct_start=0.2
        )
        self._done, self._cpu, self._loss, self._seconds = 0, 0.0, 0.0, 0.0
        self._predicted: dict[str, NDArray[np.int64]] = {}
        facts = json.dumps([asdict(work), plan.text, rows.tolist(), name])
        self._digest = hashlib.sha256(facts.encode()).hexdigest()

    def run(self, progress: Progress) -> CentralResult:
        """Train to the end and return the result; ``progress`` is told of every evaluation."""
        self._resume()
        cpu, saved, start = time.process_time(), time.monotonic(), time.monotonic()
        stops = {
            math.ceil(self._steps * (i + 1) / self.work.evaluations) for i in range(self.work.evaluations)
        }
        for positions in self._batches():
            self._step(positions)
            if self._done in stops and self._done < self._steps:
                self._require_finite()
                progress(self._record(self._count("all"), self._seconds + time.monotonic() - start))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._cpu, cpu = self._cpu + time.process_time() - cpu, time.process_time()
                self._seconds, start = self._seconds + time.monotonic() - start, time.monotonic()
                self._checkpoint()
                saved = time.monotonic()
        self._require_finite()
        counts = {name: self._count(name, prove=name == "all") for name in self.tests}
        self._cpu += time.process_time() - cpu
        progress(self._record(counts["all"], self._seconds + time.monotonic() - start))
        own = model_of(self._bench.flat, self._average).cpu()
        return CentralResult(own, self._done * self._local.batch, self._cpu, counts, self._predicted)

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Yield the positions of each batch that is still to do: shuffled epochs, one after the other."""
        size, count = self._local.batch, len(self._data.rows)
        order, epoch = np.zeros(0, np.int64), -1
        while self._done < self._steps:
            position = self._done * size
            if position // count != epoch:
                epoch = position // count
                order = np.concatenate([self._order(epoch), self._order(epoch + 1)])
            offset = position - epoch * count
            yield order[offset : offset + size]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        generator = torch_generator(self._entropy.key(epoch, "order"))
        by = self._data.samples.label[self._data.rows] if self.plan.local.sampling == "classes" else None
        return shuffled(len(self._data.rows), generator, by)

    def _step(self, positions: NDArray[np.int64]) -> None:
        flat = self._bench.flat
        key = self._entropy.key(self._done, "augment")
        with dropout_seeded(self.plan, self._entropy.key(self._done, "dropout")):
            flat.zero_grad()
            loss = losses_of(self._bench, self._data, positions, self._local, torch_generator(key)).mean()
            loss.backward()
        with torch.no_grad():
            shape_gradient(flat, self._local, None)
            self._bench.penalise(flat.gradient)
            self._optimizer.step()
            self._schedule.step()
            self._done += 1
            decay = min(self.work.ema, (1 + self._done) / (10 + self._done))
            self._average.lerp_(flat.full_vector, 1 - decay)
        self._loss = float(loss.detach())

    def _count(self, name: str, *, prove: bool = False) -> Counts:
        flat = self._bench.flat
        kept = flat.full_vector.clone()
        flat.load_(self._average)
        rows, device = self.tests[name], self._bench.device
        self._predicted[name] = predict(flat.module, self.samples, rows, device=device, prove=prove)
        flat.load_(kept)
        return count(self.samples, rows, self._predicted[name], self.plan.attributes)

    @property
    def _epoch(self) -> float:
        """Passes over the training rows so far, which stand for rounds."""
        return round(self._done * self._local.batch / len(self._data.rows), 2)

    def _record(self, counts: Counts, seconds: float) -> dict[str, Any]:
        return {
            "system": self.name,
            "round": self._epoch,
            "rounds": self.work.epochs,
            "loss": self._loss,
            "epsilon": None,
            "visits": self._done * self._local.batch,
            "bytes_up": 0,
            "seconds": round(seconds, 3),
            **headline(counts),
        }

    def _require_finite(self) -> None:
        result = LocalResult(0, self._done, self._loss)
        try:
            finite(result, self._bench.flat, f"{self.name}, step {self._done}")
        except TrainingError as error:
            cure = "Lower baseline.learning_rate, or set baseline.gradient_clip."
            raise TrainingError(error.what, where=error.where, cure=cure) from error

    def _checkpoint(self) -> None:
        self._require_finite()
        held = self._optimizer.state[self._bench.flat.vector]
        tensors = {"vector": self._bench.flat.full_vector, "average": self._average}
        tensors |= {f"optimizer.{key}": torch.as_tensor(value) for key, value in held.items()}
        facts = {"digest": self._digest, "step": self._done, "round": self._epoch}
        facts |= {"cpu_seconds": self._cpu, "seconds": self._seconds}
        self.folder.save_checkpoint(f"checkpoint-{self.name}", tensors, facts)

    def _resume(self) -> None:
        found = self.folder.load_checkpoint(f"checkpoint-{self.name}")
        if found is None or found[1].get("digest") != self._digest:
            return
        path = self.folder.path / f"checkpoint-{self.name}.safetensors"
        with reading(path, "Delete it to start again."):
            self._take_up(*found)

    def _take_up(self, tensors: dict[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        self._bench.flat.load_(tensors["vector"])
        self._average.copy_(tensors["average"])
        moments = {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
        for _ in range(facts["step"]):
            self._optimizer._opt_called = True  # type: ignore[attr-defined]  # the steps were taken before the kill
            self._schedule.step()
        self._optimizer.state[self._bench.flat.vector] = moments
        self._done, self._cpu, self._seconds = facts["step"], facts["cpu_seconds"], facts["seconds"]
