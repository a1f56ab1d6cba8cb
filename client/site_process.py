"""The process that keeps a site alive, into which ``fedfer site run`` turns once it has looked at everything.

It holds nothing of the pictures, the ledger or torch, for which a site's agent needs the memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from client.alone import alone, holder
from client.audit_log import AuditLog
from client.audit_view import FILE, shown
from client.flower import environment
from client.keys import make_folder, write_own
from client.relay import status
from client.site_folder import SiteFolder
from client.study import Study
from client.supervisor import Program, Supervisor, stopping
from fer_models.errors import FedferError

AGENT_LOCK, LOCK = "agent.lock", "run.lock"
"""What keeps a second agent from a site's ledger, and a second supervisor from a site."""

TAIL = 10_000
"""Bytes at the end of a log that are looked at."""

TICK = 0.2
"""Seconds between two looks at the processes."""


def require_free(folder: SiteFolder) -> None:
    """Refuse to run a site that runs already, or an agent of whose runs by itself.

    Raises
    ------
    EngineError : which process it is.
    """
    for lock, what in (
        (LOCK, "this site runs already"),
        (AGENT_LOCK, "an agent runs on this site's ledger already"),
    ):
        if holder(folder.path / lock) is not None:
            with alone(folder.path / lock, what):
                pass


def keep(folder: SiteFolder, study: Study, *, as_json: bool) -> None:
    """Keep a site's agent and, once that answers, its node alive until SIGTERM or SIGINT comes.

    Raises
    ------
    EngineError : the site runs already, or nothing can be started.
    """
    state = folder.path / "state"
    make_folder(state)
    write_own(state / "authority.crt", study.ca)
    with alone(folder.path / LOCK, "this site runs already"), stopping() as stopped:
        book = AuditLog(folder.path / FILE, shown(as_json=as_json))

        def told(name: str, code: int | None) -> None:
            if code is None:
                book.write("process_started", name=name)
            else:
                book.write("process_ended", name=name, code=code)
                if name == "agent" and code and (why := last_error(folder)):
                    sys.stderr.write(f"the agent does not start: {why}\n")

        with Supervisor(programs(folder, study), environment(state / "flower"), state, told) as supervisor:
            while not stopped():
                supervisor.tend()
                time.sleep(TICK)


def last_error(folder: SiteFolder) -> str:
    """Return the line with which a site's agent ended the last time, empty where it did not end with one."""
    try:
        lines = (
            (folder.path / "state" / "agent.log").read_bytes()[-TAIL:].decode(errors="replace").splitlines()
        )
    except OSError:
        return ""
    return lines[-1] if lines and lines[-1].startswith("error: ") else ""


def programs(folder: SiteFolder, study: Study) -> tuple[Program, ...]:
    """Return the processes, in the order in which they start."""
    state, own = (folder.path / "state").absolute(), (folder.path / "keys" / "node.key").absolute()
    agent = (sys.executable, "-m", "client.agent_process", str(folder.path.absolute()))
    node = (
        sys.executable, "-m", "client.node", study.address, str(state / "authority.crt"), str(own),
        str(folder.socket), str(state),
    )  # fmt: skip
    answers = str(folder.socket)
    return Program("agent", agent), Program("node", node, needs=lambda: status(answers) is not None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the site of a folder, with ``--log-json`` where asked for, and return an exit code."""
    path, *flags = sys.argv[1:] if arguments is None else arguments
    try:
        folder = SiteFolder.open(Path(path))
        study = folder.study()
        assert study is not None, "looked at before"
        keep(folder, study, as_json="--log-json" in flags)
    except FedferError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
