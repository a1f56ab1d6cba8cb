"""Who takes part in a run: the sites that do, those that refuse and why, and those that come back.

In a simulation everybody takes part, and whoever does not ends the run. In a deployment a run goes on without a site
as long as there are enough others.
"""

from __future__ import annotations

import bisect
import contextlib
import time
from collections.abc import Callable, Iterator

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from client.messages import facts_of, scalar, tell, text
from client.plan import Plan
from client.versions import require_same, spoken
from fer_models.errors import (
    ConfigError,
    EngineError,
    FedferError,
    IdentityError,
    SecureAggregationError,
    TrainingError,
)
from server.exchange import POLL_SECONDS, content_of, exchange
from server.patience import PatientGrid
from server.robust import fewest_updates
from server.run_folder import RunFolder
from server.run_state import SITES

WAITING_SECONDS = 300.0
"""How long sites may take to come."""

GRACE = 20.0
"""Seconds for which a run that could begin waits for the sites that are missing."""

PING = 3.0
"""Seconds for which a site that has come is waited for to say whether it takes part."""

REFUSED_AGAIN = 60.0
"""Seconds until a site that has refused is asked again."""

MOST_SESSIONS = 1 << 31
"""More than the number of any site's last session; on the wire a number has twice as much room."""

BORNE = (EngineError, SecureAggregationError, TrainingError)
"""Errors that may be of one moment; a site that sends another one refuses."""


