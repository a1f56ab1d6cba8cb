"""Carrying the messages of secure aggregation: who is who, who is gone, and who is waited for.

A site answers a message that it has answered before with the same bytes. So where too few have answered for a sum,
those that are gone are waited for, and asked again when they are back.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from client.identity import Roster
from client.messages import facts_of, tell, text
from client.plan import Plan
from client.secagg.refusals import refuse
from client.secure_site import from_text, to_text
from fer_models.errors import EngineError, SecureAggregationError
from server.exchange import content_of, exchange
from server.patience import PatientGrid
from server.standing import WAITING_SECONDS, Standing

KEYS = "query.secure"
"""Type of the messages of keys."""

AGAIN, TICK = 5, 1.0
"""How often a site that was gone is asked again, and the seconds between two looks at who is back."""

Take = Callable[[int, bytes], object]
"""Takes a site's answer."""


@dataclass(frozen=True)
class Ending:
    """One of the two exchanges that end a session.

    Attributes
    ----------
    name : of what the sites are sent.
    of : a site's id -> what it is sent.
    take : takes its answer.
    missing : who has not answered.
    enough : whether those who have are enough.
    """

    name: str
    of: Callable[[int], bytes]
    take: Take
    missing: Callable[[], list[int]]
    enough: Callable[[], bool]

    def parts(self, sites: Iterable[int]) -> dict[int, dict[str, bytes]]:
        """Return what some sites are sent."""
        return {site: {self.name: self.of(site)} for site in sites}


class Post:
    """Carries messages to sites and their answers back.

    Parameters
    ----------
    names : node -> its site's name.
    standing : who takes part, and which errors of a site a run goes on after.

    Attributes
    ----------
    ids, nodes : node -> its site's id in the roster, and the other way round, of all that ever came.
    lost : name of a site -> why it dropped out of the session, where it said so.
    gone : ids of those that gave no answer at all when they were last asked.
    """

    def __init__(
        self, grid: Grid, plan: Plan, names: Mapping[int, str], roster: Roster, standing: Standing
    ) -> None:
        self._grid, self._plan, self._roster, self._standing = grid, plan, roster, standing
        self.ids = {node: roster.id_of(name) for node, name in names.items()}
        self.nodes = {site: node for node, site in self.ids.items()}
        self.lost: dict[str, str] = {}
        self.gone: set[int] = set()

    def admit(self, node: int, name: str) -> None:
        """Take in a site that comes, or comes back."""
        self.ids[node] = self._roster.id_of(name)
        self.nodes[self.ids[node]] = node

    def forget(self) -> None:
        """Begin a session, of which nobody is lost or gone."""
        self.lost, self.gone = {}, set()

    def known(self, sites: Iterable[int]) -> list[int]:
        """Return those of some sites that have come since this process began; the others are gone."""
        found = list(sites)
        self.gone |= {site for site in found if site not in self.nodes}
        return [site for site in found if site in self.nodes]

    def keys(self, parts: Mapping[int, Mapping[str, bytes]], takers: Mapping[str, Take], group: str) -> None:
        """Send each site its part of some exchanges, and hand its answers to whom they are for.

        Parameters
        ----------
        group : by which the messages are named.
        """
        plan, texts = self._plan.text, {}
        for part in parts.values():
            texts |= {id(data): to_text(data) for data in part.values() if id(data) not in texts}
        messages = []
        for site in self.known(parts):
            told = {name: texts[id(data)] for name, data in parts[site].items()}
            messages.append(Message(tell({"plan": plan, **told}), self.nodes[site], KEYS, group_id=group))
        for site, reply in self.replies(messages):
            facts = facts_of(reply)
            for name in parts[site]:
                with self.bearing(site):
                    if name not in facts:
                        raise refuse("malformed", facts.get(f"{name} refused", f"no answer to the {name}"))
                    takers[name](site, from_text(text(reply, name)))

    def replies(self, messages: Iterable[Message]) -> Iterator[tuple[int, RecordDict]]:
        """Yield site and answer; a site that crashed or refused has dropped out, any other error ends the run."""
        for reply in exchange(self._grid, messages):
            site = self.ids[reply.metadata.src_node_id]
            with self.bearing(site):
                yield site, content_of(reply)

    @contextlib.contextmanager
    def bearing(self, site: int) -> Iterator[None]:
        """Go on without a site that a block fails for, and note why."""
        with self._standing.bearing(self.nodes[site], self.lost):
            try:
                yield
            except (SecureAggregationError, EngineError) as error:
                if isinstance(error, EngineError):
                    self.gone.add(site)
                self.lost.setdefault(self._roster.names[site], error.what)

    def wait(
        self,
        kind: str,
        began: float,
        again: Callable[[Sequence[int]], None],
        missing: Callable[[], Sequence[int]],
        enough: Callable[[], bool],
    ) -> None:
        """Where too few have answered, wait for those that are gone, and ask them again.

        Parameters
        ----------
        kind : of the messages.
        began : when they were first sent.
        again : sends some sites theirs once more.
        missing, enough : who has not answered, and whether that matters.
        """
        grid = self._grid
        if not isinstance(grid, PatientGrid):
            return
        end, tries = began + min(grid.patience.of(kind), WAITING_SECONDS), Counter[int]()
        while not enough() and time.monotonic() < end:
            hoped = [site for site in missing() if site in self.gone and tries[site] < AGAIN]
            if not hoped:
                return
            time.sleep(TICK)
            self._standing.refresh()
            back = [site for site in hoped if self.nodes.get(site) in self._standing.nodes]
            tries.update(back)
            self.gone -= set(back)
            if back:
                again(back)
