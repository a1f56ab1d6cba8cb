"""A coordinator and its sites as real processes on this machine: what ``fedfer bench deploy`` measures and kills."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.alone import holder
from client.flower import environment
from client.plan import Plan
from client.relay import status
from client.site_data import REHEARSAL
from client.site_folder import SiteFolder
from client.site_process import last_error
from client.study import read_study
from fer_models.errors import EngineError
from server.coordinator import Coordinator
from server.following import Event, followed, start
from server.patience import Patience
from server.run_folder import RunFolder
from server.run_state import LOCK
from server.studying import keep_patience, prepared
from server.superlink import Running, control, nodes
from simulations.compose import composed
from simulations.rehearsal import deal

CONNECTING = 1200.0
"""Seconds that everybody may take to connect."""

TICKS = os.sysconf("SC_CLK_TCK")


class Loopback:
    """A study of dealt pictures, of which every part is a process of its own.

    Use as a context manager; what was started ends with it.

    Parameters
    ----------
    folder : new; short, as an agent's socket lies in it.
    words : settings of the pictures and of the plan, in Hydra's form.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.folder, self._processes = folder, dict[str, subprocess.Popen[bytes]]()
        settings, _ = composed(words)
        for _ in deal(settings, folder / "dealt"):
            pass
        now, path = datetime.datetime.now(datetime.UTC), folder / "study"
        self.coordinator = Coordinator.make(path, "study", ["localhost"], _free_ports(), now)
        self.sites = [self._enrolled(f"site-{i}", now) for i in range(settings.partition.sites)]
        study = read_study(path / "study.json")
        for site in self.sites:
            site.join(study, study.fingerprint)

    def _enrolled(self, name: str, now: datetime.datetime) -> SiteFolder:
        site = SiteFolder.make(self.folder / name, name, REHEARSAL, str(self.folder / "dealt" / name))
        self.coordinator.approve(site.enrol(), now)
        return site

    def __enter__(self) -> Loopback:
        self._before = signal.signal(signal.SIGTERM, _ended)  # else it would leave all that it has started
        try:
            self.start()
            self.wait(len(self.sites))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(60)
            finally:
                process.kill()

    def start(self) -> None:
        """Start what does not run: the coordinator's supervisor, and every site's."""
        wanted = {"server": ("-m", "simulations.cli", "server", "start", str(self.coordinator.path))}
        wanted |= {site.name: ("-m", "client.site_process", str(site.path)) for site in self.sites}
        for name, words in wanted.items():
            known = self._processes.get(name)
            if known is None or known.poll() is not None:
                with (self.folder / f"{name}.log").open("ab") as log:
                    self._processes[name] = subprocess.Popen(
                        [sys.executable, "-W", "ignore", *words],
                        env=environment(self.folder / "home"),
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # Ctrl-C is for this process, which ends them
                    )

    def wait(self, sites: int) -> None:
        """Wait until so many sites are connected.

        Raises
        ------
        EngineError : they do not connect.
        """
        end = time.monotonic() + CONNECTING
        while time.monotonic() < end:
            with contextlib.suppress(EngineError), control(self.coordinator) as client:
                if sum(node.status == "online" for node in nodes(client)) >= sites:
                    return
            for site in self.sites:
                if why := last_error(site):
                    raise EngineError(
                        f"{site.name} does not start: {why}", cure="Give more pictures, or fewer sites."
                    )
            time.sleep(0.5)
        raise EngineError("the sites do not connect", where=str(self.folder), cure="Look into its logs.")

    def run(self, plan: Plan, patience: Patience) -> Iterator[Event]:
        """Run a plan, or go on with it, and yield what happens."""
        folder = self.run_folder(plan)
        keep_patience(folder, patience)
        start(self.coordinator, folder)
        yield from followed(self.coordinator, folder)

    def run_folder(self, plan: Plan) -> RunFolder:
        """Return the run folder of a plan."""
        return prepared(self.coordinator, plan, self.folder / "run")

    def pids(self) -> dict[str, int]:
        """Return name -> process: superlink, superexec, gate, rounds, and SITE/agent and SITE/node of every site."""
        found = {each: pid for each, pid in Running(self.coordinator).read().items() if each != "supervisor"}
        if rounds := holder(self.folder / "run" / LOCK):
            found["rounds"] = rounds
        for site in self.sites:
            for pid in children(self._processes[site.name].pid):
                kind = "agent" if "client.agent_process" in command_of(pid) else "node"
                found[f"{site.name}/{kind}"] = pid
        return found

    def supervisors(self) -> dict[str, int]:
        """Return name -> process of what keeps the others alive: server, and every site."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def peak_mb(self) -> float:
        """Return the most memory that any site's agent has had, in 10^6 bytes."""
        found = (status(str(site.socket)) for site in self.sites)
        return max(peak_bytes(int(each["pid"])) for each in found if each) / 1e6


def _ended(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def children(parent: int) -> list[int]:
    """Return the processes that a process has started."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        return [int(word) for word in path.read_text().split()]
    except OSError:
        return []


def command_of(pid: int) -> str:
    """Return the words of a process, empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far, 0 where it has ended."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(facts[11]) + int(facts[12])) / TICKS


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had at a time."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def left_over(folder: Path) -> list[str]:
    """Return the commands of processes that are about a folder and still live."""
    own = os.getpid()
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [words for pid in pids if pid != own and str(folder) in (words := command_of(pid))]


def _free_ports() -> int:
    """Return a port that is free together with the next one."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("", 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + 1))
                return port
