"""A run is a folder; this is the only code that knows what lies in it.

::

    config.yaml      the composed configuration
    plan.json        the training plan and its hash
    state.json       {"status": "running" | "complete"}
    partition.json   who holds what
    checkpoint-SYSTEM.safetensors   the state of a system after some round
    metrics.jsonl    one object a line for every evaluation
    baselines/       what each baseline model came to
    ledger/          one privacy ledger a site
    session.bin      the session of secure aggregation that a deployed run is in
    transcripts/     every session of secure aggregation, where it was asked for
    events/          TensorBoard
    model/           weights, configuration, card
    summary.json     every figure of every system
    report.html      the page

Files appear whole or not at all, and ``summary.json`` and the status come last, so that a killed run is never
taken for a finished one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from client.keys import sync_folder
from fer_models.errors import FedferError, RunFolderError


@contextlib.contextmanager
def writing(path: Path, cure: str = "Choose a folder you may write to with --run-dir.") -> Iterator[None]:
    """Turn an operating system's refusal to write into a RunFolderError, with a cure where the disk is not full."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RunFolderError(
            "the disk is full" if full else f"cannot write: {error.strerror or error}",
            where=str(path),
            cure="Free disk space and run the same command again; it goes on from the last checkpoint."
            if full
            else cure,
        ) from error


@contextlib.contextmanager
def reading(path: Path, cure: str = "Start again in an empty folder.") -> Iterator[None]:
    """Turn what goes wrong with the contents of a saved file into a RunFolderError that names the file."""
    try:
        yield
    except RunFolderError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, FedferError) as error:
        raise RunFolderError("a damaged file", where=str(path), cure=cure) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)


def write_text(path: Path, content: str) -> None:
    """Write a text in UTF-8 so that it is there whole or not at all."""
    write_bytes(path, content.encode())


class RunFolder:
    """One run's folder.

    Parameters
    ----------
    path : made when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)

    def open(self, facts: Mapping[str, Any], config: str) -> None:
        """Begin a run, or take up one that was interrupted.

        Parameters
        ----------
        facts : what makes two runs the same run; a mapping of plain values that holds the plan's hash.
        config : the composed configuration, for the reader.

        Raises
        ------
        RunFolderError : the folder holds another run.
        """
        known = self.read_json("plan.json")
        if known is not None and known != json.loads(json.dumps(facts)):
            raise RunFolderError(
                "the folder holds a run with another configuration",
                where=str(self.path),
                cure="Give an empty folder with --run-dir, or the configuration in its config.yaml.",
            )
        # All that a run leaves which was killed before its plan was written.
        begun = {"state.json", "config.yaml", "plan.json"}
        foreign = any(path.name.removesuffix(".part") not in begun for path in self.path.iterdir())
        if known is None and foreign:
            raise RunFolderError(
                "the folder is not empty and holds no run",
                where=str(self.path),
                cure="Give an empty folder with --run-dir.",
            )
        self._mend()
        if known is None:
            self.write_json("state.json", {"status": "running"})
            write_text(self.path / "config.yaml", config)
            self.write_json("plan.json", facts)

    @property
    def complete(self) -> bool:
        """Whether the run ended."""
        state = self.read_json("state.json")
        return isinstance(state, dict) and state.get("status") == "complete"

    def finish(self) -> None:
        """Mark the run as whole."""
        self.write_json("state.json", {"status": "complete"})

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically; numbers that are not finite are an error."""
        write_text(self.path / name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Return a JSON file's value, None when there is none."""
        path = self.path / name
        if not path.exists():
            return None
        with reading(path):
            return json.loads(path.read_text())

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        with writing(path), path.open("a") as file:
            file.write(json.dumps(dict(record), allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl; a torn last line is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        with reading(path):
            content = path.read_text()
            lines = content[: content.rfind("\n") + 1].splitlines()
            return [_mapping(json.loads(line)) for line in lines]

    def _mend(self) -> None:
        """Cut a torn last line off, so that the next one begins on a line of its own."""
        path = self.path / "metrics.jsonl"
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            write_text(path, "".join(json.dumps(record) + "\n" for record in self.metrics()))

    def forget_after(self, system: str, round_number: float) -> None:
        """Drop the lines of a system beyond a round, which will be run again."""
        path = self.path / "metrics.jsonl"
        with reading(path):
            kept = [r for r in self.metrics() if r["system"] != system or r["round"] <= round_number]
        write_text(path, "".join(json.dumps(r) + "\n" for r in kept))

    def save_checkpoint(
        self, name: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
    ) -> None:
        """Write ``name``.safetensors atomically, with ``facts`` as JSON in its header."""
        held = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
        content = save(held, {"facts": json.dumps(dict(facts))})
        write_bytes(self.path / f"{name}.safetensors", content)

    def load_checkpoint(self, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the tensors and facts of a checkpoint, None when there is none."""
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                facts = _mapping(json.loads((file.metadata() or {})["facts"]))
                return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, RecursionError, OSError) as error:
            raise RunFolderError(
                "a damaged checkpoint", where=str(path), cure="Delete it to start again."
            ) from error

    def drop_checkpoint(self, name: str) -> None:
        """Remove a checkpoint that is no longer needed."""
        (self.path / f"{name}.safetensors").unlink(missing_ok=True)


def _mapping(value: Any) -> dict[str, Any]:
    """Return a value that has to be a mapping."""
    if not isinstance(value, dict):
        raise ValueError("no mapping")
    return value
