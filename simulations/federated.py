"""Runs a plan over simulated sites, on an engine: in this machine's processes, or on Flower's own."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context, MessageType, RecordDict
from flwr.serverapp import Grid

from client.accounting import cross_check
from client.agent import Agent
from client.app import evaluate_many, make_app, train_many
from client.identity import Identity, Roster
from client.judging import evaluate_sites
from client.ledger import Ledger, close_all
from client.limits import Limit
from client.plan import Plan
from client.randomness import SeededEntropy
from client.scaffold import Variates
from client.secagg.journal import MemoryJournal
from client.secagg.policy import Policy
from client.secure_app import evaluate_secure, train_secure
from client.secure_site import Membership, SecureSite
from client.workbench import Benches
from fer_models.counts import Counts
from fer_models.errors import ConfigError, EngineError, FedferError
from fer_models.labels import UNDISCLOSED
from fer_models.samples import Samples
from server.results import Result
from server.rounds import Coordinator, Observer
from server.run_folder import RunFolder
from server.secagg.transcript import TRANSCRIPTS, Transcripts
from server.sessions import WORK
from simulations.faults import Dropouts
from simulations.grid import LocalGrid, Pool
from simulations.partition import Partition
from simulations.pooled_private import of_the_net
from simulations.threads import one_thread
from simulations.units import Units
from simulations.workers import Answer


@dataclass(frozen=True)
class Sites:
    """All sites of a simulation; picklable, so that it can move to another process.

    Attributes
    ----------
    samples, partition : everybody's pictures, and who holds which.
    seed : of all the sites' randomness.
    ledgers : folder of the privacy ledgers, None drops them after the run: kept in memory, or in a folder of the run's
        own where several processes answer for a site.
    device : "cpu" or "cuda".
    limit : what every site lets itself be charged, None for no limit.
    sessions : folder where the sites' sessions of secure aggregation are kept while they may be answered from
        several processes, None keeps them in memory.
    dropout : share of the messages of secure aggregation that get lost.
    opted_out : sites that tell nobody's group.
    variates : folder of the sites' control variates, None keeps them in memory, or in a folder of the run's own where
        several processes answer for a site.
    """

    samples: Samples
    partition: Partition
    seed: int
    ledgers: Path | None
    device: str = "cpu"
    limit: Limit | None = None
    sessions: Path | None = None
    dropout: float = 0.0
    opted_out: frozenset[int] = frozenset()
    variates: Path | None = None

    @property
    def names(self) -> list[str]:
        """Site names, padded so that their order is the order of their numbers."""
        width = len(str(self.partition.sites - 1))
        return [f"site-{i:0{width}d}" for i in range(self.partition.sites)]

    @functools.cached_property
    def _benches(self) -> Benches:
        return Benches(torch.device(self.device))

    @functools.cached_property
    def _agents(self) -> dict[int, Agent]:
        return {}

    def agent(self, site: int) -> Agent:
        """Return a site's agent; one a process."""
        if site not in self._agents:
            name = self.names[site]
            self._agents[site] = Agent(
                name,
                self.samples,
                self.partition.rows(site, self.samples, "train"),
                self.partition.rows(site, self.samples, "test"),
                entropy=SeededEntropy(self.seed, name),
                ledger=Ledger(self.ledgers / f"{name}.sqlite" if self.ledgers else None, name, self.limit),
                benches=self._benches,
                opted_out=site in self.opted_out,
                variates=Variates(self.variates / name if self.variates else None),
            )
        return self._agents[site]

    @property
    def told(self) -> Samples:
        """The pictures, with the groups that the sites tell: none where they have opted out."""
        silent = np.isin(self.partition.site, list(self.opted_out))
        groups = self.samples.groups.items()
        return replace(
            self.samples, groups={name: np.where(silent, UNDISCLOSED, column) for name, column in groups}
        )

    def pictures(self, split: str) -> float:
        """Return the mean number of pictures of a site in a split."""
        return int((self.samples.split == split).sum()) / self.partition.sites

    def verify_ledgers(self, delta: float) -> None:
        """Verify every ledger from its first entry, ask two accountants, and leave one file each.

        Raises
        ------
        PrivacyError : a ledger is damaged, or the accountants disagree.
        """
        for name in self.names if self.ledgers else []:
            assert self.ledgers is not None
            cross_check(Ledger(self.ledgers / f"{name}.sqlite", name).history(), delta)
        close_all()

    def __call__(self, context: Context) -> Agent:
        """Return the agent that answers for a node."""
        return self.agent(int(context.node_config["partition-id"]))

    # Secure aggregation

    @functools.cached_property
    def _identities(self) -> dict[str, Identity]:
        return {name: Identity(SeededEntropy(self.seed, name).key(0, "identity")) for name in self.names}

    @functools.cached_property
    def roster(self) -> Roster:
        """Everybody's public keys."""
        return Roster({name: identity.public for name, identity in self._identities.items()})

    @functools.cached_property
    def _members(self) -> dict[int, SecureSite]:
        return {}

    def secure(self, context: Context) -> SecureSite:
        """Return a node's part in secure aggregation; one a process."""
        site = int(context.node_config["partition-id"])
        if site not in self._members:
            name = self.names[site]
            policy = Policy(profile="semi-honest", simulated=True)
            store = self.sessions / f"{name}.json" if self.sessions else None
            membership = Membership(self._identities[name], self.roster, policy, MemoryJournal(), store)
            self._members[site] = SecureSite(self.agent(site), membership)
        return self._members[site]

    def many(
        self, kind: str, contexts: list[Context], contents: list[RecordDict], *, one_pass: bool
    ) -> Sequence[RecordDict | FedferError]:
        """Answer a message for several sites of this process, trained in one pass or one after the other."""
        if kind == MessageType.TRAIN:
            return train_many([self(c) for c in contexts], contents, one_pass=one_pass)
        if kind == MessageType.EVALUATE:
            return evaluate_many([self(c) for c in contexts], contents[0])
        members = [self.secure(context) for context in contexts]
        if kind == WORK["train"]:
            return train_secure(members, contents, one_pass=one_pass)
        return evaluate_secure(members, contents)


