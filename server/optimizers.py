"""The server's step: what happens to the mean update of a round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from client.plan import ServerWork


def learning_rate(work: ServerWork, round_number: int) -> float:
    """Return the server's learning rate in a round (1 to ``work.rounds``).

    "cosine" falls from the full rate to 0; "onecycle" rises from 1/25 of it over the first fifth of the rounds
    and falls to 1/250,000 of it, both along a cosine, as torch's OneCycleLR does with ``pct_start`` 0.2.
    """
    peak, done = work.learning_rate, round_number - 1

    def between(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    if work.schedule == "cosine":
        return between(peak, 0.0, done / work.rounds)
    if work.schedule == "constant" or work.rounds == 1:
        return peak
    top, last = 0.2 * work.rounds - 1, work.rounds - 1
    if done < top:
        return between(peak / 25, peak, done / top)
    return between(peak, peak / 250_000, (done - top) / (last - top))


class _Adaptive(torch.optim.Optimizer):
    """Adam with another second moment, and with decoupled decay; both moments are corrected for their start at 0.

    "yogi" moves the second moment v towards g**2 by a step that does not grow with v, so that it forgets slowly
    (Zaheer et al. 2018): v - (1 - beta2) sign(v - g**2) g**2. "adagrad" adds all g**2 (Duchi et al. 2011), uncorrected.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], work: ServerWork) -> None:
        super().__init__(parameters, {"lr": work.learning_rate})
        self._work = work

    def step(self, closure: Any = None) -> None:
        """Take one step along each parameter's gradient; ``closure`` is torch's and has no use here."""
        del closure
        work = self._work
        for group in self.param_groups:
            for parameter in group["params"]:
                state, g = self.state[parameter], parameter.grad
                if not state:
                    state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(g)}
                    state["exp_avg_sq"] = torch.zeros_like(g)
                state["step"] += 1
                first, second, count = state["exp_avg"], state["exp_avg_sq"], int(state["step"])
                first.lerp_(g, 1 - work.momentum)
                corrected = second
                if work.optimizer == "yogi":
                    second.sub_((1 - work.beta2) * torch.sign(second - g**2) * g**2)
                    corrected = second / (1 - work.beta2**count)
                else:
                    second.add_(g**2)
                parameter.mul_(1 - group["lr"] * work.weight_decay)
                moved = first / (1 - work.momentum**count)
                parameter.addcdiv_(moved, corrected.sqrt() + work.epsilon, value=-group["lr"])


class ServerOptimizer:
    """Holds the global weights, their moving average, and the optimizer's state.

    Attributes
    ----------
    vector : float32 (P + Q,), the global weights: P parameters, then Q running statistics of BatchNorm.
    average : float32 (P + Q,), their moving average; equal to ``vector`` when ``work.ema`` is 0.

    Parameters
    ----------
    parameters : P, all by default. Running statistics take the mean update as it is: an optimizer would drive
        variances below 0.
    """

    def __init__(self, work: ServerWork, vector: torch.Tensor, parameters: int | None = None) -> None:
        self.work = work
        self.vector = vector.clone()
        self.average = vector.clone()
        self._parameter = self.vector[:parameters]
        self._statistics = self.vector[len(self._parameter) :]
        if work.optimizer == "adam":
            self._optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                [self._parameter],
                betas=(work.momentum, work.beta2),
                eps=work.epsilon,
                weight_decay=work.weight_decay,
            )
        elif work.optimizer in ("yogi", "adagrad"):
            self._optimizer = _Adaptive([self._parameter], work)
        else:
            self._optimizer = torch.optim.SGD(
                [self._parameter], momentum=work.momentum, weight_decay=work.weight_decay
            )

    @property
    def parameters(self) -> int:
        """P, how many of the weights are parameters; the rest are running statistics."""
        return len(self._parameter)

    def step(self, mean_delta: torch.Tensor, round_number: int) -> None:
        """Apply the mean update (P,) of a round: its negative is the pseudo-gradient (Reddi et al. 2021)."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.work, round_number)
        delta = mean_delta.to(self.vector)
        self._parameter.grad = -delta[: len(self._parameter)]
        with torch.no_grad():
            self._optimizer.step()
            self._statistics.add_(delta[len(self._parameter) :])
        decay = min(self.work.ema, (1 + round_number) / (10 + round_number))
        self.average.lerp_(self.vector, 1 - decay)

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything a checkpoint needs, as named tensors."""
        held = self._optimizer.state.get(self._parameter, {})
        moments = {f"optimizer.{k}": torch.as_tensor(v) for k, v in held.items() if v is not None}
        return {"vector": self.vector, "average": self.average, **moments}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take up the state of a checkpoint."""
        self.vector.copy_(state["vector"])
        self.average.copy_(state["average"])
        moments = {k.removeprefix("optimizer."): v for k, v in state.items() if k.startswith("optimizer.")}
        if moments:
            self._optimizer.state[self._parameter] = moments
