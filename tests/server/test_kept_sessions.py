"""A coordinator that dies in the middle of a session: the next one goes on with it, to the same sum, bit for bit."""

import functools
import hashlib
import json
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from flwr.app import Error, Message

import server.sessions as sessions
from client.app import make_app
from client.plan import Secure
from client.secagg.journal import DiskJournal
from client.secagg.policy import Policy
from client.secagg.wire import Offer
from client.secure_site import Membership, SecureSite
from client.session_files import Left, SessionFiles
from fer_models.errors import RunFolderError, SecureAggregationError
from server.rounds import Coordinator
from server.run_folder import RunFolder
from server.secagg.kept import FILE, Kept
from server.secagg.transcript import Transcripts
from server.secagg.verify import verify
from simulations.federated import Sites
from simulations.grid import LocalGrid

SITES, NEEDED = 4, 3


class Killed(BaseException):
    pass


@dataclass(frozen=True)
class Real(Sites):
    """Sites that keep their sessions and their journals on disk, as real ones do."""

    folder: Path = Path()
    sent: dict = field(default_factory=dict)

    def secure(self, context):
        """Return a node's part in secure aggregation."""
        site = int(context.node_config["partition-id"])
        if site not in self._members:
            name, journal = self.names[site], DiskJournal(self.folder / f"{self.names[site]}.sqlite")
            files, policy = SessionFiles(self.folder / name), Policy(profile="semi-honest")
            member = Membership(self._identities[name], self.roster, policy, journal, files=files)
            self._members[site] = SecureSite(self.agent(site), member)
        return self._members[site]

    def die(self, *sites):
        """Forget all that was in the memory of some agents; of all, where none is named."""
        for site in sites or tuple(self._members):
            self._members.pop(site, None)


class Mortal(LocalGrid):
    """A grid of a coordinator that dies when it has ``heard`` answers to the messages of a ``batch``, numbered from 0.

    Batch 0 asks who takes part, 1 and 2 exchange keys; then three make a round: work, survivors, consents.
    """

    def __init__(self, sites, batch=-1, heard=0):
        nodes = {i + 1: {"partition-id": i} for i in range(SITES)}
        super().__init__(make_app(sites, sites.secure), nodes)
        self.point, self.asked, self.sites = (batch, heard), [], sites

    def push_messages(self, messages):
        sent = list(messages)
        self.asked.append([(each.metadata.message_type, each.metadata.dst_node_id) for each in sent])
        self.heard = 0
        return super().push_messages(sent)

    def _answer(self, message):
        if (len(self.asked) - 1, self.heard) == self.point:
            raise Killed
        self.heard += 1
        reply = super()._answer(message)
        if "vector" in reply.content:  # whatever a site masks for a round has the same bytes
            key = message.metadata.message_type, message.metadata.group_id, message.metadata.dst_node_id
            body = next(iter(reply.content["vector"].values())).data
            assert self.sites.sent.setdefault(key, body) == body
        return reply


def secured(plan):
    weight = 64 if plan.privacy is None else 1
    terms = Secure(SITES, NEEDED, 3, clip=4.0, largest_weight=weight)
    return replace(plan, aggregation="secure", secure=terms)


@pytest.fixture
def study(plan_of, sites_of, tmp_path, monkeypatch):
    """study(private=False, **server): a plan, its sites, and what runs it once with a grid."""
    monkeypatch.setattr(sessions, "PAUSE", 0.0)  # every vector is kept as it comes

    class Study:
        def __init__(self, **options):
            self.plan = secured(plan_of(**{"rounds": 2, **options}))
            whole, ledgers = sites_of((18,) * SITES), tmp_path / "ledgers" if options.get("private") else None
            self.sites = Real(whole.samples, whole.partition, whole.seed, ledgers, folder=tmp_path)
            self.folder, self.told = RunFolder(tmp_path / "run"), []

        def run(self, grid):
            return Coordinator(
                self.plan, self.folder, "federated", self.told.append, roster=self.sites.roster,
                checkpoint_seconds=0.0,
            ).run(grid)  # fmt: skip

        def whole(self, *points, all_die=False):
            """Run it, killed at each point in turn; return the result and the grid of the last process."""
            for point in points:
                with pytest.raises(Killed):
                    self.run(Mortal(self.sites, *point))
                if all_die:
                    self.sites.die()
            last = Mortal(self.sites)
            return self.run(last), last

    return Study


