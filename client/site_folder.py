"""A site is a folder; this is the only code that knows what lies in it.

::

    site.json            the site's name
    policy.yaml          what may be asked of it
    data.yaml            which pictures it holds
    keys/signing.pem     signs what it sends in secure aggregation
    keys/node.key        by which it signs every request to the server
    request.json         what ``site enrol`` wrote for the coordinator
    study.json           what the site has joined: the coordinator, its address, everybody's keys
    ledger.sqlite        the privacy ledger, made with the first release
    journal.sqlite       what it has sent in secure aggregation
    audit.jsonl          what was asked of it
    settled.json         in which one way it tells exact counts of training pictures
    judged.txt           which weights it has judged
    worked.json          how long it has worked for each plan
    variates/            its control variates, in a run with SCAFFOLD
    agent.sock, .lock    where its agent answers, and what keeps a second one away

Only its owner may enter it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.answered import Answered
from client.enrolment import Request, make_request, require_name
from client.identity import Identity
from client.keys import (
    make_folder,
    make_node_key,
    make_signing_key,
    read_node_key,
    read_signing_key,
    write_own,
)
from client.settled import Settled
from client.study import Study, read_study, require_successor
from fer_models.errors import ConfigError, IdentityError

if TYPE_CHECKING:  # torch comes with what follows, and most of a site's commands and processes do without
    from client.agent import Agent
    from client.ledger import Ledger
    from client.policy import SitePolicy
    from client.site_data import Held
    from client.workbench import Benches


@dataclass(frozen=True)
class SiteFolder:
    """The folder of one site.

    Example::

        folder = SiteFolder.open(Path("clinic-a"))
        policy = folder.policy()
        held, ledger = folder.data(), folder.ledger(policy)
        agent = folder.agent(policy, held, Benches(torch.device("cpu")), ledger)

    Attributes
    ----------
    path : the folder.
    name : the site's name.
    """

    path: Path
    name: str

    @classmethod
    def make(cls, path: Path, name: str, reader: str, root: str) -> SiteFolder:
        """Make a new site: keys, a careful policy, and a mapping of its data.

        Raises
        ------
        ConfigError : the folder holds something, or the name or the reader is none.
        """
        from client.policy_template import TEMPLATE as POLICY
        from client.site_data import REHEARSAL
        from client.site_data import TEMPLATE as DATA
        from fer_models.readers import names

        require_name(name)
        known = (*names(), REHEARSAL)
        if reader not in known:
            cure = f"Use one of {', '.join(known)}."
            raise ConfigError(f"unknown reader {reader!r}", where="--reader", cure=cure)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                "the folder is not empty", where=str(path), cure="Give a new one; keys are never overwritten."
            )
        make_folder(path)
        path.chmod(0o700)
        make_folder(path / "keys")
        make_signing_key(path / "keys" / "signing.pem")
        make_node_key(path / "keys" / "node.key")
        texts = {
            "policy.yaml": POLICY,
            "data.yaml": DATA.format(reader=reader, root=json.dumps(root)),
            "site.json": json.dumps({"site": name}) + "\n",  # last: without it this is no site
        }
        for file, text in texts.items():
            write_own(path / file, text)
        return cls(path, name)

    @classmethod
    def open(cls, path: Path) -> SiteFolder:
        """Return the site of a folder.

        Raises
        ------
        ConfigError : it holds none.
        """
        try:
            name = require_name(json.loads((path / "site.json").read_text())["site"])
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise ConfigError(
                "this folder holds no site", where=str(path), cure="Make one with fedfer site init DIR."
            ) from error
        return cls(path, name)

    @property
    def socket(self) -> Path:
        """Where the site's agent answers while it runs."""
        return self.path.absolute() / "agent.sock"

    @property
    def ledger_path(self) -> Path:
        """The file of the privacy ledger."""
        return self.path / "ledger.sqlite"

    def ledger(self, policy: SitePolicy) -> Ledger:
        """Return the privacy ledger, with the policy's limit."""
        from client.ledger import Ledger

        return Ledger(self.ledger_path, self.name, policy.limit)

    def identity(self) -> Identity:
        """Return the signing key; see :func:`client.keys.read_signing_key`."""
        return read_signing_key(self.path / "keys" / "signing.pem")

    def node_key(self) -> str:
        """Return the public half of the node's key; see :func:`client.keys.read_node_key`."""
        return read_node_key(self.path / "keys" / "node.key")

    def policy(self) -> SitePolicy:
        """Return the site's policy; see :func:`client.policy.read_policy`."""
        from client.policy import read_policy

        return read_policy(self.path / "policy.yaml")

    def data(self) -> Held:
        """Return the site's pictures; see :func:`client.site_data.read_data`."""
        from client.site_data import read_data

        return read_data(self.path / "data.yaml")

    def request(self) -> Request:
        """Return the request for the coordinator: the name and the public keys, signed."""
        return make_request(self.name, self.identity(), self.node_key())

    def enrol(self) -> Request:
        """Write the request for the coordinator, and return it."""
        request = self.request()
        write_own(self.path / "request.json", request.text)
        return request

    def study(self) -> Study | None:
        """Return the study that the site has joined, None where it has joined none.

        Raises
        ------
        IdentityError : its file is damaged, or its certificate out of date.
        """
        path = self.path / "study.json"
        return read_study(path) if path.exists() else None

    def join(self, study: Study, fingerprint: str | None) -> None:
        """Join a study, or take a newer file of the one that was joined.

        Parameters
        ----------
        fingerprint : what the coordinator read out; needed the first time.

        Raises
        ------
        IdentityError : see :func:`client.study.require_successor`; or the site is not in the study.
        PolicyError : the policy names trusted coordinators, and this is none of them.
        """
        require_successor(study, self.study(), fingerprint)
        self.policy().require_trusted(study.fingerprint, self.name)
        if study.sites.get(self.name) != self.identity().public.hex():
            raise IdentityError(
                f"{self.name} is not in this study with its key: not approved yet, or revoked",
                where="study, sites",
                cure="Send request.json to the coordinator, and ask for the study after it was approved.",
            )
        write_own(self.path / "study.json", study.text)

    @property
    def settled(self) -> Settled:
        """How the site tells exact counts of its training pictures."""
        return Settled(self.path / "settled.json")

    def agent(self, policy: SitePolicy | None, held: Held, benches: Benches, ledger: Ledger) -> Agent:
        """Return the site's agent; a made-up site's randomness follows from its seed, a real one's from the system.

        Parameters
        ----------
        policy : None allows all, for a trial of which nothing leaves.
        ledger : the site's own, or one in memory for a trial.
        """
        from client.agent import Agent
        from client.randomness import SeededEntropy, SystemEntropy
        from client.scaffold import Variates

        return Agent(
            self.name,
            held.samples,
            held.samples.rows("train"),
            held.samples.rows("test"),
            entropy=SystemEntropy() if held.seed is None else SeededEntropy(held.seed, self.name),
            ledger=ledger,
            benches=benches,
            opted_out=held.opted_out,
            policy=policy,
            answered=Answered(self.path / "judged.txt", self.settled),
            variates=Variates(self.path / "variates"),
        )
