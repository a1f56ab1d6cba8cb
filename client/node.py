"""The process by which a site takes part in a study, which ``fedfer site run`` keeps alive.

::

    python -m client.node HOST:PORT AUTHORITY.crt NODE.key AGENT.sock STATE

It takes the coordinator's messages from the SuperLink, hands each to the site's agent through its socket, and sends the
agent's answer back. It holds no picture and no label, and runs no code but what is installed at the site.

A message that is taken is nobody else's, so it is noted on disk until it is answered: first that it was taken, then
what it asks, then the answer to it. When the process was killed in between, the next one goes on from there: it sends
the answer, or asks the agent again where that answers the same question with the same bytes, as in secure aggregation,
or else says that the work was lost, and nobody waits for it. An agent that was killed is waited for, and asked again
alike.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message

from client.client_app import REPEATABLE
from client.failures import error_to_wire
from client.fleet import Asked, Fleet, RunEnded, Unreachable, kept, noted
from client.keys import read_key, write_own
from client.relay import MISSING, Stopped, ask, status
from fer_models.errors import EngineError, FedferError, IdentityError, RunFolderError

SHARE, SHORTEST, LONGEST = 0.1, 0.1, 2.0
"""A site looks for messages again after so large a share of the time for which none came, between so many seconds."""

SOONEST, LATEST = 0.5, 20.0
"""Seconds between two tries to reach the server; twice as long every time."""

TURNED_AWAY = 30.0
"""Seconds until a site that was turned away tries again."""

PATIENCE = 600.0
"""Seconds for which it is tried to get a message or to send its answer."""

FORBIDDEN = "the server, or a firewall before it, forbids what the site asks"
"""Said of an answer that the server itself gives to no such question."""

SIGN = 5.0
"""Seconds between two signs of life."""

RESTARTS, RESTARTING = 2, 120.0
"""How often an agent that was killed at a question is asked it again, and the seconds that it has to be back."""

GONE = error_to_wire(MISSING)
"""What stands in the place of the answer of an agent that is gone."""

LOST = EngineError("the site was restarted while it worked on this", cure="It takes part again.")
"""Said in place of an answer that a kill took."""

OLDEST = 3600.0
"""Seconds after which a message that an earlier process was at is not worked on any more: no coordinator that keeps to
the usual deadline waits for its answer, which would cost epsilon for nothing."""

STATE, NUMBER, TAKEN, AGAIN = "connection.json", "node.json", "taken.bin", "again.json"
"""Files in the site's folder of state: how the connection is, the site's number, the message that is worked on, and how
often an earlier process's message was asked again."""

log = logging.getLogger("fedfer.node")

T = TypeVar("T")


