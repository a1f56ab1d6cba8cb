"""Measurements in processes of their own, and their peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fer_models.errors import EngineError


def measured(*words: str, module: str) -> dict[str, Any]:
    """Run a module in a process of its own and return what it found, the JSON of its last line.

    Raises
    ------
    EngineError : it failed.
    """
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EngineError(
            f"a measuring process failed: {reason}", where=" ".join(words), cure="Run it by itself."
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_memory() -> int:
    """Return the most memory that this process has held since it began, in KiB.

    ``getrusage`` would count the parent's, from which a child starts.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