class Standing:
    """The sites of a run.

    Parameters
    ----------
    sites : how many may take part.
    folder : where it is written who does.

    Attributes
    ----------
    admit : where it is set, told of every site that comes later or comes back, by node and name.
    nodes : those that take part, in the order of their sites' names, the same on every engine. The list is changed
        when somebody comes or goes.
    names : node -> its site's name, of all that ever took part.
    refused : site -> why it does not take part.
    """

    def __init__(self, grid: Grid, plan: Plan, sites: int, folder: RunFolder) -> None:
        self._grid, self._plan, self._sites, self._folder = grid, plan, sites, folder
        self._patient = grid if isinstance(grid, PatientGrid) else None
        self.nodes: list[int] = []
        self.names: dict[int, str] = {}
        self.refused: dict[str, FedferError] = {}
        self._claims: dict[int, int] = {}  # node -> the last session that it says it was in
        self.admit: Callable[[int, str], None] | None = None
        self._labels: dict[int, str] = {}  # what the SuperLink calls a node
        self._asked: dict[str, int] = {}  # messages that are not answered yet
        self._refused_at: dict[int, float] = {}

    @property
    def deployed(self) -> bool:
        """Whether sites come and go, as in a deployment, and a run goes on without them."""
        return self._patient is not None

    @property
    def session(self) -> int:
        """The last session of secure aggregation that two sites say they were in.

        Not the largest: sessions go on above it, so that one site that lies could use up the numbers, and have all
        others be taken for liars. A site that alone was in a later session misses the next one, and no more.
        """
        return min(sorted(self._claims.values())[-2:], default=-1)

    @property
    def quorum(self) -> int:
        """Sites without which no round begins."""
        asked = self._patient.patience.quorum if self._patient else self._sites
        plan = self._plan
        if plan.secure is not None:
            return max(asked, plan.secure.fewest)
        shares = plan.privacy.threshold if plan.privacy and plan.privacy.noise == "distributed" else 0
        return max(asked or self._sites // 2 + 1, fewest_updates(plan.server), shares)

    def gather(self) -> None:
        """Wait for the sites, and ask each whether it takes part.

        Raises
        ------
        FedferError : of a site that refuses, where too few are left.
        EngineError : they do not come.
        """
        nodes = self._registered()
        for node, reply in zip(nodes, exchange(self._grid, map(self._question, nodes)), strict=True):
            self._hear(node, reply)
        if self._patient is None and not self.nodes:
            raise ConfigError("no sites", where="partition.sites", cure="Give one site or more.")
        self._write()  # before a run ends for want of those that refuse
        self.require_quorum()

    def require_quorum(self) -> None:
        """Wait until there are enough sites for a round, and take in those that have come. Raises as :meth:`gather`."""
        if self._patient is None:
            return
        began = time.monotonic()
        self.refresh()
        while len(self.nodes) < self.quorum:
            if self._sites - len(self.refused) < self.quorum and self.refused:
                raise self.refused[min(self.refused)]
            if time.monotonic() - began > WAITING_SECONDS:
                raise EngineError(
                    f"only {len(self.nodes)} of {self.quorum} sites take part",
                    where=", ".join(sorted(self.names[node] for node in self.nodes)),
                    cure="Run the same command again when others are back; it goes on.",
                )
            time.sleep(0.5)
            self.refresh()

    def refresh(self) -> None:
        """Leave out who is away, and take in who is back."""
        grid = self._patient
        if grid is None:
            return
        before = list(self.nodes)
        here = self._here()
        self.nodes[:] = [node for node in self.nodes if node in here and node not in grid.away]
        now, asked = time.monotonic(), set(self._asked.values())
        missing = [node for node in here if node not in self.nodes and node not in asked]
        again = [
            node for node in missing if now - self._refused_at.get(node, -REFUSED_AGAIN) >= REFUSED_AGAIN
        ]
        waited = {node for node in again if node not in self._refused_at}
        if again:
            identities = grid.push_messages([self._question(node) for node in again])
            self._asked |= {each: node for each, node in zip(identities, again, strict=True) if each}
        while self._asked:
            for reply in grid.pull_messages(list(self._asked)):
                node = self._asked.pop(reply.metadata.reply_to_message_id)
                grid.away.discard(node)
                self._hear(node, reply)
            if time.monotonic() - now > PING or not waited & set(self._asked.values()):
                break
            time.sleep(POLL_SECONDS)
        if self.nodes != before or again:
            self._write()

    @contextlib.contextmanager
    def bearing(self, node: int, lost: dict[str, str]) -> Iterator[None]:
        """Go on without a site that a block fails for, and note why; one that refuses is left out from then on.

        Where everybody has to take part, the error is raised.
        """
        try:
            yield
        except FedferError as error:
            if self._patient is None:
                raise
            lost.setdefault(self._label(node), error.what)
            if not isinstance(error, BORNE):
                self._leave_out(node, error)
                self._write()

    def require_own(self, node: int, answer: RecordDict) -> str:
        """Return the name of the site that an answer says it is of.

        Raises
        ------
        IdentityError : the node is another site's, whose figures and ledger the answer is not about.
        EngineError : it says none.
        """
        name = text(answer, "site")
        if self._labels.get(node, name) != name or self.names.get(node, name) != name:
            raise IdentityError(
                f"it says that it is {name}",
                where=self._label(node),
                cure="Revoke it: fedfer server revoke DIR SITE.",
            )
        return name

    def _question(self, node: int) -> Message:
        return Message(tell({"plan": self._plan.text, **spoken()}), node, MessageType.QUERY)

    def _hear(self, node: int, reply: Message) -> None:
        """Take in whether a site takes part."""
        try:
            answer = content_of(reply)
            name = self.require_own(node, answer)
            require_same(facts_of(answer), "the site's", name)
            session = int(scalar(answer, "session")) if "session" in facts_of(answer) else -1
            if not -1 <= session < MOST_SESSIONS:  # all go on above it
                raise IdentityError(
                    f"it says that its last session was {session:.3g}",
                    where=self._label(node),
                    cure="Revoke it: fedfer server revoke DIR SITE.",
                )
        except FedferError as error:
            if self._patient is None:
                raise
            if isinstance(error, BORNE):
                self._patient.away.add(node)
            else:
                self._leave_out(node, error)
            return
        self.refused.pop(self._label(node), None)
        self._refused_at.pop(node, None)
        self.names[node] = name
        self._claims[node] = session
        if node not in self.nodes:
            bisect.insort(self.nodes, node, key=self.names.__getitem__)
        if self.admit is not None:
            self.admit(node, name)

    def _leave_out(self, node: int, error: FedferError) -> None:
        self.refused[self._label(node)] = error
        self._refused_at[node] = time.monotonic()
        if node in self.nodes:
            self.nodes.remove(node)

    def _label(self, node: int) -> str:
        return self._labels.get(node) or self.names.get(node) or f"node {node}"

    def _here(self) -> list[int]:
        found = list(self._grid.get_nodes())
        self._labels |= {each.node_id: each.name for each in found if each.name}
        return [each.node_id for each in found]

    def _registered(self) -> list[int]:
        """Return the nodes that are there, when there are as many as are waited for."""
        began, pause = time.monotonic(), POLL_SECONDS
        while len(nodes := self._here()) < self._sites:
            waited = time.monotonic() - began
            if self._patient and len(nodes) >= self.quorum and waited > GRACE:
                break
            if waited > WAITING_SECONDS:
                raise EngineError(
                    f"only {len(nodes)} of {self._sites} sites have registered",
                    cure="Try again when more are connected.",
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        return nodes

    def _write(self) -> None:
        if self._patient is None:
            return
        present = {self.names[node] for node in self.nodes}
        self._folder.write_json(
            SITES,
            {
                "present": sorted(present),
                "away": sorted(set(self.names.values()) - present - set(self.refused)),
                "refused": {
                    name: {"kind": type(error).__name__, "what": error.what, "where": error.where}
                    for name, error in sorted(self.refused.items())
                },
            },
        )
