"""Where an agent's open sessions are kept, and what an old copy of a site's folder can do: nothing."""

import os
import shutil
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import client.session_files as session_files
from client.secagg.journal import DiskJournal
from client.secagg.participant import Participant
from client.secagg.policy import Policy
from client.secure_site import Membership, SecureSite
from client.session_files import Left, SessionFiles, memory_folder
from fer_models.errors import SecureAggregationError

sys.path.append(str(Path(__file__).parents[1] / "server" / "secagg"))
from conftest import QUESTION, World, key, vector


class Site:
    """A site of a world whose journal is in its folder, and whose sessions are elsewhere."""

    def __init__(self, world, folder, memory):
        self.world, self.folder, self.files = world, folder, SessionFiles(memory)
        folder.mkdir(exist_ok=True)

    def started(self, policy=None):
        """Its participant in a new process, with the session that an earlier one was in, if any is left."""
        made = Participant(
            self.world.identities[2], self.world.roster, self.world.expected, policy or self.world.policy,
            DiskJournal(self.folder / "journal.sqlite"), lambda purpose: os.urandom(32), self.keep,
        )  # fmt: skip
        for left in self.files.read():
            made.restore(left.state, left.vector)
        return made

    def keep(self, participant):
        self.files.keep(Left(participant.offer.session, participant.snapshot(), participant.vector, {}))


@pytest.fixture
def shared(tmp_path):
    """A site that has shared and not yet masked, its world, and what it is asked."""
    world = World(5)
    site = Site(world, tmp_path / "site", tmp_path / "memory")
    world.sites[2] = site.started()
    session = world.session
    for each in range(5):
        session.take_advert(each, world.sites[each].advertise(session.offer()))
    for each in range(5):
        session.take_shares(each, world.sites[each].share(session.roll()))
    session.ask(QUESTION)
    return site, session.inbox(2)


def test_a_site_s_folder_that_is_put_back_from_a_copy_masks_nothing_else(shared, tmp_path):
    """Two vectors under the same masks would give their difference away."""
    site, inbox = shared
    shutil.copytree(site.folder, tmp_path / "copy")
    sent = site.world.sites[2].mask(inbox, QUESTION, vector(2, seed=1))
    shutil.rmtree(site.folder)
    shutil.copytree(tmp_path / "copy", site.folder)
    again = site.started()
    assert again.mask(inbox, QUESTION, vector(2, seed=2)) == sent, "the same bytes"
    with pytest.raises(SecureAggregationError, match="another question"):
        again.mask(inbox, key("another"), vector(2, seed=2))
    shutil.rmtree(tmp_path / "memory")  # the machine was off
    with pytest.raises(AttributeError):
        site.started().offer  # noqa: B018 - in no session


def test_a_session_is_not_taken_up_under_floors_that_it_falls_short_of(shared):
    site, _ = shared
    assert site.started().offer == site.world.terms
    with pytest.raises(SecureAggregationError) as refused:
        site.started(Policy(colluders=3))
    assert refused.value.code == "below_floor"


def test_a_round_that_has_its_vector_is_refused_before_any_work(shared):
    """An older session beside a newer journal: the work would cost epsilon, and its vector would be refused."""
    site, inbox = shared
    DiskJournal(site.folder / "journal.sqlite").mask(site.world.terms.run, "train", 1, 1)
    with pytest.raises(SecureAggregationError) as refused:
        site.started().open(inbox)
    assert refused.value.code == "already_masked"


def test_a_rotten_file_is_no_session_and_what_a_kill_left_half_written_goes(tmp_path, caplog):
    files = SessionFiles(tmp_path / "s")
    files.keep(Left(3, b"{}", b"vector", {}))
    path = tmp_path / "s" / "000003.session"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (tmp_path / "s" / ".000004.session.part").write_bytes(whole)
    assert list(files.read()) == []
    assert "its digest is another" in caplog.text
    assert not list((tmp_path / "s").iterdir())


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A folder that stands for the files in memory."""
    monkeypatch.setattr(session_files, "MEMORY", tmp_path)
    monkeypatch.setattr(session_files, "MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(f"disk / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n")
    return tmp_path


def test_sessions_are_kept_in_memory_a_folder_a_site(memory):
    one, other = memory_folder(memory / "one"), memory_folder(memory / "other")
    assert one.parent == other.parent == memory / f"fedfer-{os.getuid()}"
    assert one != other
    assert one == memory_folder(memory / "other" / ".." / "one")
    assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700


def test_nothing_is_kept_on_a_disk(memory):
    (memory / "mounts").write_text(f"tmpfs {memory} tmpfs rw 0 0\ndisk {memory} ext4 rw 0 0\n")
    assert memory_folder(memory / "one") is None
    (memory / "mounts").unlink()
    assert memory_folder(memory / "one") is None


@pytest.mark.parametrize("how", ["open to others", "a link", "a file"])
def test_nothing_is_kept_where_somebody_else_may_look(memory, how):
    own = memory / f"fedfer-{os.getuid()}"
    if how == "open to others":
        own.mkdir(mode=0o755)
    elif how == "a link":
        (memory / "elsewhere").mkdir(mode=0o700)
        own.symlink_to(memory / "elsewhere")
    else:
        own.write_text("")
    assert memory_folder(memory / "one") is None


def test_a_site_goes_on_in_its_process_where_memory_is_full(tmp_path, caplog, monkeypatch):
    """What is written half stays nowhere, and the session that was kept before goes: it would be an older one."""
    files = SessionFiles(tmp_path / "s")
    files.keep(Left(3, b"{}", b"vector", {}))

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    site = SecureSite(SimpleNamespace(name="a"), Membership(None, None, None, None))
    site._member = SimpleNamespace(files=files)
    participant = SimpleNamespace(offer=SimpleNamespace(session=3), snapshot=lambda: b"{}", vector=b"other")
    site._keep(participant)
    assert not list((tmp_path / "s").iterdir())
    assert "session 3 is not kept, memory for it is full" in caplog.text