@pytest.fixture(scope="module")
def unharmed(plan_of, sites_of, tmp_path_factory):
    """What the studies come to without any kill: private or not -> the result."""

    def run(private):
        plan = secured(plan_of(private=private, rounds=2))
        whole, folder = sites_of((18,) * SITES), tmp_path_factory.mktemp("unharmed")
        sites = Real(
            whole.samples, whole.partition, whole.seed, folder / "l" if private else None, folder=folder
        )
        return Coordinator(plan, RunFolder(folder / "run"), "federated", roster=sites.roster).run(
            Mortal(sites)
        )

    return functools.cache(run)


def same(found, expected):
    assert torch.equal(found.vector, expected.vector)
    assert found.counts == expected.counts
    assert found.epsilon == expected.epsilon
    assert found.totals.bytes_up == expected.totals.bytes_up


@pytest.mark.parametrize("all_die", [False, True], ids=["coordinator", "everything"])
@pytest.mark.parametrize(
    ("batch", "heard"), [(6, 0), (6, 2), (7, 2), (8, 0), (8, 2), (9, 2), (10, 2), (11, 2)]
)
def test_a_session_goes_on_wherever_its_coordinator_dies(study, unharmed, batch, heard, all_die):
    """In the second round, and in the evaluation after it, whose session ends alone; with all agents, or by itself."""
    made = study()
    found, last = made.whole((batch, heard), all_die=all_die)
    same(found, unharmed(False))
    assert [line["round"] for line in made.told] == [1, 2]
    assert not any("lost" in line for line in made.told)
    again = [kind for kind, _ in last.asked[1]]
    kinds = ("train.secure", "evaluate.secure")
    expected = [kinds[batch > 8]] * (SITES - heard) if batch in (6, 9) else ["query.secure"] * SITES
    assert again == expected, "only those that were not heard are asked again, and no keys are made anew"


def test_what_sites_have_paid_is_told_though_the_coordinator_dies_again_and_again(study, unharmed):
    """Twice while vectors come, once when all are in, and once when the masks come off."""
    made = study(private=True)
    found, _ = made.whole((6, 2), (1, 1), (2, 0), (3, 1))
    same(found, unharmed(True))
    assert not any("lost" in line for line in made.told)
    assert found.epsilon.keys() == set(made.sites.names)


@pytest.mark.parametrize("batch", range(6, 9))
def test_a_session_goes_on_though_one_agent_after_the_other_dies(study, unharmed, batch):
    """Each just before it answers, so that none has anything but what is on its disk; three are needed of four."""
    made = study()

    class Dying(Mortal):
        def _answer(self, message):
            if len(self.asked) - 1 == batch:
                self.sites.die(message.metadata.dst_node_id - 1)
            return super()._answer(message)

    same(made.run(Dying(made.sites)), unharmed(False))
    assert not any("lost" in line for line in made.told)
    kept = [path for name in made.sites.names for path in (made.sites.folder / name).iterdir()]
    assert len(kept) <= 2 * SITES
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)
    assert all(stat.S_IMODE(path.parent.stat().st_mode) == 0o700 for path in kept)


def test_a_file_of_a_session_that_cannot_be_read_is_no_session(tmp_path, caplog):
    files = SessionFiles(tmp_path / "s")
    files.keep(Left(3, b"{}", b"vector\nof lines", {"history": "[]"}))
    assert list(files.read()) == [Left(3, b"{}", b"vector\nof lines", {"history": "[]"})]
    files.keep(Left(4, b"{}", b"", {}))
    (tmp_path / "s" / "000004.session").write_bytes(hashlib.sha256(b"{").digest() + b"{")
    os.utime(tmp_path / "s" / "000003.session", (0, 0))
    assert list(files.read()) == []
    assert not list((tmp_path / "s").iterdir())
    assert "the session 000003 is not taken up: it is old" in caplog.text


class Without(Mortal):
    """A grid in which site 2 is gone when it is asked to train."""

    def _answer(self, message):
        if message.metadata.message_type == "train.secure" and message.metadata.dst_node_id == 3:
            return Message(Error(0, "gone"), reply_to=message)
        return super()._answer(message)


