"""The process of a site's agent: ``python -m client.agent_process DIR``, which ``fedfer site run`` keeps alive."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from client.agent_service import service_of, serving
from client.alone import alone
from client.footprint import leave_out_triton
from client.ledger import close_all
from client.site_folder import SiteFolder
from client.site_process import AGENT_LOCK
from fer_models.errors import FedferError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT comes, and return an exit code; a mistake is one line on standard error."""
    (path,) = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    ended = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    leave_out_triton()
    try:
        folder = SiteFolder.open(Path(path))
        with alone(folder.path / AGENT_LOCK, "an agent runs on this site's ledger already"):
            service = service_of(folder)
            with serving(service, folder.socket):
                service.book.write("agent_started")
                ended.wait()
            service.conditions.worked.save()
            service.book.write("agent_stopped")
            if service.busy:  # what it is at is left, as by a kill: nothing that it has answered is lost
                logging.warning("it ends in the midst of a question, which it is asked again")
                os._exit(0)  # else the interpreter would wait for the work
    except FedferError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    finally:
        close_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
