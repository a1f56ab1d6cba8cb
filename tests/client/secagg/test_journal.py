"""What a site has sent is written down before it is sent, and outlives the process."""

import json
import stat
import subprocess
import sys

import pytest

from client.secagg.journal import DiskJournal, MemoryJournal
from fer_models.errors import SecureAggregationError

RUN, OTHER = b"r" * 32, b"o" * 32
ONE, TWO = b"1" * 32, b"2" * 32


def refused(code, call, *arguments):
    with pytest.raises(SecureAggregationError) as found:
        call(*arguments)
    assert found.value.code == code


@pytest.fixture(params=["memory", "disk"])
def again(request, tmp_path):
    """The same journal as a restarted site finds it: again() -> journal."""
    if request.param == "disk":
        return lambda: DiskJournal(tmp_path / "site" / "journal.sqlite")
    held = [MemoryJournal()]

    def moved():
        held[0] = MemoryJournal.restore(held[0].snapshot())
        return held[0]

    return moved


def test_sessions_increase_in_each_run(again):
    assert again().last(RUN) == -1
    again().begin(RUN, 3)
    refused("stale_session", again().begin, RUN, 3)
    refused("stale_session", again().begin, RUN, 2)
    again().begin(OTHER, 0)
    again().begin(RUN, 7)
    assert (again().last(RUN), again().last(OTHER)) == (7, 0)


def test_a_round_is_masked_once_for_each_purpose(again):
    assert not again().has_masked(RUN, "train", 1)
    again().mask(RUN, "train", 1, 3)
    assert again().has_masked(RUN, "train", 1) and not again().has_masked(OTHER, "train", 1)
    refused("already_masked", again().mask, RUN, "train", 1, 4)
    refused("already_masked", again().mask, RUN, "train", 1, 3)
    again().mask(RUN, "evaluate", 1, 4)
    again().mask(RUN, "train", 2, 5)
    again().mask(OTHER, "train", 1, 3)


def test_a_vector_on_disk_is_noted_for_its_own_session_alone(again):
    again().mask_again(RUN, "train", 1, 3)
    again().mask_again(RUN, "train", 1, 3)
    assert again().has_masked(RUN, "train", 1)
    refused("already_masked", again().mask_again, RUN, "train", 1, 4)
    refused("already_masked", again().mask, RUN, "train", 1, 3)


def test_exact_counts_are_told_in_one_company_over_all_runs(again):
    again().tell(ONE, RUN)
    again().tell(ONE, RUN)
    again().tell(TWO, OTHER)
    refused("other_company", again().tell, ONE, OTHER)
    refused("other_company", again().tell, TWO, RUN)
    again().tell(ONE, RUN)


def test_an_exchange_has_one_answer(again):
    again().send(RUN, 1, "survivors", ONE)
    again().send(RUN, 1, "survivors", ONE)
    refused("replayed", again().send, RUN, 1, "survivors", TWO)
    again().send(RUN, 1, "consents", TWO)
    again().send(RUN, 2, "survivors", TWO)
    again().send(OTHER, 1, "survivors", TWO)


def test_old_answers_are_dropped_and_rounds_are_not(again):
    """A site is in two sessions at most; what it has masked counts for ever."""
    for session in range(1, 6):
        again().begin(RUN, session)
        again().send(RUN, session, "offer", ONE)
        again().mask(RUN, "train", session, session)
    again().send(RUN, 3, "offer", TWO)  # session 3 is not remembered, and cannot begin again either
    refused("replayed", again().send, RUN, 4, "offer", TWO)
    refused("stale_session", again().begin, RUN, 3)
    refused("already_masked", again().mask, RUN, "train", 1, 9)


def test_the_file_is_its_owners_alone(tmp_path):
    path = tmp_path / "journal.sqlite"
    DiskJournal(path).begin(RUN, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_journal_that_is_gone_or_damaged(tmp_path):
    path = tmp_path / "journal.sqlite"
    journal = DiskJournal(path)
    journal.begin(RUN, 1)
    path.unlink()
    refused("damaged_journal", journal.begin, RUN, 2)
    assert not path.exists()  # no fresh journal that has forgotten everything
    path.write_bytes(b"no journal at all" * 1000)
    refused("damaged_journal", journal.begin, RUN, 2)
    refused("damaged_journal", DiskJournal, path)


def test_two_processes_of_one_site(tmp_path):
    """Of many that begin the same session at once, one does."""
    path = tmp_path / "journal.sqlite"
    DiskJournal(path)
    program = (
        "import sys, pathlib; from client.secagg.journal import DiskJournal\n"
        f"try: DiskJournal(pathlib.Path({str(path)!r})).begin(b'r' * 32, 5)\n"
        "except Exception as error: print(error.code)\n"
        "else: print('begun')\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = sorted(process.communicate()[0].strip() for process in running)
    assert said == ["begun", "stale_session", "stale_session", "stale_session"]
    assert DiskJournal(path).last(RUN) == 5


def test_a_journal_from_before_there_were_companies_is_taken_up():
    journal = MemoryJournal()
    journal.mask(RUN, "train", 1, 3)
    held = json.loads(journal.snapshot())
    del held["told"]
    again = MemoryJournal.restore(json.dumps(held).encode())
    assert again.has_masked(RUN, "train", 1)
    again.tell(ONE, RUN)
    refused("other_company", again.tell, ONE, OTHER)
