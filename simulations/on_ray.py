"""Runs a plan over simulated sites on Ray: in Flower's own simulation, or on the machines of a cluster."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from flwr.app import Context

from client.agent import Agent
from client.app import make_app
from client.ledger import close_all
from client.limits import Limit
from client.plan import Plan
from client.secure_site import SecureSite
from fer_models.errors import EngineError
from fer_models.samples import Samples
from server.app import make_app as make_server_app
from server.results import Result
from server.rounds import Coordinator, Observer
from server.run_folder import RunFolder
from simulations.federated import Sites, grid_of, kept_in, node_configs, require_engine, run_local
from simulations.partition import Partition
from simulations.settings import EngineSettings
from simulations.threads import one_thread

CLUSTER = "cluster.json"
"""File of a run folder: for every system, which machine of the cluster answered how many messages."""


@dataclass(frozen=True)
class SavedSites:
    """Sites whose pictures lie in a folder, for workers that cannot share memory."""

    folder: Path
    seed: int
    ledgers: Path
    device: str
    limit: Limit | None
    opted_out: frozenset[int] = frozenset()

    def __call__(self, context: Context) -> Agent:
        """Return the agent that answers for a node, made once a process."""
        return _opened(self)(context)

    def secure(self, context: Context) -> SecureSite:
        """Return a node's part in secure aggregation."""
        return _opened(self).secure(context)


@functools.lru_cache(maxsize=1)
def _opened(saved: SavedSites) -> Sites:
    torch.set_num_threads(1)
    samples = Samples.load(saved.folder / "samples")
    partition = Partition.load(saved.folder / "partition")
    sessions = saved.folder / "sessions"
    return Sites(
        samples,
        partition,
        saved.seed,
        saved.ledgers,
        saved.device,
        saved.limit,
        sessions,
        opted_out=saved.opted_out,
    )


def run_ray(
    plan: Plan,
    sites: Sites,
    folder: RunFolder,
    system: str,
    workers: int,
    observer: Observer,
    together: int = 1,
    initial: torch.Tensor | None = None,
    *,
    transcripts: bool = False,
) -> Result:
    """Run a plan with ``engine=ray``, Flower's own simulation; parameters as in :func:`run_local`.

    Raises
    ------
    EngineError : the extra is not installed, or the simulation ended without a result.
    ConfigError : ``together`` is above 1.
    """
    require_engine("ray", workers, together)
    from flwr.simulation import run_simulation

    box: list[Result | BaseException] = []
    everybody = sites.partition.sites
    kept = kept_in(folder, plan, sites) if transcripts else None
    coordinator = Coordinator(plan, folder, system, observer, initial, everybody, sites.roster, kept)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns at every start
    with tempfile.TemporaryDirectory(prefix="fedfer-") as temporary:
        sites.samples.save(Path(temporary) / "samples")
        sites.partition.save(Path(temporary) / "partition")
        (Path(temporary) / "sessions").mkdir()
        ledgers = sites.ledgers or Path(temporary) / "ledger"
        saved = SavedSites(Path(temporary), sites.seed, ledgers, sites.device, sites.limit, sites.opted_out)
        resources = {"num_cpus": 1, "num_gpus": 1.0 if sites.device == "cuda" else 0.0}
        run_simulation(
            make_server_app(coordinator, box.append),
            make_app(saved, saved.secure),
            sites.partition.sites,
            backend_config={
                "client_resources": resources,
                "init_args": {"num_cpus": workers, "logging_level": logging.ERROR, "log_to_driver": False},
            },
        )
    if box and isinstance(box[0], Result):
        return box[0]
    if box and isinstance(box[0], BaseException):
        raise box[0]
    raise EngineError("the simulation ended without a result", where="engine=ray", cure="Use engine=local.")


def run_cluster(
    plan: Plan,
    sites: Sites,
    folder: RunFolder,
    system: str,
    workers: int,
    observer: Observer,
    together: int = 1,
    initial: torch.Tensor | None = None,
    *,
    transcripts: bool = False,
    address: str,
) -> Result:
    """Run a plan on the Ray cluster at ``address``; other parameters as in :func:`run_local`, ``workers`` 0 for all.

    Raises
    ------
    EngineError : nobody answers there, the machines differ, or all workers have died.
    """
    require_engine("ray", workers, together, sites.dropout, address)
    from simulations.cluster import ClusterPool, connected

    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedfer-")))
        stack.callback(close_all)  # before the folder goes
        sites = replace(sites, sessions=place / "sessions", ledgers=sites.ledgers or place / "ledger")
        stack.enter_context(connected(address))
        stack.enter_context(one_thread())
        pool = ClusterPool(sites, workers, together)
        grid = grid_of(sites, node_configs(sites), 1, together, pool)
        stack.callback(grid.close)
        kept = kept_in(folder, plan, sites) if transcripts else None
        coordinator = Coordinator(
            plan, folder, system, observer, initial, roster=sites.roster, transcripts=kept
        )
        result = coordinator.run(grid)
        folder.write_json(CLUSTER, {**(folder.read_json(CLUSTER) or {}), system: pool.told()})
        return result


def runner(engine: EngineSettings) -> functools.partial[Result]:
    """Return what runs a plan on an engine."""
    if engine.address:
        return functools.partial(run_cluster, address=engine.address)
    return functools.partial({"local": run_local, "ray": run_ray}[engine.name])