class Node:
    """Carries messages between a SuperLink and an agent.

    Parameters
    ----------
    fleet : the connection to the SuperLink.
    socket : of the agent.
    state : folder of what has to outlive the process.
    ended : set when the process is to end.
    """

    def __init__(self, fleet: Fleet, socket: str, state: Path, ended: threading.Event) -> None:
        self._fleet, self._socket, self._state, self._ended = fleet, socket, state, ended
        self._said = ""
        self._ready = True  # whether the agent answered the last time that it was looked at
        self._known = True  # whether the SuperLink knew the site at the last sign of life

    def run(self) -> None:
        """Take part until the process is to end."""
        threading.Thread(target=self._live, daemon=True).start()
        pause = SOONEST
        while not self._ended.is_set():
            try:
                self._join()
                pause = SOONEST
                self._answer_all()
            except (IdentityError, RunEnded) as error:  # that a run has ended is said of messages alone
                self._say("turned away", error.what if isinstance(error, IdentityError) else FORBIDDEN)
                self._ended.wait(TURNED_AWAY)
            except Unreachable as error:
                self._say("not connected", str(error))
                self._ended.wait(pause)
                pause = min(2 * pause, LATEST)
        with contextlib.suppress(Unreachable, IdentityError, RunEnded):
            if self._fleet.number:
                self._fleet.leave()
        self._say("ended")

    def _join(self) -> None:
        path = self._state / NUMBER
        try:
            known = int(json.loads(path.read_text())["node"])
        except (OSError, ValueError, KeyError, TypeError):
            known = 0
        number = self._fleet.join(known)
        if number != known:
            write_own(path, json.dumps({"node": number}) + "\n")
        self._known = True
        self._say("connected")
        self._own_up()

    def _own_up(self) -> None:
        """Answer what was being worked on when an earlier process was killed."""
        path = self._state / TAKEN
        try:
            data, age = path.read_bytes(), time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return
        try:
            # Or the server knows no such message.
            with contextlib.suppress(RunEnded, EngineError, IdentityError):
                self._fleet.push(self._owed(noted(data), age), again=True)
        except Stopped:
            return
        except Unreachable:
            if age < PATIENCE:
                raise
        path.unlink(missing_ok=True)

    def _owed(self, left: Asked | Message, age: float) -> Message:
        """Return the reply that is owed, given what an earlier process has left: a message that it had just taken, what
        that asks, or the reply; and how many seconds ago.
        """
        message = left.message if isinstance(left, Asked) else left
        if message.metadata.reply_to_message_id:
            return message
        repeatable = isinstance(left, Asked) or message.metadata.message_type in REPEATABLE
        if age > OLDEST or not repeatable or not self._may_ask_again(message.metadata.message_id):
            return Message(error_to_wire(LOST), reply_to=message)
        return self._reply(left, restarts=0) if isinstance(left, Asked) else self._asked(left, restarts=0)

    def _may_ask_again(self, number: str) -> bool:
        """Whether a message may be asked once more by a process that was started again, which is counted on disk: each
        time may cost epsilon, and whatever ended the process may be what is asked.
        """
        path = self._state / AGAIN
        try:
            told = json.loads(path.read_text())
            times = int(told["times"]) if told["message"] == number else 0
        except (OSError, ValueError, LookupError, TypeError):
            times = 0
        if times >= RESTARTS:
            return False
        try:
            write_own(path, json.dumps({"message": number, "times": times + 1}) + "\n")
        except RunFolderError as error:
            log.error("%s", error)
            return False
        return True

    def _note(self, data: bytes) -> None:
        """Note how far the work on a message is, whole or not at all; a full disk keeps nobody from working."""
        part = self._state / f".{TAKEN}.part"
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                file.write(data)
            part.replace(self._state / TAKEN)
        except OSError as error:
            log.warning("what is worked on could not be noted: %s", error.strerror)
            part.unlink(missing_ok=True)

    def _answer_all(self) -> None:
        """Take one message after the other, as long as the SuperLink knows the site."""
        last = time.monotonic()
        while self._known and not self._ended.is_set():
            if not self._looked():
                self._ended.wait(SOONEST)
                continue
            asked = self._fleet.take()
            if asked is not None:
                with contextlib.suppress(RunEnded, Stopped):
                    self._answer(asked)
                last = time.monotonic()
                continue
            idle = time.monotonic() - last
            self._ended.wait(min(LONGEST, max(SHORTEST, SHARE * idle)))

    def _looked(self) -> bool:
        """Whether the agent answers; while it is being started again, messages wait where they are."""
        if not self._ready:
            self._ready = status(self._socket) is not None
        return self._ready

    def _answer(self, asked: Asked) -> None:
        try:
            try:
                write_own(self._state / TAKEN, asked.kept())
                reply = self._reply(asked)
            except RunFolderError as error:  # the disk is full: said, and nobody waits
                log.error("%s", error)
                reply = Message(error_to_wire(error), reply_to=asked.message)
            tries = itertools.count()
            self._patiently(lambda: self._fleet.push(reply, again=next(tries) > 0))
        finally:
            if not self._ended.is_set():  # else the next process owns up
                (self._state / TAKEN).unlink(missing_ok=True)

    def _reply(self, asked: Asked, restarts: int = RESTARTS) -> Message:
        try:
            question = self._patiently(lambda: self._fleet.content(asked))
        except FedferError as error:
            return Message(error_to_wire(error), reply_to=asked.message)
        self._note(kept(question))
        return self._asked(question, restarts)

    def _asked(self, question: Message, restarts: int = RESTARTS) -> Message:
        """Return the agent's reply to a question, noted; an agent that was killed meanwhile is asked again."""
        reply = ask(self._socket, question, self._ended.is_set)
        for _ in range(restarts):
            gone = reply.has_error() and reply.error.reason == GONE.reason
            if not gone or question.metadata.message_type not in REPEATABLE or not self._back():
                break
            reply = ask(self._socket, question, self._ended.is_set)
        if reply.has_error():
            self._ready = status(self._socket) is not None
        self._note(kept(reply))
        return reply

    def _back(self) -> bool:
        """Whether the agent, which was killed, answers again; it goes on with what it had kept."""
        end = time.monotonic() + RESTARTING
        while status(self._socket) is None:
            if time.monotonic() > end or self._ended.wait(SOONEST):
                return False
        return True

    def _patiently(self, work: Callable[[], T]) -> T:
        """Return what a piece of work comes to, tried again while the server does not answer.

        Raises
        ------
        Unreachable : the process is to end, or it has failed for the time of a message.
        """
        pause, end = SOONEST, time.monotonic() + PATIENCE
        while True:
            try:
                found = work()
                self._say("connected")
                return found
            except Unreachable as error:
                self._say("not connected", str(error))
                if self._ended.is_set() or time.monotonic() > end:
                    raise
            self._ended.wait(pause)
            pause = min(2 * pause, LATEST)

    def _live(self) -> None:
        """Give signs of life as long as the agent answers; without it, the site is soon gone for the coordinator."""
        while not self._ended.wait(SIGN):
            if self._fleet.number and self._ready:
                with contextlib.suppress(Unreachable, IdentityError, RunEnded):
                    self._known = self._fleet.beat()

    def _say(self, state: str, why: str = "") -> None:
        """Note how the connection is, where that is another than before."""
        if (said := f"{state}: {why}" if why else state) == self._said:
            return
        self._said = said
        log.warning("%s", said)
        facts = {"state": state, "why": why, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        write_own(self._state / STATE, json.dumps(facts) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Take part until SIGTERM or SIGINT comes, and return an exit code; a mistake is one line on standard error."""
    address, authority, key, socket, state = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    ended = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    try:
        own = read_key(Path(key), ec.EllipticCurvePrivateKey, serialization.load_ssh_private_key)
        with contextlib.closing(Fleet(address, Path(authority).read_text(), own)) as fleet:
            Node(fleet, socket, Path(state), ended).run()
    except FedferError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
