"""A real coordinator on loopback: who gets in by its gate, who does not, and what a kill leaves."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, RegisterNodeFleetRequest
from flwr.proto.node_pb2 import Node as NodeMessage
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.audit_log import AuditLog
from client.enrolment import make_request
from client.flower import environment, program
from client.keys import make_node_key, make_signing_key
from client.node import STATE, TAKEN
from fer_models.errors import ConfigError, EngineError
from server.coordinator import Coordinator
from server.superlink import GONE, control, listens, nodes
from simulations.cli import main

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "simulations.cli", "server")
PATIENCE = 120
ROOT = Path(__file__).resolve().parent.parent.parent

Ended = namedtuple("Ended", "returncode stdout stderr")


def command(*words):
    """Run a command of the coordinator in this process, which has everything imported."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["server", *map(str, words)])
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def until(true, what):
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.2)
    return found


class Study:
    """A coordinator's folder, its process, and some sites' keys."""

    def __init__(self, folder, port):
        self.folder, self.path, self.process = folder, folder / "study", None
        assert self.command("init", "hosts=localhost", f"port={port}").returncode == 0
        self.coordinator = Coordinator.open(self.path)
        self.address = self.coordinator.address
        self.root = self.coordinator.authority[1]

    def start(self):
        unit = (
            ROOT / "deploy" / "fedfer-server.service"
        ).read_text()  # whose words these are, on this folder
        _, room, verb, _, *rest = shlex.split(re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1])
        words = [*COMMAND[:3], room, verb, str(self.path), *rest]
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
        readies = self.kinds().count("server_ready")
        until(lambda: self.kinds().count("server_ready") > readies, "the server is not ready")

    def kinds(self):
        return [entry.kind for entry in AuditLog(self.path / "audit.jsonl").entries()]

    def command(self, verb, *words):
        return command(verb, self.path, *words)

    def approve(self, name):
        """A new site's folder, approved and known to the SuperLink."""
        site = self.folder / name
        site.mkdir()
        request = make_request(name, make_signing_key(site / "signing.pem"), make_node_key(site / "node.key"))
        (site / "request.json").write_text(request.text)
        registered = self.kinds().count("sites_registered")
        told = self.command("approve", site / "request.json", "--fingerprint", request.fingerprint)
        assert told.returncode == 0, told.stderr
        until(lambda: self.kinds().count("sites_registered") > registered, "the SuperLink is not told")
        return site

    def running(self):
        return json.loads((self.path / "state" / "running.json").read_text())

    def node(self, site):
        """What the SuperLink knows of a site's node."""
        key = load_ssh_private_key((site / "node.key").read_bytes(), None).public_key()
        with control(self.coordinator) as client:
            known = client.ListNodes(ListNodesRequest()).nodes_info
        return next((node for node in known if node.public_key == public_key_to_bytes(key)), None)

    @contextlib.contextmanager
    def connected(self, site, root=None):
        """A site's real process of messages, without an agent; yields what it says of its connection."""
        state = site / "state"
        state.mkdir(exist_ok=True)
        words = [self.address, root or self.root, site / "node.key", site / "agent.sock", state]
        process = subprocess.Popen(
            [sys.executable, "-m", "client.node", *map(str, words)],
            stderr=subprocess.DEVNULL,
            env=environment(self.folder / "home"),
        )

        def said():
            path = state / STATE
            return (
                tuple(json.loads(path.read_text())[each] for each in ("state", "why"))
                if path.exists()
                else ()
            )

        said.process = process
        try:
            yield said
        finally:
            process.terminate()
            assert process.wait(60) in (0, -signal.SIGKILL)


def is_in(said, state, why=""):
    return lambda: said()[:1] == (state,) and why in said()[1]


@pytest.fixture(scope="module")
def study(tmp_path_factory, free_ports):
    made = Study(tmp_path_factory.mktemp("serving"), free_ports)
    try:
        made.start()
        yield made
    finally:
        made.command("stop")
        if made.process is not None:
            made.process.kill()
            made.process.wait()


NOT_APPROVED = "not approved yet, or revoked"


def test_an_approved_site_connects_and_a_revoked_one_is_thrown_out(study):
    site = study.approve("clinic-a")
    with study.connected(site) as said:
        until(is_in(said, "connected"), said)
        assert study.node(site).status == "online"
        assert "site clinic-a: online" in study.command("status").stdout
        assert study.command("revoke", "clinic-a").returncode == 0
        until(is_in(said, "turned away", NOT_APPROVED), said)
    with study.connected(site) as said:
        until(is_in(said, "turned away", NOT_APPROVED), said)
    assert study.node(site).status == GONE


def test_a_site_that_is_not_enrolled_is_turned_away(study):
    stranger = study.folder / "stranger"
    stranger.mkdir()
    make_node_key(stranger / "node.key")
    with study.connected(stranger) as said:
        until(is_in(said, "turned away", NOT_APPROVED), said)
    assert study.node(stranger) is None


def test_a_site_that_trusts_another_authority_does_not_connect(study, tmp_path):
    site = study.approve("clinic-b")
    other = tmp_path / "other"
    assert command("init", other, "hosts=localhost").returncode == 0
    with study.connected(site, other / "ca" / "ca.crt") as said:
        until(is_in(said, "not connected", "CERTIFICATE_VERIFY_FAILED"), said)
    assert study.node(site).status == "registered"


def stranger_s(study, kind, interceptors=()):
    return contextlib.closing(
        kind.from_server_address(study.address, False, study.root.read_bytes(), interceptors)
    )


CONTROL = {
    "StartRun": StartRunRequest(),
    "ListRuns": ListRunsRequest(),
    "StopRun": StopRunRequest(run_id=1),
    "RegisterNode": RegisterNodeRequest(public_key=b"key"),
}


