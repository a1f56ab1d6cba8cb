"""TensorBoard event files, written without a thread so that processes can still be forked safely."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from server.run_folder import writing

CURVES = ("loss", "accuracy", "balanced_accuracy", "worst_recall", "minority_recall", "epsilon")


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of one line of metrics.jsonl that make curves, by name."""
    found = {name: record[name] for name in CURVES if record.get(name) is not None}
    return found | {f"parity/{k}": v for k, v in record.get("parity", {}).items() if v is not None}


class Events:
    """One event file a system, below ``folder``; written anew from the metrics when a run resumes."""

    def __init__(self, folder: Path, earlier: Iterable[Mapping[str, Any]]) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._writers: dict[str, Any] = {}
        shutil.rmtree(folder, ignore_errors=True)
        for record in earlier:
            self.write(record)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the scalars of one line of metrics.jsonl."""
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

        found = scalars(record)
        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in found.items()]
        event = Event(wall_time=time.time(), step=round(record["round"]), summary=Summary(value=values))
        self._write(record["system"], event)

    def _write(self, system: str, event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = self._folder / system
        with writing(folder):
            if system not in self._writers:
                folder.mkdir(parents=True, exist_ok=True)
                self._files[system] = (folder / "events.out.tfevents.0.fedfer").open("wb")
                self._writers[system] = RecordWriter(self._files[system])
                first = Event(wall_time=time.time(), file_version="brain.Event:2")
                self._writers[system].write(first.SerializeToString())
            self._writers[system].write(event.SerializeToString())
            self._files[system].flush()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
