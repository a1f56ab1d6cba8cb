"""Seconds of a federated round on peers: pfl (pfl-research) and Flower's own simulation on Ray.

``python -m simulations.bench.peers PEER MODEL SITES PICTURES`` measures one of them in a process of its own. Its
rounds alternate with those of the bare loop: the same net, pictures, batches, learning rate and evaluation. Each is
used as its documentation shows it, on one core, without what the work does not need, such as validation at sites.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fer_models.zoo import build
from simulations.bench.bare import BareLoop
from simulations.bench.rounds import Case, Timing

ROUNDS = {"pfl": 5, "ray": 3}
"""Rounds of a peer whose smallest time counts, after one to warm up."""

EXTRAS = {"pfl": "peers", "ray": "ray"}
"""Peer -> the extra of this package that installs it."""

BATCH = 256
"""Test pictures an evaluation takes at a time."""


def installed(peer: str) -> bool:
    """Return whether a peer can be imported."""
    return importlib.util.find_spec(peer) is not None


class Alternation:
    """Times a peer's rounds and runs a bare round after each."""

    def __init__(self, case: Case) -> None:
        self.bare = case.bare(case.samples())
        self.peer, self.own = Timing([], []), Timing([], [])
        self._began = Timing.now()

    def begin(self) -> None:
        """Start the clock of the peer's first round."""
        self._began = Timing.now()

    def round_ended(self) -> None:
        """Stop the peer's clock, run a bare round, and start the peer's clock again."""
        self.peer.add(self._began)
        start = Timing.now()
        self.bare.round()
        self.own.add(start)
        self.begin()

    def figures(self, weights: list[Tensor]) -> dict[str, float]:
        """Return the smallest wall time over the bare loop's, without the first round, and how far weights differ."""
        apart = [float((a - b).abs().max()) for a, b in zip(weights, self.bare.weights, strict=True)]
        return {"ratio": min(self.peer.wall[1:]) / min(self.own.wall[1:]), "difference": max(apart)}


def hits(model: nn.Module, test: tuple[Tensor, Tensor]) -> int:
    """Return how many test pictures a net gets right, by itself and its mirror image as the bare loop does."""
    return round(BareLoop.evaluate_on(model, test) * len(test[1]))


class Losing(nn.Module):
    """A net with the two methods that pfl asks of one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def loss(self, x: Tensor, y: Tensor, eval: bool = False) -> Tensor:  # noqa: ARG002 - pfl's signature
        """Return the mean loss of a batch."""
        return functional.cross_entropy(self.net(x), y)

    def metrics(self, x: Tensor, y: Tensor, eval: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Return the hits on a batch, as pfl adds them up."""
        from pfl.metrics import Weighted

        return {"accuracy": Weighted(hits(self.net, (x, y)), len(y))}


def pfl(case: Case) -> dict[str, float]:
    """Return the figures of pfl: federated averaging in one process."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
    from pfl.callback.base import TrainingProcessCallback
    from pfl.callback.central_evaluation import CentralEvaluationCallback
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    alternation, plan = Alternation(case), case.plan(1)
    net = Losing(build(plan.model, plan.seed))
    sites = alternation.bare.sites

    class Clock(TrainingProcessCallback):
        def on_train_begin(self, *, model: Any) -> Any:  # noqa: ARG002
            alternation.begin()
            return Metrics()

        def after_central_iteration(self, metrics: Any, model: Any, *, central_iteration: int) -> Any:  # noqa: ARG002
            alternation.round_ended()
            return False, Metrics()

    users = FederatedDataset(
        lambda user: Dataset(sites[user], user_id=str(user)),
        get_user_sampler("minimize_reuse", list(range(case.sites))),
    )
    evaluation = NNEvalHyperParams(local_batch_size=BATCH)
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=ROUNDS["pfl"] + 1,
            evaluation_frequency=10**6,
            train_cohort_size=case.sites,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=users, val_data=users, postprocessors=[WeightByDatapoints()]),
        PyTorchModel(
            model=net,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(net.parameters(), 1.0),
        ),
        NNTrainHyperParams(
            local_learning_rate=plan.local.learning_rate,
            local_num_epochs=1,
            local_batch_size=plan.local.batch,
        ),
        evaluation,
        callbacks=[
            CentralEvaluationCallback(
                Dataset(alternation.bare.test), model_eval_params=evaluation, frequency=1
            ),
            Clock(),
        ],
    )
    return alternation.figures([p.detach() for p in net.net.parameters()])


@functools.lru_cache(maxsize=1)
def _at_site(case: Case) -> BareLoop:
    """Return the net and the sites' pictures, made once a process."""
    torch.set_num_threads(1)
    return case.bare(case.samples())


def _trained(case: Case, site: int, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Train one epoch at a site; return the net's state and the site's number of pictures."""
    loop, plan = _at_site(case), case.plan(1)
    x, y = loop.sites[site]
    loop.model.load_state_dict(state)
    for i in range(0, len(y), plan.local.batch):
        loop.optimizer.zero_grad()
        part = slice(i, i + plan.local.batch)
        functional.cross_entropy(loop.model(x[part]), y[part]).backward()
        loop.optimizer.step()
    return loop.model.state_dict(), len(y)


def ray(case: Case) -> dict[str, float]:
    """Return the figures of Flower's simulation on Ray with its own FedAvg and one worker."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server = ClientApp(), ServerApp()
    alternation, final = Alternation(case), dict[str, Any]()

    @client.train()
    def _train(message: Message, context: Context) -> Message:
        site = int(context.node_config["partition-id"])
        arrays = message.content["arrays"]
        assert isinstance(arrays, ArrayRecord)
        state, count = _trained(case, site, arrays.to_torch_state_dict())
        content = {"arrays": ArrayRecord(state), "metrics": MetricRecord({"num-examples": count})}
        return Message(RecordDict(content), reply_to=message)

    @server.main()
    def _main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        plan = case.plan(1)
        net = build(plan.model, plan.seed)

        def evaluate(round_number: int, arrays: ArrayRecord) -> MetricRecord:
            net.load_state_dict(arrays.to_torch_state_dict())
            right = hits(net, alternation.bare.test)
            if round_number:
                alternation.round_ended()
            else:
                alternation.begin()
            return MetricRecord({"right": right})

        count = case.sites
        strategy = FedAvg(1.0, 0.0, min_train_nodes=count, min_available_nodes=count)
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(net.state_dict()),
            num_rounds=ROUNDS["ray"] + 1,
            evaluate_fn=evaluate,
        )
        final["weights"] = [p.detach() for p in net.parameters()]

    logging.getLogger("flwr").setLevel(logging.ERROR)
    resources = {"num_cpus": 1, "num_gpus": 0.0}
    started = {"num_cpus": 1, "logging_level": logging.ERROR, "log_to_driver": False}
    run_simulation(
        server, client, case.sites, backend_config={"client_resources": resources, "init_args": started}
    )
    return alternation.figures(final["weights"])


PEERS: dict[str, Callable[[Case], dict[str, float]]] = {"pfl": pfl, "ray": ray}


def main(words: list[str]) -> None:
    """Measure one peer and print its figures."""
    peer, model, sites, pictures = words
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002 - pfl and Flower draw from it
    began = time.perf_counter()
    found = PEERS[peer](Case(model, int(sites), int(pictures)))
    sys.stdout.write(json.dumps(found | {"seconds": time.perf_counter() - began}) + "\n")


if __name__ == "__main__":
    from simulations.bench import peers  # by its name, so that Ray's workers find what they unpickle

    peers.main(sys.argv[1:])