def choose_device(wanted: str) -> str:
    """Return "cpu" or "cuda"; "auto" takes CUDA where there is one."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"unknown device {wanted!r}", where="engine.device", cure="Use auto, cpu or cuda.")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EngineError("no CUDA device is available", where="engine.device", cure="Use engine.device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def require_engine(name: str, workers: int, together: int, dropout: float = 0.0, address: str = "") -> None:
    """Refuse an engine that cannot run, before anything does.

    Raises
    ------
    ConfigError : an unknown engine, or a number it cannot take.
    EngineError : the engine's extra is not installed.
    """
    if name not in ("local", "ray"):
        raise ConfigError(f"unknown engine {name!r}", where="engine.name", cure="Use local or ray.")
    if address and name != "ray":
        raise ConfigError(
            "an address of a cluster needs Ray", where="engine.address", cure="Use engine=ray with it."
        )
    if workers < 0:
        raise ConfigError(
            f"{workers} workers", where="engine.workers", cure="Give 1 or more, or 0 for all cores."
        )
    if together < 1:
        raise ConfigError(f"{together} sites in one pass", where="engine.together", cure="Give 1 or more.")
    if not 0 <= dropout < 1:
        raise ConfigError(f"a dropout of {dropout}", where="engine.dropout", cure="Give a share below 1.")
    if name == "ray" and not address and dropout > 0:
        raise ConfigError(
            "Ray loses no messages on purpose",
            where="engine.dropout",
            cure="Use engine.dropout=0 or engine=local.",
        )
    if name == "ray" and not address and together > 1:
        raise ConfigError(
            "Ray serves sites one by one",
            where="engine.together",
            cure="Use engine.together=1 or engine=local.",
        )
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise EngineError(
            "engine=ray needs Ray", where="engine", cure="Install it with: pip install 'fedfer[ray]'."
        )
    if address:
        from simulations.cluster import require_reachable

        require_reachable(address)


@contextlib.contextmanager
def local_grid(sites: Sites, workers: int, together: int = 1) -> Iterator[Grid]:
    """Open a grid over this machine's processes; CUDA is served by one.

    Parameters
    ----------
    together : sites that are trained in one pass.
    """
    configs = node_configs(sites)
    processes = 1 if sites.device == "cuda" else workers
    with contextlib.ExitStack() as stack:
        if processes > 1:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedfer-")))
            stack.callback(close_all)  # before the folder goes
            kept = sites.sessions or folder, sites.ledgers or folder / "ledger"
            variates = sites.variates or folder / "variates"
            sites = replace(sites, sessions=kept[0], ledgers=kept[1], variates=variates)
        yield from _opened_grid(sites, configs, processes, together)


def _opened_grid(
    sites: Sites, configs: dict[int, dict[str, int]], processes: int, together: int
) -> Iterator[Grid]:
    with one_thread():
        grid = grid_of(sites, configs, processes, together)
        try:
            yield grid
        finally:
            grid.close()


def grid_of(
    sites: Sites, configs: dict[int, dict[str, int]], processes: int, together: int, pool: Pool | None = None
) -> LocalGrid:
    """Return a grid over these sites, in processes or, in their place, a pool elsewhere."""
    many = functools.partial(sites.many, one_pass=together > 1)
    units = Units(sites.pictures("train"), sites.pictures("test"), together)
    lost = Dropouts(sites.dropout, sites.seed)
    app = make_app(sites, sites.secure)
    return LocalGrid(app, configs, processes, together=many, units=units, lost=lost, pool=pool)


def answer_of(sites: Sites, together: int) -> Answer:
    """Return what answers for these sites in a process on another machine."""
    return grid_of(sites, node_configs(sites), 1, together).answerer()


def node_configs(sites: Sites) -> dict[int, dict[str, int]]:
    """Return Flower's node configurations: node id, counted from 1, -> which site it is, of how many."""
    count = sites.partition.sites
    return {i + 1: {"partition-id": i, "num-partitions": count} for i in range(count)}


