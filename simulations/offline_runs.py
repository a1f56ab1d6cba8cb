"""Weights & Biases without a network: a run is written to a folder of this machine, and read from it again.

The package's own process writes one file a run, ``wandb/offline-run-DATE-ID/run-ID.wandb``, a log of records in
leveldb's format, and sends nothing: it is told to stay offline, and to report no crash of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.events import scalars
from server.run_folder import RunFolder
from simulations.retelling import KEPT, command, final, leaves, plain
from simulations.settings import Settings

PROJECT = "fedfer"

QUIET = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
"""Weights & Biases sends nothing, tells nobody of its own crashes, and prints nothing; not to be overruled."""

HEADER, BLOCK = struct.Struct("<IHB"), 32768
WHOLE, FIRST, LAST = 1, 2, 4
"""Of a log of records: what stands before a piece, bytes of a block, and kinds of pieces."""

PATIENCE = 30.0
"""Seconds that the package's own process may take to write the end of a run."""

COMMAND, FOLDER, ROUND = "fedfer.command", "fedfer.folder", "round"

Record = Mapping[str, Any]


class OfflineRun:
    """One offline run for a run folder; begun anew, with all earlier points, when the run is resumed.

    Parameters
    ----------
    place : the folder, there and absolute; runs lie in its ``wandb``.
    folder : the run folder.
    settings, systems : what runs.
    """

    def __init__(self, place: Path, folder: RunFolder, settings: Settings, systems: Sequence[str]) -> None:
        os.environ.update(QUIET)
        os.environ.setdefault("WANDB_CACHE_DIR", str(place / "cache"))  # its logs; else in the home folder
        import wandb

        mine = str(folder.path.resolve())
        name = hashlib.sha256(mine.encode()).hexdigest()[:16]
        for old in place.glob(f"wandb/offline-run-*-{name}"):
            shutil.rmtree(old)
        quiet = {"console": "off", "disable_git": True, "disable_code": True, "silent": True}
        quiet |= {f"x_disable_{what}": True for what in ("stats", "meta", "machine_info")}
        config = dict(leaves(plain(settings))) | {COMMAND: command(settings, systems), FOLDER: mine}
        self._folder, self._done = folder, False
        self._run = wandb.init(
            **{"project": PROJECT, "dir": place, "id": name, "name": folder.path.name, "config": config},
            settings=wandb.Settings(mode="offline", reinit="create_new", **quiet),
        )
        self._path = Path(self._run.dir).parent / f"run-{name}.wandb"
        for system in systems:
            self._run.define_metric(f"{system}/*", step_metric=f"{system}/{ROUND}")
        for record in folder.metrics():
            self.write(record)

    def write(self, record: Record) -> None:
        """Add a point to each curve, ``SYSTEM/CURVE``, over ``SYSTEM/round``."""
        found = {ROUND: round(record["round"]), **scalars(record)}
        self._run.log({f"{record['system']}/{name}": float(value) for name, value in found.items()})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the figures that the systems came to, ``final/SYSTEM/FIGURE`` with ``_low`` and ``_high``, and files."""
        for system, figures in summary.items():
            self._run.summary.update({f"final/{system}/{name}": value for name, value in final(figures)})
        for name in KEPT:
            if (self._folder.path / name).exists():
                copy = Path(self._run.dir) / name  # of a file elsewhere a link would be kept
                shutil.copyfile(self._folder.path / name, copy)
                self._run.save(str(copy), base_path=self._run.dir, policy="now")
        self._done = True

    def close(self) -> None:
        """Say how the run ended, and wait until that is written, which the package does not."""
        self._run.finish(exit_code=0 if self._done else 1)
        until = time.monotonic() + PATIENCE
        while _kept(self._path).ended is None and time.monotonic() < until:
            time.sleep(0.05)


# Reading


@dataclass
class KeptRun:
    """A run as its file tells it.

    Attributes
    ----------
    name : of the run folder.
    config : every setting by its dotted name, ``fedfer.folder``, and ``fedfer.command``: the line that makes it again.
    summary : figures by name; ``final/SYSTEM/FIGURE`` is what came out.
    history : one mapping an evaluation, in their order.
    ended : exit code, 0 for whole; None while the run goes on, or where it was killed.
    """

    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    ended: int | None = None


def kept_runs(place: Path | str) -> list[KeptRun]:
    """Return the runs that ``tracking.wandb=PLACE`` left, in the order in which they began."""
    return [_kept(path) for path in sorted(Path(place).glob("wandb/offline-run-*/run-*.wandb"))]


def _kept(path: Path) -> KeptRun:
    found = KeptRun()
    for record in _records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.name = record.run.display_name
            found.config |= _values(record.run.config.update)
        elif kind == "summary":
            found.summary |= _values(record.summary.update)
        elif kind == "history":
            found.history.append(_values(record.history.item))
        elif kind == "exit":
            found.ended = record.exit.exit_code
    found.config.pop("_wandb", None)
    return found


def _values(items: Iterable[Any]) -> dict[str, Any]:
    """Return what a record holds, but for what Weights & Biases adds itself."""
    named = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    return {name: value for name, value in named.items() if not name.startswith("_")}


def _records(path: Path) -> Iterator[Any]:
    """Yield the records of a file up to its end, or up to what was not written whole when its process died.

    leveldb's log format, doc/log_format.md there: blocks of 32 KiB; in a block pieces with a checksum, a length and a
    kind; a record is one piece, or a first one, others, and a last one. The file begins with a header like a piece's.
    """
    stored = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    data, at, parts = path.read_bytes(), HEADER.size, b""
    while True:
        if BLOCK - at % BLOCK < HEADER.size:  # too little for another piece: zeros
            at += BLOCK - at % BLOCK
        if at + HEADER.size > len(data):
            return
        checksum, length, kind = HEADER.unpack_from(data, at)
        piece = data[at + HEADER.size : at + HEADER.size + length]
        if len(piece) < length or zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            return
        at += HEADER.size + length
        parts = piece if kind in (WHOLE, FIRST) else parts + piece
        if kind in (WHOLE, LAST):
            record = stored()
            record.ParseFromString(parts)
            yield record
