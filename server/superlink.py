"""The coordinator's processes: Flower's SuperLink, the gate before it, and the SuperExec that runs its app.

::

    sites --TLS--> gate, all addresses --TLS--> SuperLink, 127.0.0.1 <--TLS, secret-- SuperExec
                                                     ^ control: the commands on this machine
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

import httpx
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.supercore.control import ControlHttpClient

from client.flower import program
from client.keys import make_folder, write_own
from client.supervisor import Program
from fer_models.errors import ConfigError, EngineError
from server.coordinator import Coordinator
from server.enrolled import Enrolled
from server.gate import flower_key

GONE = "unregistered"
"""What Flower calls a node that was put out."""


class Node(NamedTuple):
    """A site as the SuperLink knows it.

    Attributes
    ----------
    number : of the SuperLink.
    key : public, as Flower writes it.
    status : registered (never seen), online, offline or unregistered.
    """

    number: int
    key: bytes
    status: str


def programs(coordinator: Coordinator) -> tuple[Program, ...]:
    """Return the processes, in the order in which they start."""
    make_folder(coordinator.state_path)
    here = f"127.0.0.1:{coordinator.inner_port}"
    authority = str(coordinator.authority[1].absolute())
    secret = str(coordinator.secret_path.absolute())
    key, certificate = (str(path.absolute()) for path in coordinator.certificate)

    def up() -> bool:
        return listens(coordinator.inner_port)

    superlink = (
        sys.executable, "-m", "server.superlink_process", "--host", "127.0.0.1", "--port", str(coordinator.inner_port),
        "--ssl-ca-certfile", authority, "--ssl-certfile", certificate, "--ssl-keyfile", key,
        "--enable-supernode-auth", "--database", str((coordinator.state_path / "superlink.sqlite").absolute()),
        "--isolation", "process", "--superexec-auth-secret-file", secret,
        "--disable-runtime-dependency-installation",
    )  # fmt: skip
    superexec = (
        program("flower-superexec"), "--runtime-api-address", here, "--root-certificates", authority,
        "--superexec-auth-secret-file", secret,
    )  # fmt: skip
    gate = (sys.executable, "-m", "server.gate", str(coordinator.path.absolute()))
    return (
        Program("superlink", superlink),
        Program("superexec", superexec, needs=up),
        Program("gate", gate, needs=up),
    )


def listens(port: int) -> bool:
    """Whether something on this machine listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def require_free(coordinator: Coordinator) -> None:
    """Refuse to start where another program has the ports.

    Raises
    ------
    ConfigError : which one.
    """
    for host, port in (("", coordinator.port), ("127.0.0.1", coordinator.inner_port)):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError as error:
                raise ConfigError(
                    f"port {port} cannot be used: {error.strerror}",
                    where=str(coordinator.path),
                    cure="End what uses it, or found the coordinator anew with another port=.",
                ) from error


@contextlib.contextmanager
def control(coordinator: Coordinator) -> Iterator[ControlHttpClient]:
    """Yield what talks to the SuperLink from this machine.

    Raises
    ------
    EngineError : it does not answer, or refuses.
    """
    here = f"127.0.0.1:{coordinator.inner_port}"
    root = coordinator.authority[1].read_bytes()
    try:
        with contextlib.closing(ControlHttpClient.from_server_address(here, False, root, ())) as client:
            yield client
    except httpx.HTTPError as error:
        raise EngineError(
            f"the SuperLink does not do what it is asked: {error}",
            where=here,
            cure="Start it with fedfer server start DIR; state/superlink.log tells more.",
        ) from error


def nodes(client: ControlHttpClient) -> tuple[Node, ...]:
    """Return all nodes that the SuperLink knows."""
    found = client.ListNodes(ListNodesRequest()).nodes_info
    return tuple(Node(each.node_id, each.public_key, each.status) for each in found)


def reconcile(client: ControlHttpClient, enrolled: Enrolled) -> tuple[list[str], int]:
    """Let the SuperLink know the sites that take part, and no others.

    Returns
    -------
    names of the sites that it did not know yet, and how many nodes were put out.
    """
    wanted = {flower_key(each.node_key): each.site for each in enrolled.active}
    known = {node.key: node.number for node in nodes(client) if node.status != GONE}
    new = [key for key in wanted if key not in known]
    for key in new:
        client.RegisterNode(RegisterNodeRequest(public_key=key, name=wanted[key]))
    foreign = [number for key, number in known.items() if key not in wanted]
    for number in foreign:
        client.UnregisterNode(UnregisterNodeRequest(node_id=number))
    return sorted(wanted[key] for key in new), len(foreign)


class Running:
    """The file that says which process runs a coordinator; it is locked as long as that lives."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.path = coordinator.state_path / "running.json"

    def write(self, pids: dict[str, int]) -> None:
        """Say which processes run."""
        write_own(self.path, json.dumps({"supervisor": os.getpid(), **pids}) + "\n")

    def read(self) -> dict[str, int]:
        """Return name -> process id, empty where nothing is said."""
        try:
            return {str(name): int(pid) for name, pid in json.loads(self.path.read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}
