"""What the coordinator keeps of the sites' privacy ledgers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flwr.app import RecordDict

from client.accounting import epsilon_of
from client.mechanisms import History, from_json
from client.messages import text
from client.plan import Plan
from fer_models.errors import PrivacyError


class Books:
    """What each site's ledger said when the site last answered, and the epsilon that it comes to.

    Attributes
    ----------
    epsilon : site -> epsilon when it was last worked out; empty without privacy.
    heads : site -> where its ledger stood.
    told : site -> the history that it told, as it came.
    """

    def __init__(self, plan: Plan) -> None:
        self._privacy = plan.privacy
        self.epsilon: dict[str, float] = {}
        self.heads: dict[str, str] = {}
        self.told: dict[str, str] = {}
        self._histories: dict[str, History] = {}

    def charge(self, content: RecordDict) -> None:
        """Take in what a site's ledger says after a release.

        Raises
        ------
        PrivacyError : it comes to no finite epsilon; at the run's first release, so that nobody trains in vain.
        """
        if self._privacy is None:
            return
        site = text(content, "site")
        told = text(content, "history")
        self._histories[site], self.told[site] = from_json(told, f"history of {site}"), told
        self.heads[site] = text(content, "ledger")
        if site not in self.epsilon:
            self.account()

    def account(self) -> float | None:
        """Work out what the sites have spent, and return the largest; None without privacy.

        A tight accountant takes a while, so this is called where the figure is told, and nowhere else: what a kill
        meanwhile would take must be on disk before.
        """
        for site, history in self._histories.items():
            assert self._privacy is not None
            self.epsilon[site] = epsilon_of(history, self._privacy.delta).value
            if not math.isfinite(self.epsilon[site]):
                raise PrivacyError("no finite epsilon", where=site, cure="Plan more noise.")
        return max(self.epsilon.values(), default=None)

    def take_up(
        self, epsilon: Mapping[str, float], heads: Mapping[str, str], told: Mapping[str, str]
    ) -> None:
        """Go on from what a checkpoint tells."""
        self.told = {str(site): str(value) for site, value in told.items()}
        self._histories = {site: from_json(value, f"history of {site}") for site, value in self.told.items()}
        self.epsilon = {str(site): float(value) for site, value in epsilon.items()}
        self.heads = {str(site): str(value) for site, value in heads.items()}