def test_a_vector_that_was_not_kept_is_in_no_transcript(study, monkeypatch):
    """Else an honest coordinator is taken for one that left a site out: the sum of the others has signed survivors."""
    made = study()
    monkeypatch.setattr(sessions, "PAUSE", 1e9)
    folder = made.folder.path / "transcripts"

    def run(grid):
        kept = Transcripts(folder, made.plan, made.sites.roster)
        Coordinator(
            made.plan,
            made.folder,
            "federated",
            roster=made.sites.roster,
            checkpoint_seconds=0.0,
            transcripts=kept,
        ).run(grid)

    with pytest.raises(Killed):
        run(Mortal(made.sites, 6, 3))
    run(Without(made.sites))
    (round_two,) = [each for each in sorted(folder.iterdir()) if _round_of(each) == ("train", 2)]
    assert not (round_two / "masked-2.bin").exists()
    assert len(verify(round_two).survivors) == SITES - 1


def _round_of(folder):
    offer = Offer.parse((folder / "offer.bin").read_bytes())
    return offer.purpose, offer.round_number


def test_a_session_that_cannot_be_read_stays_where_it_is(study):
    made = study()
    with pytest.raises(Killed):
        made.run(Mortal(made.sites, 6, 0))
    path = made.folder.path / FILE
    path.rename(path.with_suffix(".aside"))
    path.mkdir()
    with pytest.raises(RunFolderError, match="cannot read"):
        Kept(path, made.sites.roster).find()
    path.rmdir()
    path.with_suffix(".aside").rename(path)

    def full(offer, masked):
        raise RunFolderError("cannot write: No space left on device")

    with pytest.raises(RunFolderError, match="No space left"):
        Kept(path, made.sites.roster).find(full)
    assert Kept(path, made.sites.roster).find() is not None


def test_a_session_of_which_the_plan_says_something_else_is_not_taken_up(study):
    made = study()
    with pytest.raises(Killed):
        made.run(Mortal(made.sites, 6, 0))
    kept = Kept(made.folder.path / FILE, made.sites.roster)
    found = kept.find()
    assert (found.session.terms.round_number, found.session.phase, found.number) == (2, "masked", 2)
    other = Coordinator(
        replace(made.plan, run="another"), RunFolder(made.folder.path.parent / "other"), "federated",
        roster=made.sites.roster, checkpoint_seconds=0.0,
    )  # fmt: skip
    (made.folder.path.parent / "other" / FILE).write_bytes(kept.path.read_bytes())
    made.sites.sent.clear()  # another run has other masks
    grid = Mortal(made.sites)
    other.run(grid)
    assert [kind for kind, _ in grid.asked[1]] == ["query.secure"] * SITES
    assert [kind for kind, _ in grid.asked[3]] == ["train.secure"] * SITES, "after two exchanges of keys"


def harmed(data, how):
    """A session's file that a disk or somebody has changed."""
    if how == "cut":
        return data[: len(data) // 2]
    if how == "flipped":
        return data[:-1] + bytes([data[-1] ^ 1])
    size = int.from_bytes(data[32:40], "little")
    facts, total = json.loads(data[40 : 40 + size]), data[40 + size :]
    if how == "forged":  # by somebody who can make the digest, and no signature of a site
        facts["taken"][1][2] = facts["taken"][0][2]
    elif how == "short":
        total = total[:-4]
    elif how == "another shape":
        facts = {"offer": facts["offer"]}
    head = json.dumps(facts).encode()
    rest = len(head).to_bytes(8, "little") + head + total
    return hashlib.sha256(rest).digest() + rest


def test_a_damaged_session_is_refused_and_another_one_is_begun(study, unharmed, caplog):
    """Before any site has masked, nothing is lost by it."""
    made = study()
    with pytest.raises(Killed):
        made.run(Mortal(made.sites, 6, 0))
    path = made.folder.path / FILE
    whole = path.read_bytes()
    for how in ("another shape", "short", "forged", "flipped", "cut"):
        path.write_bytes(harmed(whole, how))
        with pytest.raises(SecureAggregationError, match="is not what was written") as refused:
            Kept(path, made.sites.roster).find()
        assert refused.value.code == "damaged_session"
    found, _ = made.whole()
    assert "the session in session.bin is not what was written" in caplog.text
    same(found, unharmed(False))
    assert not any("lost" in line for line in made.told)


def test_a_session_that_cannot_be_taken_up_after_sites_have_masked_costs_its_round_alone(study):
    made = study()
    with pytest.raises(Killed):
        made.run(Mortal(made.sites, 6, 2))
    (made.folder.path / FILE).write_bytes(b"")
    found, _ = made.whole()
    lost = [line["lost"] for line in made.told if "lost" in line]
    assert len(lost) == 1
    assert "round 2 has had its masked vector" in lost[0]
    assert found.vector.isfinite().all()