def run_local(
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
    """Run a plan with ``engine=local``.

    Parameters
    ----------
    initial : weights to start from, the seed's own when None.
    transcripts : keep the sessions of secure aggregation in the run folder.
    """
    kept = kept_in(folder, plan, sites) if transcripts else None
    with local_grid(sites, workers, together) as grid:
        coordinator = Coordinator(
            plan, folder, system, observer, initial, roster=sites.roster, transcripts=kept
        )
        return coordinator.run(grid)


def kept_in(folder: RunFolder, plan: Plan, sites: Sites) -> Transcripts:
    """Return what keeps the transcripts of a run in its folder."""
    return Transcripts(folder.path / TRANSCRIPTS, plan, sites.roster)


def counts_by_site(
    sites: Sites, plan: Plan, vector: torch.Tensor, *, people: bool = False
) -> dict[str, Counts]:
    """Return each site's counts of its test pictures for weights (P + Q,) of the net alone, outside of any protocol.

    Only who holds all sites' pictures can do this: a simulation, for its own report.

    Parameters
    ----------
    people : whether the sums over the people on the pictures, or over what else the table names, go with the counts.
    """
    plan = of_the_net(plan)
    alone = replace(sites, ledgers=None, limit=None)  # nothing is released, so no ledger is asked
    agents = [alone.agent(site) for site in range(sites.partition.sites)]
    with one_thread():
        found = evaluate_sites(agents, plan, vector.numpy(), prove=False, people=people)
    return dict(zip(sites.names, found, strict=True))