@pytest.mark.parametrize("asked", CONTROL)
def test_a_stranger_with_the_authority_s_certificate_controls_nothing(study, asked):
    with stranger_s(study, ControlHttpClient) as client, pytest.raises(httpx.HTTPStatusError) as error:
        getattr(client, asked)(CONTROL[asked])
    assert error.value.response.status_code == 404
    # On the machine itself the same question is answered, so it is the gate that refuses.
    if asked == "ListRuns":
        with control(study.coordinator) as client:
            assert not client.ListRuns(ListRunsRequest()).run_dict


def test_flower_s_own_command_is_refused_from_outside(study):
    home = study.folder / "stranger-home"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "study"\n[superlink.study]\naddress = "{study.address}"\n'
        f'root-certificates = "{study.root}"\n'
    )
    found = subprocess.run(
        [program("flwr"), "list", "study"],
        env=environment(home),
        capture_output=True,
        text=True,
        cwd=home,
        check=False,
    )
    assert found.returncode != 0
    assert "404" in found.stdout + found.stderr


def test_what_runs_apps_is_refused_from_outside(study):
    """A SuperExec from outside would be handed the coordinator's own app to run."""
    trusted = ssl.create_default_context(cafile=str(study.root))
    with httpx.Client(base_url=f"https://{study.address}", verify=trusted) as client:
        for path in ("/v1/runtime/pull-task", "/v1/runtime/list-tasks", "/docs", "/openapi.json", "/health"):
            assert client.post(path, headers={"content-type": "application/protobuf"}).status_code == 404


def test_the_superlink_listens_on_the_machine_alone(study):
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=False).stdout
    if not listening:
        pytest.skip("no ss on this machine")
    port = study.coordinator.inner_port
    assert [line.split()[3] for line in listening.splitlines() if f":{port} " in line] == [
        f"127.0.0.1:{port}"
    ]


def test_a_site_asks_for_no_other_and_registers_nobody(study):
    sites = [study.approve(name) for name in ("clinic-c", "clinic-d")]
    keys = [load_ssh_private_key((site / "node.key").read_bytes(), None) for site in sites]
    mine, other = (public_key_to_bytes(key.public_key()) for key in keys)
    signed = NodeAuthHttpInterceptor(keys[0], keys[0].public_key())
    with stranger_s(study, FleetHttpClient, [signed]) as client:
        number = client.ActivateNode(ActivateNodeRequest(public_key=mine, heartbeat_interval=30)).node_id
        client.PullMessages(PullMessagesRequest(node=NodeMessage(node_id=number)))
        with control(study.coordinator) as inside:
            theirs = next(node.number for node in nodes(inside) if node.key == other)
        for asked, status in (
            (lambda: client.PullMessages(PullMessagesRequest(node=NodeMessage(node_id=theirs))), 401),
            (lambda: client.ActivateNode(ActivateNodeRequest(public_key=other, heartbeat_interval=30)), 401),
            (lambda: client.RegisterNode(RegisterNodeFleetRequest(public_key=b"new")), 404),
        ):
            with pytest.raises(httpx.HTTPStatusError) as error:
                asked()
            assert error.value.response.status_code == status
    # The header names an approved key, and another signs.
    stranger, _ = generate_key_pairs()
    forged = NodeAuthHttpInterceptor(stranger, keys[0].public_key())
    with (
        stranger_s(study, FleetHttpClient, [forged]) as client,
        pytest.raises(httpx.HTTPStatusError) as error,
    ):
        client.PullMessages(PullMessagesRequest(node=NodeMessage(node_id=number)))
    assert error.value.response.status_code == 401


def test_what_is_killed_comes_back_and_knows_the_sites(study):
    site = study.approve("clinic-e")
    with study.connected(site) as said:
        until(is_in(said, "connected"), said)
        for name in ("gate", "superlink", "superexec"):
            before = study.running()[name]
            os.kill(before, signal.SIGKILL)
            until(lambda name=name, before=before: study.running().get(name, before) != before, name)
        until(lambda: listens(study.coordinator.inner_port), "the SuperLink is not back")
        heard = study.node(site).online_until
        until(lambda: study.node(site).online_until > heard, "the site did not come back")
        said.process.kill()
    # A site that is killed counts as there for a while; with its number it is let in at once.
    (site / "state" / TAKEN).write_bytes(b"no message")
    (site / "state" / STATE).unlink()
    with study.connected(site) as said:
        until(is_in(said, "connected"), said)
        until(lambda: not (site / "state" / TAKEN).exists(), "a damaged note is dropped")


def test_it_runs_once_and_a_second_port_user_is_told(study, fedfer, refused, tmp_path):
    assert refused(fedfer("server", "start", str(study.path)), EngineError, "runs already")
    other = tmp_path / "other"
    assert fedfer("server", "init", str(other), "hosts=localhost", f"port={study.coordinator.port}")[0] == 0
    found = fedfer("server", "start", str(other))
    assert refused(found, ConfigError, f"port {study.coordinator.port} cannot be used")
    assert refused(fedfer("server", "status", str(other)), EngineError, "does not run", "server start")


def test_a_supervisor_that_is_killed_takes_its_processes_along_and_a_new_one_starts(study):
    pids = study.running()
    os.kill(pids.pop("supervisor"), signal.SIGKILL)
    study.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()), "processes are left")
    study.start()
    assert study.command("status").returncode == 0


def test_it_stops_whole(study):
    pids = study.running()
    assert study.command("stop").stdout == "stopped\n"
    assert study.process.wait(PATIENCE) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    assert study.command("stop").stdout == "it does not run\n"
    assert study.kinds()[-1] == "server_stopped"
    assert AuditLog(study.path / "audit.jsonl").verify()
