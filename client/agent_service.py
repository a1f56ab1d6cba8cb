"""The site's agent as a service: gRPC on a Unix socket that only its owner may open.

The agent of a site holds its pictures, keys, ledger, journal and the secrets of open sessions. Through the socket the
site's node gets answers and nothing else: the agent checks every question as if it came from a stranger.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import torch
from flwr.app import RecordDict

from client.agent import Agent
from client.app import ANSWERS
from client.audit_log import AuditLog
from client.conditions import Conditions
from client.failures import error_to_wire
from client.footprint import peak_mb
from client.frames import LARGEST, Frame, from_bytes, to_bytes
from client.hours import KEPT, Worked
from client.messages import optional_text
from client.plan import Plan, read_plan
from client.plan_signature import SIGNED
from client.secagg.journal import DiskJournal
from client.secure_site import Membership, SecureSite
from client.session_files import SessionFiles, memory_folder
from client.site_folder import SiteFolder
from client.workbench import Benches
from fer_models.errors import ConfigError, EngineError, FedferError, PolicyError

SERVICE = "fedfer.Agent"

LONGEST_PATH = 100
"""Bytes of a socket's path; the system takes 107."""

ENDING = 15.0
"""Seconds for which an agent that is to end works on at a question."""

FAILED = EngineError("the site's agent failed at this question", cure="At the site, see DIR/state/agent.log.")
"""All that whoever asked is told of an error that is not foreseen."""

log = logging.getLogger("fedfer.site")


@dataclass
class Service:
    """Answers questions one after the other, and says how it is doing meanwhile.

    Attributes
    ----------
    agent : does the work.
    secure : its part in secure aggregation.
    book : the audit log.
    conditions : what every question is held against.
    """

    agent: Agent
    secure: SecureSite
    book: AuditLog
    conditions: Conditions
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _facts: dict[str, Any] = field(default_factory=dict)
    _plans: dict[str, None] = field(default_factory=dict)  # the newest, in their order
    _refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._facts = {
            "site": self.agent.name,
            "pid": os.getpid(),
            "since": _now(),
            "answered": 0,
            "last": "",
        }

    def answer(self, request: bytes, _: object = None) -> bytes:
        """Return the answer to a frame, or the reason why there is none, as a frame."""
        try:
            question = from_bytes(request)
            if question.kind not in ANSWERS or question.content is None:
                raise EngineError(
                    f"an unknown question {question.kind[:40]!r}",
                    cure="Run the same version of FedFER everywhere.",
                )
            with self._lock:
                found = self._answered(question.kind, question.content)
            return to_bytes(Frame(content=found))
        except FedferError as error:
            log.warning("%s", error)
            return to_bytes(Frame(error=error_to_wire(error)))
        except Exception:  # else gRPC hands its words on, and they may hold anything
            log.exception("a question that the agent failed at")
            return to_bytes(Frame(error=error_to_wire(FAILED)))

    def _answered(self, kind: str, content: RecordDict) -> RecordDict:
        told = optional_text(content, "plan")
        plan = None if told is None else read_plan(told)
        if plan is not None:
            self._meet(plan, optional_text(content, SIGNED))
        find, began = ((lambda: self.agent), (lambda: self.secure)), time.monotonic()
        try:
            if plan is not None:
                self.conditions.require_time(plan)
            found = ANSWERS[kind](find, content)
        except PolicyError as error:
            self._note_refusal("" if plan is None else plan.digest, error)
            raise
        finally:
            if plan is not None:
                self.conditions.worked.add(plan.digest, time.monotonic() - began)
        if plan is not None:
            self._refused.pop(plan.digest, None)  # by an hour that has passed
        self._facts |= {"answered": self._facts["answered"] + 1, "last": _now()}
        return found

    def _note_refusal(self, digest: str, error: PolicyError) -> None:
        """Note a rule that refuses a plan, once in a row: a rule of hours may refuse what it allowed before."""
        rule = error.where.rpartition(", ")[2]
        if self._refused.get(digest) != rule:
            self._refused[digest] = rule
            for old in list(self._refused)[:-KEPT]:
                del self._refused[old]
            self.book.write("plan_refused", plan=digest, rule=rule)

    def _meet(self, plan: Plan, signature: str | None) -> None:
        """Look at who signed a plan, and note one that is new, before anything of it is answered.

        What nobody has signed takes no place among the plans of a day, and few in the audit log: anybody can make such.
        """
        try:
            self.conditions.require_signed(plan, signature)
        except PolicyError as error:
            if plan.digest in self._refused or self.conditions.notes_unsigned():
                self._note_refusal(plan.digest, error)
            raise
        if plan.digest not in self._plans:
            self.conditions.require_new()
            self.book.write("plan_met", plan=plan.digest, run=plan.run)
            self._plans[plan.digest] = None
            for old in list(self._plans)[:-KEPT]:
                del self._plans[old]

    def status(self, _: bytes = b"", __: object = None) -> bytes:
        """Return how the agent is doing, as JSON."""
        now = {"peak_mb": peak_mb()}
        return json.dumps(
            {**self._facts, **now, "plans": sorted(self._plans), "refused": self._refused}
        ).encode()

    @property
    def busy(self) -> bool:
        """Whether it works on a question."""
        return self._lock.locked()

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server serves."""
        methods = {"Answer": self.answer, "Status": self.status}
        handlers = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in methods.items()}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)


def service_of(folder: SiteFolder) -> Service:
    """Return the service of a site that has joined a study.

    Raises
    ------
    FedferError : the policy, the data, a key, the ledger or the study is not in order.
    """
    policy = folder.policy()
    held, identity, study = folder.data(), folder.identity(), folder.study()
    policy.require_held(*held.sizes, folder.name)
    if held.seed is not None:
        torch.set_num_threads(1)  # as in the simulation that is rehearsed
    if study is None:
        raise ConfigError(
            "the site has joined no study",
            where=str(folder.path),
            cure="Run fedfer site join DIR STUDY.json.",
        )
    agent = folder.agent(policy, held, Benches(torch.device("cpu")), folder.ledger(policy))
    journal = DiskJournal(folder.path / "journal.sqlite")
    memory = memory_folder(folder.path)
    if memory is None:
        log.warning(
            "no /dev/shm in memory and for this user alone: an agent that is killed leaves its sessions"
        )
    files = None if memory is None else SessionFiles(memory)
    secure = SecureSite(agent, Membership(identity, study.roster, policy.floors, journal, files=files))
    policy.require_trusted(study.fingerprint, folder.name)
    conditions = Conditions(policy, folder.name, study.coordinator, Worked(folder.path / "worked.json"))
    return Service(agent, secure, AuditLog(folder.path / "audit.jsonl"), conditions)


@contextmanager
def serving(service: Service, socket: Path) -> Iterator[None]:
    """Serve on a socket, as long as the block lasts.

    Raises
    ------
    ConfigError : the socket's path is too long.
    EngineError : it cannot be opened.
    """
    if len(os.fsencode(socket)) > LONGEST_PATH:
        raise ConfigError(
            f"a path of more than {LONGEST_PATH} bytes is too long for a socket",
            where=str(socket),
            cure="Move the site's folder nearer to the root of the disk.",
        )
    options = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
    server = grpc.server(ThreadPoolExecutor(4), handlers=[service.handler], options=options)
    before = os.umask(0o177)  # the socket is its owner's from the moment when it is there
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:
        raise EngineError(
            "the agent's socket cannot be opened", where=str(socket), cure="Look whether the disk is full."
        ) from error
    finally:
        os.umask(before)
    server.start()
    try:
        yield
    finally:
        server.stop(ENDING).wait()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
