"""The agent as a process of its own: a real socket, a real relay, and kills."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict

import client
from client.agent_service import service_of
from client.app import ANSWERS
from client.audit_log import AuditLog
from client.client_app import KINDS
from client.conditions import MOST_UNSIGNED
from client.failures import error_from_wire
from client.frames import Frame, from_bytes, to_bytes
from client.identity import Identity
from client.ledger import Ledger, close_all
from client.messages import facts_of, pack, tell, text, vector_of
from client.plan import Secure
from client.plan_signature import SIGNED, sign_plan
from client.relay import ask
from client.versions import PROTOCOL, spoken
from client.workbench import Benches
from fer_models.errors import (
    ConfigError,
    EngineError,
    PolicyError,
    PrivacyError,
    RunFolderError,
    VersionError,
)
from simulations.grid import take_identity

SECURE = Secure(sites=3, threshold=3, minimum=3, clip=16.0)
ROOT = Path(client.__file__).parent.parent


@pytest.fixture
def site(joined):
    """A site that answers whoever asks; who has to sign plans is in test_conditions.py."""
    change(joined, "signed: true", "signed: false")
    return joined


def change(folder, old, new):
    path = folder.path / "policy.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def start():
    """start(folder): the agent's process, once it answers; all end with the test."""
    running = []

    def make(folder, wait=True):
        command = [sys.executable, "-m", "client.agent_process", str(folder.path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        running.append(process)
        until = time.monotonic() + 60
        while wait and status(folder) is None:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.1)
        return process

    yield make
    for process in running:
        process.kill()
        process.communicate()


def status(folder):
    with grpc.insecure_channel(f"unix:{folder.socket}") as channel:
        try:
            return json.loads(channel.unary_unary("/fedfer.Agent/Status")(b"", timeout=5))
        except grpc.RpcError:
            return None


def asked(folder, kind, content):
    """What the relay answers to a message of Flower's."""
    take_identity(1)
    message = Message(content, 1, kind, group_id="1")
    message.metadata.__dict__["_message_id"] = "m1"
    reply = ask(str(folder.socket), message)
    assert reply.metadata.reply_to_message_id == "m1"
    return reply


def refused(reply):
    assert reply.has_error()
    return error_from_wire(reply.error, "node")


@pytest.fixture
def private(plan_of):
    plan = plan_of(local={"amount": 1}, privacy={"noise_multiplier": 4.0}, server={"rounds": 3})
    return replace(plan, aggregation="secure", secure=SECURE)


def test_the_relay_knows_every_question_that_a_site_answers():
    assert set(KINDS) == set(ANSWERS)


def test_the_relay_needs_nothing_that_work_needs():
    code = "import sys, client.relay; print([m for m in ('torch', 'numpy.random', 'opacus') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "torch" not in out.stdout
    assert "opacus" not in out.stdout


def test_an_agent_answers_only_its_owner_and_as_the_agent_in_process_does(site, start, plan_of):
    change(site, "required: true", "required: false")
    change(site, "secure: true", "secure: false")
    change(site, "by_site: false", "by_site: true")
    plan = plan_of(local={"batch": 8})
    start(site)
    assert stat.S_IMODE(site.socket.stat().st_mode) == 0o600
    assert text(asked(site, "query", RecordDict()).content, "site") == "clinic"
    weights = Benches(torch.device("cpu")).of(plan).flat.full_vector.numpy().copy()
    reply = asked(site, "train", pack(weights, {"plan": plan.text, "round": 1}))
    policy = site.policy()
    alone = site.agent(policy, site.data(), Benches(torch.device("cpu")), Ledger(site="clinic"))
    expected = alone.train(plan, 1, weights)
    assert np.array_equal(vector_of(reply.content, np.float32), expected.delta)
    found = status(site)
    assert (found["site"], found["answered"], found["plans"]) == ("clinic", 2, [plan.digest])
    assert 20 < found["peak_mb"] < 20_000
    assert "libtriton" not in Path(f"/proc/{found['pid']}/maps").read_text(), "80 MB for GPUs alone"


def test_a_refused_plan_is_answered_with_its_rule_and_noted_once(site, start, private):
    change(site, "epsilon_a_run: 8.0", "epsilon_a_run: 0.01")
    start(site)
    content = pack(np.zeros(0, np.float32), {"plan": private.text, "round": 1})
    plain = replace(private, aggregation="plain", secure=None)
    for _ in range(2):
        error = refused(asked(site, "train", pack(np.zeros(0, np.float32), {"plan": plain.text, "round": 1})))
        assert isinstance(error, PolicyError)
        assert error.where == "clinic, privacy.epsilon_a_run"
    assert isinstance(refused(asked(site, "train", content)), PrivacyError)  # secure, asked in plain
    assert status(site)["refused"] == {plain.digest: "privacy.epsilon_a_run"}
    kinds = [entry.kind for entry in AuditLog(site.path / "audit.jsonl").entries()]
    assert kinds == ["agent_started", "plan_met", "plan_refused", "plan_met"]
    assert not site.ledger_path.exists()


def test_keys_of_a_plan_that_a_rule_refuses_are_not_made(site, private):
    change(site, "epsilon_a_run: 8.0", "epsilon_a_run: 0.01")
    service = service_of(site)
    question = tell({"plan": private.text, "offer": ""})
    error = from_bytes(service.answer(to_bytes(Frame("query.secure", question)))).error
    assert isinstance(error_from_wire(error, "node"), PolicyError)
    assert service.secure._sessions == {}


def test_a_defect_is_answered_in_words_of_its_own(site, plan_of):
    """Else gRPC hands the relay the words of the error, which may hold anything."""
    change(site, "required: true", "required: false")
    change(site, "secure: true", "secure: false")
    change(site, "by_site: false", "by_site: true")
    service, plan = service_of(site), plan_of()
    service.agent.samples = None
    content = pack(np.zeros(1, np.float32), {"plan": plan.text, "round": 1})
    error = from_bytes(service.answer(to_bytes(Frame("train", content)))).error
    assert error_from_wire(error, "node").what == "the site's agent failed at this question"
    assert "NoneType" not in error.reason


def test_a_coordinator_of_another_version_is_told_so_before_any_work(site, plan_of):
    service, plan = service_of(site), plan_of()

    def said(**facts):
        content = tell({"plan": plan.text, **facts})
        return error_from_wire(from_bytes(service.answer(to_bytes(Frame("query", content)))).error, "node")

    for facts, other in (({}, "an earlier one"), ({"protocol": PROTOCOL + 1, "version": "9.9"}, "9.9")):
        error = said(**facts)
        assert type(error) is VersionError
        assert f"the coordinator's version of FedFER, {other}, does not speak with this one" in error.what
        assert "Install the same version" in error.cure
    assert type(said(**spoken())) is PolicyError  # it goes on to look at the plan


def test_plans_that_nobody_signed_take_no_place_of_those_that_somebody_did(site, plan_of):
    change(site, "signed: false", "signed: true")
    service, plan = service_of(site), plan_of(privacy={"noise_multiplier": 4.0}, local={"amount": 1})
    plan = replace(plan, aggregation="secure", secure=SECURE)

    def said(number, **facts):
        content = tell({"plan": replace(plan, run=f"run{number}").text, **facts, **spoken()})
        return from_bytes(service.answer(to_bytes(Frame("query", content)))).error

    for number in range(2 * MOST_UNSIGNED):
        assert error_from_wire(said(number), "node").where == "clinic, coordinator.signed"
    kinds = [entry.kind for entry in AuditLog(site.path / "audit.jsonl").entries()]
    assert kinds == ["plan_refused"] * MOST_UNSIGNED
    own = replace(plan, run="run0")
    assert said(0, **{SIGNED: sign_plan(Identity(b"c" * 32), own)}) is None
    assert len(service.conditions._new) == 1
    assert set(service.conditions.worked._seconds) == {own.digest}


def test_a_disk_that_is_full_is_said_and_nothing_is_done_without_its_entry(site, plan_of):
    service, plan = service_of(site), plan_of()
    (site.path / "audit.jsonl").symlink_to("/dev/full")
    content = tell({"plan": plan.text, **spoken()})
    error = error_from_wire(from_bytes(service.answer(to_bytes(Frame("query", content)))).error, "node")
    assert type(error) is RunFolderError
    assert "cannot write the audit log: No space left on device" in error.what
    assert json.loads(service.status())["plans"] == []
    (site.path / "audit.jsonl").unlink()
    again = error_from_wire(from_bytes(service.answer(to_bytes(Frame("query", content)))).error, "node")
    assert type(again) is PolicyError, "once there is room, the same question is looked at"


def test_damaged_questions_are_answered_and_harm_nobody(site, start):
    start(site)
    assert "unknown question" in refused(asked(site, "train.evil", tell({}))).what
    more = RecordDict({**tell({}), "more": pack(np.zeros(1), {})["vector"]})
    assert "a message with a record 'more'" in refused(asked(site, "query", more)).what
    assert isinstance(refused(asked(site, "train", tell({"plan": "{"}))), ConfigError)
    with grpc.insecure_channel(f"unix:{site.socket}") as channel:
        answer = channel.unary_unary("/fedfer.Agent/Answer")
        assert b"damaged message" in answer(b"nonsense", timeout=5)
        assert b"unknown question" in answer(to_bytes(Frame("evil", tell({}))), timeout=5)
    assert text(asked(site, "query", RecordDict()).content, "site") == "clinic"


def test_one_ledger_has_one_agent(site, start):
    first = start(site)
    second = start(site, wait=False)
    _, said = second.communicate(timeout=60)
    assert second.returncode == EngineError.exit_code
    assert f"an agent runs on this site's ledger already (process {first.pid})" in said
    assert said.count("\n") == 1
    assert status(site)["pid"] == first.pid


def test_an_agent_that_is_killed_comes_back_with_its_ledger_and_journal(site, start, private):
    plan = replace(private, aggregation="plain", secure=None)
    change(site, "  secure: true", "  secure: false")
    change(site, "by_site: false", "by_site: true")
    weights = Benches(torch.device("cpu")).of(plan).flat.full_vector.numpy().copy()
    content = pack(weights, {"plan": plan.text, "round": 1})
    process = start(site)
    first = asked(site, "train", content).content
    process.kill()
    process.wait()
    error = refused(asked(site, "train", content))
    assert "the site's agent does not answer" in error.what
    start(site)
    again = asked(site, "train", content).content
    assert text(first, "ledger") == text(again, "ledger")  # the same release, of the same made-up noise
    later = pack(weights, {"plan": plan.text, "round": 2, "ledger": text(again, "ledger")})
    number = facts_of(asked(site, "train", later).content)["ledger"]
    assert number != text(again, "ledger")
    close_all()
    assert Ledger(site.ledger_path, "clinic", read_only=True).head.number == 2


def test_an_agent_ends_when_it_is_told_to(site, start):
    process = start(site)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    kinds = [entry.kind for entry in AuditLog(site.path / "audit.jsonl").entries()]
    assert kinds == ["agent_started", "agent_stopped"]


def test_an_agent_that_is_at_work_ends_soon_all_the_same(site, tmp_path):
    """In a process of its own, whose work takes an hour: it is left, and what has begun is not waited for."""
    script = tmp_path / "busy.py"
    script.write_text(
        "import sys, threading, time\n"
        "import client.agent_service as service\n"
        "from client.agent_process import main\n"
        "service.ENDING = 0.5\n"
        "service.ANSWERS = {**service.ANSWERS, 'query': lambda *_: time.sleep(3600)}\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script), str(site.path)], env=environment)
    try:
        end = time.monotonic() + 60
        while status(site) is None:
            assert time.monotonic() < end
            time.sleep(0.1)
        threading.Thread(target=asked, args=(site, "query", tell({}))).start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
    kinds = [entry.kind for entry in AuditLog(site.path / "audit.jsonl").entries()]
    assert kinds == ["agent_started", "agent_stopped"]


def test_what_is_wrong_is_one_line_with_its_code(site, start, tmp_path):
    def ends(code, *said):
        process = start(site, wait=False)
        _, told = process.communicate(timeout=60)
        assert (process.returncode, told.count("\n")) == (code, 1), told
        assert all(words in told for words in said), told

    (site.path / "keys" / "signing.pem").chmod(0o644)
    ends(16, "others may use this key")
    (site.path / "keys" / "signing.pem").chmod(0o600)
    (site.path / "study.json").rename(tmp_path / "study.json")
    ends(2, "the site has joined no study")
    (tmp_path / "study.json").rename(site.path / "study.json")
    (tmp_path / "pictures").rename(tmp_path / "gone")
    ends(3, "no pictures for a rehearsal")


def test_a_plan_that_nobody_or_a_stranger_signed_is_refused_and_one_of_the_coordinator_answered(
    site, plan_of
):
    change(site, "signed: false", "signed: true")
    service, plan = service_of(site), plan_of(privacy={"noise_multiplier": 4.0}, local={"amount": 1})
    plan = replace(plan, aggregation="secure", secure=SECURE)
    told = {"plan": plan.text, **spoken()}

    def answered(**facts):
        return from_bytes(service.answer(to_bytes(Frame("query", tell({**told, **facts})))))

    for signature in ({}, {SIGNED: sign_plan(Identity(b"x" * 32), plan)}, {SIGNED: "none"}):
        error = error_from_wire(answered(**signature).error, "node")
        assert (type(error), error.where) == (PolicyError, "clinic, coordinator.signed")
    assert json.loads(service.status())["refused"] == {plan.digest: "coordinator.signed"}
    assert answered(**{SIGNED: sign_plan(Identity(b"c" * 32), plan)}).error is None
    assert json.loads(service.status())["refused"] == {}
    kinds = [entry.kind for entry in AuditLog(site.path / "audit.jsonl").entries()]
    assert kinds == ["plan_refused", "plan_met"]
    change(site, "keys: []", "keys: [4df8 cb5a 41b5 7240 2a67 f25f a049 07ee]")
    with pytest.raises(PolicyError) as untrusted:
        service_of(site)
    assert untrusted.value.where == "clinic, coordinator.keys"
