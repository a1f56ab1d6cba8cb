"""What the machine has: processors and threads, memory, disk, a browser, CUDA, and what stands in a site's way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from simulations.doctor.finding import Finding

GIB = 1 << 30
LEAST_MEMORY, LEAST_DISK, LEAST_TEMPORARY = 2 * GIB, 5 * GIB, 2 * GIB
"""Bytes below which the quickstart, some runs, and a store of pictures have no room."""

SLOW_SYNC = 0.1
"""Seconds for one synced write above which a ledger's entries are felt."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST_SOCKET = 100
"""Bytes of the path of a site's socket that systems take."""

CGROUP = Path("/sys/fs/cgroup")


def look(folder: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Look at the machine, for work in ``folder``."""
    yield from of_processors(environment)
    yield of_memory()
    yield from of_disk(folder)
    yield of_keeping(folder)
    yield of_browser()
    yield of_cuda()
    yield from of_proxies(environment)


def cores() -> tuple[int, float]:
    """Return how many processors the machine shows, and how many this process may use."""
    shown = os.cpu_count() or 1
    usable = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(shown)
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        usable = min(usable, int(quota) / int(period))
    return shown, usable


def of_processors(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look how many processors may be used, and whether somebody else uses them."""
    shown, usable = cores()
    if usable < shown:
        told = f"{shown} processors, of which this process may use {usable:g}"
        cure = f"Give engine.workers={max(1, int(usable))}: else it starts {shown}."
        yield Finding("processors", "warning", told, cure)
    else:
        yield Finding("processors", "ok", f"{shown} processors, {torch.get_num_threads()} threads of torch")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > shown:
        cure = "Measure no speeds now; results stay the same to the last bit."
        yield Finding("processors", "note", f"busy: {load:.1f} processes want {shown} processors", cure)
    threads = environment.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > usable:
        told = f"OMP_NUM_THREADS={threads} on {usable:g} processors"
        yield Finding("processors", "warning", told, "Unset it: sites run one thread each anyway.")


def of_memory() -> Finding:
    """Look how much memory is left."""
    lines = dict(line.split(":", 1) for line in _read(Path("/proc/meminfo")).splitlines() if ":" in line)
    free = int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    if not free:
        return Finding("memory", "note", "this system does not tell how much memory is left")
    told = f"{free / GIB:.1f} GiB of memory left"
    if free < LEAST_MEMORY:
        cure = "Use engine.workers=1, or end other programs: a run takes 1 to 2 GiB."
        return Finding("memory", "warning", told, cure)
    return Finding("memory", "ok", told)


def of_disk(folder: Path) -> Iterator[Finding]:
    """Look how much room there is for runs, and for what is mapped while they run."""
    for what, where, least, cure in (
        ("runs", folder, LEAST_DISK, "Free some, or give --run-dir on another disk."),
        ("temporary files", Path(tempfile.gettempdir()), LEAST_TEMPORARY, "Free some, or set TMPDIR."),
    ):
        free = shutil.disk_usage(where).free
        told = f"{free / GIB:.1f} GiB of disk for {what}"
        yield Finding("disk", "warning", told, cure) if free < least else Finding("disk", "ok", told)


def of_keeping(folder: Path) -> Finding:
    """Look whether keys and ledgers can be kept in a folder: access modes hold, writes reach the disk, SQLite works."""
    try:
        with tempfile.TemporaryDirectory(prefix=".fedfer-doctor-", dir=folder) as name:
            file = Path(name, "key")
            began = time.perf_counter()
            with file.open("wb") as stream:
                stream.write(bytes(32))
                stream.flush()
                os.fsync(stream.fileno())
            took = time.perf_counter() - began
            file.chmod(0o600)
            closed = stat.S_IMODE(file.stat().st_mode) == 0o600
            with sqlite3.connect(Path(name, "ledger.sqlite")) as ledger:
                ledger.execute("CREATE TABLE entries (number INTEGER)")
            ledger.close()
    except (OSError, sqlite3.Error) as error:
        told = f"nothing can be kept in this folder: {error}"
        return Finding("disk", "error", told, "Work in a folder that you may write to.")
    if not closed:
        cure = "Keep sites and coordinators on a disk with access modes, such as ext4: keys are refused here."
        return Finding("disk", "warning", "this file system holds no access modes", cure)
    if len(os.fsencode(folder.resolve())) > LONGEST_SOCKET - len("/site/agent.sock"):
        cure = "Keep a site's folder nearer to the root: the path of its socket would be too long."
        return Finding("disk", "note", "a long path to this folder", cure)
    if took > SLOW_SYNC:
        cure = (
            "A ledger waits so long for each round; a disk in the machine is faster than one in the network."
        )
        return Finding("disk", "note", f"a synced write takes {took:.2f} s", cure)
    return Finding(
        "disk", "ok", f"keys and ledgers can be kept here; a synced write takes {1e3 * took:.1f} ms"
    )


def of_browser() -> Finding:
    """Look for a browser, which only the tests of pages need."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        cure = "Only tests of pages need one: they are skipped. Reports open in any browser, on any machine."
        return Finding("browser", "note", "no Chrome or Chromium on the PATH", cure)
    return Finding("browser", "ok", f"{found}, for the tests of pages")


def of_cuda() -> Finding:
    """Look for a GPU that torch can use."""
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count()))
        return Finding("CUDA", "ok", f"{names}; engine.device=auto takes it")
    if any(Path("/dev").glob("nvidia[0-9]*")):
        cure = f"Install a driver for CUDA {torch.version.cuda}, or a torch for yours; until then engine.device=cpu."
        return Finding("CUDA", "warning", "a GPU that torch cannot use", cure)
    return Finding("CUDA", "ok", "no GPU, and none is needed: engine.device=cpu")


def of_proxies(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look for a proxy that would be asked for the machine itself."""
    lower = {name.lower(): value for name, value in environment.items()}
    proxies = [name for name in ("https_proxy", "http_proxy", "all_proxy") if lower.get(name)]
    exempt = lower.get("no_proxy", "")
    if proxies and not ("127.0.0.1" in exempt and "localhost" in exempt):
        told = f"{proxies[0].upper()} is set, and not left out for this machine itself"
        yield Finding(
            "network", "warning", told, "For sites and coordinators set NO_PROXY=127.0.0.1,localhost."
        )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
