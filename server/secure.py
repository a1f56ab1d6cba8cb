"""Sites of whose answers the coordinator learns sums alone; :mod:`server.sessions` asks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from flwr.serverapp import Grid
from numpy.typing import NDArray

from client.identity import Roster
from client.messages import pack, tell
from client.plan import Plan
from client.secagg.layout import Purpose, Sum
from client.secagg.refusals import refuse
from client.told import Told
from fer_models.errors import SecureAggregationError
from server.aggregation import mean_of_sum
from server.asking import EVERYBODY, Answers, Judging, question, take_noisy
from server.books import Books
from server.scaffold import Control
from server.secagg.kept import Kept, Recorder
from server.sessions import Following, Sessions, Task
from server.standing import Standing


class SecureSites:
    """Sites in sessions of secure aggregation.

    Parameters
    ----------
    size : numbers of an update, see :meth:`client.plan.Plan.numbers`.
    names : node -> its site's name.
    roster, following, first, standing, record, control, kept : as in :class:`server.sessions.Sessions`.
    """

    def __init__(
        self,
        grid: Grid,
        plan: Plan,
        size: int,
        names: Mapping[int, str],
        books: Books,
        *,
        roster: Roster,
        following: Following,
        first: int = 0,
        standing: Standing,
        record: Recorder | None = None,
        control: Control | None = None,
        kept: Kept | None = None,
    ) -> None:
        self._plan, self._roster, self._control, self._standing = plan, roster, control, standing
        self._sessions = Sessions(
            grid, plan, size, names, books, roster=roster, following=following, first=first, standing=standing,
            record=record, control=control, kept=kept,
        )  # fmt: skip

    @property
    def settled(self) -> bool:
        """Whether the next session has been prepared with some sites; see :class:`server.asking.Sites`."""
        return self._sessions.settled

    # The questions

    def train(
        self,
        nodes: Sequence[int],
        round_number: int,
        vector: torch.Tensor,
        told: Told,
        judging: Judging | None,
    ) -> Answers:
        """Train a round; see :class:`server.asking.Sites`."""
        common = None if self._control is None else self._control.common(len(self._standing.nodes))
        content = question(self._plan, round_number, vector, told, judging, common).content()
        done = self._answers(found := self._sessions.run(Task("train", round_number, tuple(nodes)), content))
        if isinstance(found, Sum):
            done.mean, done.loss, done.visits = mean_of_sum(self._plan, found), found.loss, found.visits
            if self._control is not None:
                names = [self._roster.names[site] for site in self._sessions.survivors]
                self._control.take(done.mean, found.weight, names, round_number)
        return done if judging else replace(done, counts={})

    def _answers(self, found: Sum | SecureAggregationError) -> Answers:
        sessions = self._sessions
        done = Answers(bytes_up=sessions.up, bytes_down=sessions.down, agreed=sessions.last.agreed)
        sessions.up = sessions.down = 0
        if isinstance(found, SecureAggregationError):
            done.lost = self._why(found)
        else:
            done.cpu_seconds = found.cpu_seconds
            done.counts = {} if found.counts is None else {EVERYBODY: found.counts}
            if found.audit is not None:
                take_noisy(done, self._plan, found.audit, found.sites)
        return done

    def _why(self, error: SecureAggregationError) -> str:
        """Return why a session was lost, with what the sites that dropped out said."""
        told = "; ".join(f"{site}: {reason}" for site, reason in list(self._sessions.post.lost.items())[:3])
        return f"{error.what}{f' ({told})' if told else ''}"

    def evaluate(self, nodes: Sequence[int], judging: Judging, round_number: int) -> Answers:
        """Evaluate weights at every site; see :class:`server.asking.Sites`."""
        facts = {"plan": self._plan.text, "prove": int(judging.prove), "round": round_number}
        content = pack(judging.vector.numpy(), facts)
        done = self._answers(self._sessions.run(Task("evaluate", round_number, tuple(nodes)), content))
        return replace(done, bytes_up=0, bytes_down=0)  # as in plain, where an evaluation is not counted

    def label_counts(self, nodes: Sequence[int]) -> NDArray[np.int64]:
        """Ask for label counts, of which only the sum is learnt; see :class:`server.asking.Sites`.

        Raises
        ------
        SecureAggregationError : the session was lost; without the counts there is no run.
        """
        found = self._counts("label_counts", nodes)
        assert found.label_counts is not None
        return found.label_counts

    def statistics(self, nodes: Sequence[int]) -> tuple[NDArray[np.int64], int]:
        """Ask for statistics, of which only the sum is learnt; see :class:`server.asking.Sites`.

        Raises
        ------
        SecureAggregationError : the session was lost.
        """
        found = self._counts("statistics", nodes)
        assert found.statistics is not None
        return found.statistics, found.sites

    def _counts(self, purpose: Purpose, nodes: Sequence[int]) -> Sum:
        found = self._sessions.run(Task(purpose, 0, tuple(nodes)), tell({"plan": self._plan.text}))
        if isinstance(found, SecureAggregationError):
            raise refuse(found.code, self._why(found), found.culprit) from found
        return found

    def moments(
        self, nodes: Sequence[int], round_number: int, vector: torch.Tensor, radius: float
    ) -> Answers:
        """Ask for sums of features after the last round, of everybody's pictures alone.

        Parameters
        ----------
        vector, radius : as in :meth:`client.agent.Agent.moments`.
        """
        content = pack(vector.numpy(), {"plan": self._plan.text, "round": round_number, "radius": radius})
        found = self._sessions.run(Task("moments", round_number, tuple(nodes)), content)
        done = self._answers(found)
        return done if isinstance(found, SecureAggregationError) else replace(done, total=found)
