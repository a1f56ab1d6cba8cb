"""Sites on the machines of a Ray cluster: a pool of one-thread workers that answer Flower messages.

The machine that starts a run keeps everything: the coordinator, the run folder, each site's ledger and open sessions.
A worker is sent messages together with the state of their sites, and returns answers together with the state after
them. So an answer counts whole or not at all: when a worker or its machine dies, its messages go to another one with
the state from before, and get the same answers, as a site's randomness depends on (seed, site, round) alone. No disk
is shared.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from flwr.app import Message

from client.ledger import close_all
from fer_models.errors import ConfigError, EngineError
from simulations.wire import Receiver, Sender, reply_of

if TYPE_CHECKING:
    from simulations.federated import Sites

State = dict[str, bytes]
"""Files of a site, "ledger/NAME.sqlite" and "sessions/NAME.json", by name."""

Answered = tuple[list[bytes], State]

WARM = 2
"""Units that a worker is given at a time, so that it need not wait for the next."""

ALONE = "Run fewer workers with engine.workers, look at ray status, and run again to resume."

WITHOUT_GPU = "Look at nvidia-smi and ray status on the machines, or use engine.device=cpu."


class Frames:
    """A connection to nowhere: what is sent can be taken away, what was brought can be received."""

    def __init__(self, frames: Sequence[bytes] = ()) -> None:
        self.frames = deque(frames)

    def send_bytes(self, data: bytes) -> None:
        """Keep a frame."""
        self.frames.append(data)

    def recv_bytes(self) -> bytes:
        """Return the next frame."""
        return self.frames.popleft()


def framed(units: list[list[Message]]) -> list[bytes]:
    """Return units of messages as frames of bytes."""
    frames = Frames()
    Sender(frames).send(units)  # type: ignore[arg-type]
    return list(frames.frames)


def unframed(frames: Sequence[bytes]) -> list[list[dict[str, Any]]]:
    """Return the heads of units of messages, contents included."""
    return Receiver(Frames(frames)).receive()  # type: ignore[arg-type]


class Worker:
    """Answers for sites in a process of its own, anywhere; Ray makes an actor of it.

    Parameters
    ----------
    sites : everybody's pictures.
    together : sites that are trained in one pass.
    """

    def __init__(self, sites: Sites, together: int) -> None:
        from simulations.federated import answer_of

        torch.set_num_threads(1)
        self._place = tempfile.TemporaryDirectory(prefix="fedfer-")
        self._folder = Path(self._place.name)
        for part in ("ledger", "sessions"):
            (self._folder / part).mkdir()
        places = {"ledgers": self._folder / "ledger", "sessions": self._folder / "sessions"}
        self._answer = answer_of(replace(sites, **places), together)

    def facts(self) -> dict[str, str]:
        """Return where this worker runs, and what has to be alike everywhere for equal bits."""
        import ray

        from simulations.doctor.versions import installed

        packages = {name: installed(name) or "" for name in ("fedfer", "torch", "numpy", "opacus")}
        own = {"node": ray.get_runtime_context().get_node_id(), "process": str(os.getpid())}
        return {**own, "cuda": str(torch.cuda.is_available()), **packages}

    def answer(self, names: list[str], state: State, *frames: bytes) -> Answered:
        """Answer a unit of messages.

        Parameters
        ----------
        names : files of its sites, whether they exist or not.
        state : those of them that somebody else has changed since this worker saw them.
        """
        for name, data in state.items():
            (self._folder / name).write_bytes(data)
        (heads,) = unframed(frames)
        replies = framed([self._answer(heads)])
        close_all()  # so that a ledger is one file, without its log
        found = {name: self._folder / name for name in names}
        return replies, {name: path.read_bytes() for name, path in found.items() if path.exists()}


class ClusterPool:
    """Workers of a Ray cluster that each answer a unit of messages at a time.

    Parameters
    ----------
    sites : everybody's pictures; their ledgers and sessions lie in folders of this machine.
    workers : how many, 0 for one on every processor of the cluster.
    together : sites that are trained in one pass.
    """

    def __init__(self, sites: Sites, workers: int, together: int) -> None:
        import ray

        assert sites.ledgers is not None and sites.sessions is not None
        self._ray, self._names = ray, sites.names
        self._folders = {"ledger": sites.ledgers, "sessions": sites.sessions}
        for folder in self._folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        gpus = 1.0 if sites.device == "cuda" else 0.0
        count = places(gpus)
        if not count:
            what = "no machine of the cluster has a GPU" if gpus else "the cluster has no place for a worker"
            raise EngineError(what, where="engine.address", cure=WITHOUT_GPU if gpus else ALONE)
        count = min(workers, count) if workers else count
        actor = ray.remote(Worker).options(num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD")
        held = ray.put(replace(sites, ledgers=None, sessions=None))
        self._workers: dict[int, Any] = {at: actor.remote(held, together) for at in range(count)}
        self.facts: dict[int, dict[str, str]] = dict(
            zip(self._workers, ray.get([each.facts.remote() for each in self._workers.values()]), strict=True)
        )
        require_alike(list(self.facts.values()))
        if gpus and any(each["cuda"] == "False" for each in self.facts.values()):
            what = "Ray counts a GPU on a machine of the cluster on which torch finds none"
            raise EngineError(what, where="engine.address", cure=WITHOUT_GPU)
        self._queue: deque[list[Message]] = deque()
        self._busy: dict[Any, tuple[int, list[Message]]] = {}  # reference to the answer -> worker, unit
        self._holder: dict[str, int] = {}  # site -> the worker that has its newest state
        self._sent: tuple[bytes, Any] | None = None
        self.answered: Counter[int] = Counter()
        self.lost = 0

    def submit(self, unit: list[Message]) -> None:
        """Queue a unit of messages."""
        self._queue.append(unit)

    def collect(self) -> list[Message]:
        """Hand out queued messages and wait until at least one reply is there; return the replies."""
        while True:
            self._dispatch()
            if not self._busy:
                return []
            (ready, *_), _ = self._ray.wait(list(self._busy), num_returns=1)
            worker, unit = self._busy.pop(ready)
            try:
                frames, state = self._ray.get(ready)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self._ray.exceptions.RayError:
                self._bury(worker, unit)
                continue
            return self._taken(worker, unit, frames, state)

    def _taken(self, worker: int, unit: list[Message], frames: list[bytes], state: State) -> list[Message]:
        for name, data in state.items():
            path = self._path(name)
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(data)
            part.chmod(0o600)
            part.replace(path)
        self._holder |= {self._site(message): worker for message in unit}
        self.answered[worker] += len(unit)
        asked = {message.metadata.message_id: message for message in unit}
        (heads,) = unframed(frames)
        return [reply_of(head, asked[head["answers"]]) for head in heads]

    def _dispatch(self) -> None:
        given = Counter(worker for worker, _ in self._busy.values())
        for depth in range(1, WARM + 1):
            for worker, actor in self._workers.items():
                if self._queue and given[worker] < depth:
                    given[worker] += 1
                    unit = self._queue.popleft()
                    self._busy[self._given(worker, actor, unit)] = worker, unit

    def _given(self, worker: int, actor: Any, unit: list[Message]) -> Any:
        first, *arrays = framed([unit])
        names: list[str] = []
        state: State = {}
        for site in map(self._site, unit):
            of_site = [f"ledger/{site}.sqlite", f"sessions/{site}.json"]
            names += of_site
            if self._holder.get(site) != worker:
                state |= {
                    name: self._path(name).read_bytes() for name in of_site if self._path(name).exists()
                }
        return actor.answer.remote(names, state, first, *map(self._shared, arrays))

    def _shared(self, data: bytes) -> Any:
        """Hand an array to Ray once a round: it brings it to each machine once."""
        if self._sent is None or self._sent[0] is not data:
            self._sent = data, self._ray.put(data)
        return self._sent[1]

    def _bury(self, worker: int, unit: list[Message]) -> None:
        """Give what a worker that has died was asked to the others.

        Raises
        ------
        EngineError : nobody is left.
        """
        self._queue.appendleft(unit)
        if worker in self._workers:
            self._ray.kill(self._workers.pop(worker))
            self.lost += 1
            self._holder = {site: holder for site, holder in self._holder.items() if holder != worker}
        if not self._workers:
            raise EngineError("all workers of the cluster have died", where="engine.address", cure=ALONE)

    def _site(self, message: Message) -> str:
        return self._names[message.metadata.dst_node_id - 1]

    def _path(self, name: str) -> Path:
        part, _, file = name.partition("/")
        return self._folders[part] / file

    def told(self) -> dict[str, Any]:
        """Return which machine answered how many messages, and how many workers were lost."""
        nodes: Counter[str] = Counter()
        for worker, count in self.answered.items():
            nodes[self.facts[worker]["node"]] += count
        return {"workers": len(self.facts), "lost": self.lost, "answers": dict(nodes)}

    def close(self) -> None:
        """End the workers."""
        for actor in self._workers.values():
            self._ray.kill(actor)


def places(gpus: float) -> int:
    """Return how many workers fit on the machines of the cluster, one processor and so many GPUs each."""
    import ray

    found = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        fit = int(has.get("CPU", 0))
        found += min(fit, int(has.get("GPU", 0) / gpus)) if gpus else fit
    return found


def require_alike(facts: Sequence[dict[str, str]]) -> None:
    """Refuse machines on which the same work could come to other bits.

    Raises
    ------
    EngineError : FedFER, torch, numpy or Opacus differ between machines.
    """
    for name in ("fedfer", "torch", "numpy", "opacus"):
        versions = sorted({each[name] for each in facts})
        if versions[1:]:
            raise EngineError(
                f"the machines of the cluster have {name} {' and '.join(versions)}",
                where="engine.address",
                cure="Install the same versions everywhere: constraints.txt has them.",
            )


def require_reachable(address: str) -> None:
    """Refuse an address at which nobody listens; Ray itself would try for more than a minute.

    Raises
    ------
    ConfigError : neither ``HOST:PORT`` nor "auto".
    EngineError : nobody listens there.
    """
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit() or "/" in host:
        raise ConfigError(
            f"{address!r} is no address",
            where="engine.address",
            cure="Write HOST:PORT as ray start says it, or auto.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _nobody(address) from error


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to the cluster at an address, ``HOST:PORT`` or "auto" for the one on this machine.

    Raises
    ------
    EngineError : no Ray answers there.
    """
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns at every start
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _nobody(address) from error
    try:
        yield
    finally:
        ray.shutdown()


def _nobody(address: str) -> EngineError:
    cure = (
        "Start one with ray start --head, or set RAY_AUTH_MODE=token where it asks for one: docs/cluster.md."
    )
    return EngineError(f"no Ray cluster answers at {address}", where="engine.address", cure=cure)
