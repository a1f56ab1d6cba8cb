"""A ledger that is damaged, lost, copied, full or another's: a refusal in one line, and nothing lost."""

import json
import multiprocessing
import resource
import signal
import sqlite3
from dataclasses import replace

import pytest

from client.accounting import epsilon_of
from client.ledger import Event, Head, Ledger, close_all
from client.limits import Limit
from client.mechanisms import Mechanism, gaussian
from fer_models.errors import PrivacyError, RunFolderError

STEPS = Mechanism("gaussian", 2.0, 0.25, 3)
FIRST = Event("training", "r1", "p", 1, "k1", 1e-5, STEPS)
SECOND = replace(FIRST, round=2, key="k2")


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "site.sqlite"
    close_all()


def total(ledger):
    return sum(each.count for each in ledger.history())


def written(path, number, site="clinic"):
    """A ledger of some rounds, closed."""
    ledger = Ledger(path, site)
    heads = [ledger.record(replace(FIRST, round=r, key=f"k{r}")) for r in range(1, number + 1)]
    close_all()
    return heads


def change(path, *statements):
    """Tamper with a closed file."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# Damage


DAMAGE = {
    "a changed number": ("UPDATE events SET noise = 3.0 WHERE number = 2", "entry 2"),
    "a changed last bit": ("UPDATE events SET rate = 0.25000000000000006 WHERE number = 3", "entry 3"),
    "a changed text": ("UPDATE events SET kind = 'trainin' WHERE number = 1", "entry 1"),
    "a changed time": ("UPDATE events SET time = '2000-01-01T00:00:00+00:00' WHERE number = 4", "entry 4"),
    "a changed hash": ("UPDATE events SET hash = replace(hash, 'a', 'b') WHERE number = 2", "entry 2"),
    "no number": ("UPDATE events SET noise = 'much' WHERE number = 2", "entry 2"),
    "nothing": ("UPDATE events SET plan = NULL WHERE number = 2", "entry 2"),
    "no mechanism": ("UPDATE events SET noise = -1.0 WHERE number = 2", "entry 2"),
    "a deleted row": ("DELETE FROM events WHERE number = 2", "entry 2"),
    "the first deleted": ("DELETE FROM events WHERE number = 1", "entry 1"),
    "the last deleted": ("DELETE FROM events WHERE number = 4", "after entry 3"),
    "all deleted": ("DELETE FROM events", "after entry 0"),
    "a row too many": ("INSERT INTO events SELECT 5, time, kind, run, plan, round, key, delta, mechanism, noise, rate,"
                       " count, unit, slack, hash FROM events WHERE number = 4", "entry 5"),
    "another identity": (
        "UPDATE head SET identity = substr(identity, 2) || CASE substr(identity, -1) WHEN 'a' THEN 'b' ELSE 'a' END",
        "entry 1",
    ),
    "another site": ("UPDATE head SET site = 'else'", "entry 1"),
    "a counter put back": ("UPDATE head SET number = 3", "after entry 4"),
    "no head": ("DELETE FROM head", "its head record"),
    "two heads": ("INSERT INTO head SELECT * FROM head", "its head record"),
    "a head of nothing": ("UPDATE head SET hash = NULL", "its head record"),
    "no table": ("DROP TABLE events", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_with_its_place_and_nothing_is_changed(path, kind):
    written(path, 4)
    statement, where = DAMAGE[kind]
    change(path, statement)
    before = path.read_bytes()
    for open_it in (Ledger, lambda path: Ledger(path, read_only=True)):
        with pytest.raises(PrivacyError, match="the privacy ledger is damaged") as error:
            open_it(path)
        assert error.value.where == f"{path}{where and ', '}{where}"
        assert "newest copy" in error.value.cure
    close_all()
    assert path.read_bytes() == before


def test_any_changed_byte_of_an_entry_is_found(path):
    """Every byte of a row's content in turn, in the file itself."""
    written(path, 2)
    content = path.read_bytes()
    start = content.index(b"training", content.index(b"k2") - 200 if b"k2" in content else 0)
    for place in range(start, start + 8):
        broken = bytearray(content)
        broken[place] ^= 1
        path.write_bytes(broken)
        with pytest.raises(PrivacyError, match="damaged"):
            Ledger(path)
        close_all()
    path.write_bytes(content)
    assert Ledger(path).head.number == 2


@pytest.mark.parametrize(
    "content", [b"", b"no database, but long enough for one " * 40, b"SQLite format 3\x00"]
)
def test_a_file_that_is_no_ledger_is_not_written_over(path, content):
    path.write_bytes(content)
    with pytest.raises(PrivacyError, match="the privacy ledger is damaged"):
        Ledger(path)
    close_all()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "lost", ["an entry", "the file", "another's", "a copy moved there", "an entry of the copy"]
)
def test_a_ledger_that_shrinks_or_changes_under_a_running_agent_is_refused(path, tmp_path, lost):
    ledger = Ledger(path)
    ledger.record(FIRST)
    close_all()
    once = path.read_bytes()
    ledger.record(SECOND)
    close_all()
    if lost == "the file":
        path.unlink()
    elif lost == "another's":
        written(tmp_path / "other.sqlite", 3, "")
        (tmp_path / "other.sqlite").replace(path)
    elif lost == "a copy moved there":
        (tmp_path / "copy").write_bytes(once)
        (tmp_path / "copy").replace(path)
    elif lost == "an entry":
        newest = "(SELECT hash FROM events WHERE number = 1)"
        change(path, "DELETE FROM events WHERE number = 2", f"UPDATE head SET number = 1, hash = {newest}")
    else:
        path.write_bytes(once)
        fork = Ledger(path)
        fork.record(replace(SECOND, key="fork"))
        fork.record(replace(SECOND, round=3))
        close_all()
    left = path.exists()
    for use in (ledger.refresh, lambda: ledger.record(replace(FIRST, round=3))):
        with pytest.raises(PrivacyError, match=r"lost entries|gone|taken the place"):
            use()
    assert path.exists() == left, "no empty ledger takes the place of a lost one"


def test_a_ledger_of_another_site_or_version_is_refused(path):
    written(path, 1, "clinic")
    with pytest.raises(
        PrivacyError, match=r"the privacy ledger of another site, 'clinic' .*Give 'lab' its own"
    ):
        Ledger(path, "lab")
    change(path, "UPDATE head SET version = 3")
    with pytest.raises(PrivacyError, match="a privacy ledger of version 3"):
        Ledger(path, "clinic")


def test_lines_of_an_earlier_version_are_refused_with_the_cure(path):
    path.with_suffix(".jsonl").write_text('{"plan": "p"}\n')
    with pytest.raises(PrivacyError, match=r"earlier version .*site\.jsonl\)\. Run again in a new folder\."):
        Ledger(path)


# What is not written is not released


def test_a_full_disk_stops_the_release(path):
    ledger = Ledger(path)
    head = ledger.record(FIRST)
    with ledger._store.transaction(write=False) as connection:
        connection.execute("PRAGMA cache_size = 1")
    with ledger._store.transaction(write=True) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    stopped = None
    for number in range(2, 100):
        try:
            head = ledger.record(replace(FIRST, round=number))
        except RunFolderError as error:
            stopped = number
            assert "cannot write the privacy ledger: database or disk is full" in str(error)
            break
    assert stopped is not None
    assert ledger.head == head, "what was not written was not released"
    close_all()
    assert Ledger(path).head == head
    ledger.record(replace(FIRST, round=stopped))
    assert total(Ledger(path)) == 3 * stopped, "and goes on where there is room again"


def _fill_up(path, told):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ledger = Ledger(path)
    for number in range(1, 1000):
        try:
            ledger.record(replace(FIRST, round=number))
        except RunFolderError as error:
            told.put((number, ledger.head.number, str(error)))
            return


def test_a_disk_that_takes_no_more_loses_nothing(path):
    """The operating system itself refuses to let the files grow."""
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    worker = context.Process(target=_fill_up, args=(path, told))
    worker.start()
    number, head, message = told.get(timeout=60)
    worker.join()
    assert head == number - 1 > 1
    assert message.startswith("cannot write the privacy ledger: ")
    assert Ledger(path).head.number in (head, number), "a crash may count too much, never too little"


def test_a_file_that_must_not_be_written_to(path):
    written(path, 1)
    ledger = Ledger(path, read_only=True)
    with pytest.raises(RunFolderError, match="cannot write the privacy ledger: attempt to write a readonly"):
        ledger.record(SECOND)
    assert Ledger(path).head.number == 1


def test_looking_leaves_no_trace_even_while_others_write(path):
    written(path, 3)
    before = path.read_bytes()
    assert Ledger(path, read_only=True).head.number == 3
    close_all()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before
    writer = Ledger(path, "clinic")
    writer.record(replace(FIRST, round=9))
    assert Ledger(path, read_only=True).head == writer.head, "the log that is not in the file yet is read too"


@pytest.mark.parametrize("use", [Ledger, lambda path: Ledger(path / "below" / "x").record(FIRST)])
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path, use):
    (tmp_path / "below").write_text("") if use is not Ledger else None
    with pytest.raises(RunFolderError, match="the privacy ledger: "):
        use(tmp_path)


# What others have seen of it


def test_a_head_travels_as_text():
    head = Head("0" * 32, 7, "a" * 64)
    assert Head.of(str(head)) == head
    for bad in ("", "x", str(head)[:-1], str(head) + "\n", f"{'0' * 32}:-1:{'a' * 64}", json.dumps(head)):
        with pytest.raises(PrivacyError, match="cannot be read"):
            Head.of(bad)


def test_a_ledger_contains_all_it_ever_showed(path):
    ledger = Ledger(path)
    for number in range(1, 5):
        seen = ledger.record(replace(FIRST, round=number))
        ledger.require_contains(seen)
    for other in (Ledger(path), Ledger(path, read_only=True)):
        other.require_contains(replace_head(seen, ledger, 2))
        other.require_contains(seen)


def replace_head(seen, ledger, number):
    """The head of a ledger when it held fewer entries."""
    with ledger._store.transaction(write=False) as connection:
        found = connection.execute("SELECT hash FROM events WHERE number = ?", (number,)).fetchone()
    return Head(seen.identity, number, found[0])


def test_an_old_copy_is_noticed(path, tmp_path):
    heads = written(path, 2)
    old = path.read_bytes()
    heads += [Ledger(path).record(replace(FIRST, round=r, key=f"k{r}")) for r in (3, 4)]
    close_all()
    path.write_bytes(old)
    ledger = Ledger(path, "clinic")
    ledger.require_contains(heads[1])
    with pytest.raises(
        PrivacyError, match=r"older than .* 2 entries where 4 are known: restored from a copy"
    ):
        ledger.require_contains(heads[3])
    for number in (3, 4, 5):  # it goes on by itself, and passes the counter
        ledger.record(replace(FIRST, round=number, key=f"again{number}"))
    with pytest.raises(PrivacyError, match="forked, two copies of it were in use: entry 4 is another"):
        ledger.require_contains(heads[3])


def test_another_ledger_and_none_are_noticed(path, tmp_path):
    (head,) = written(path, 1)
    written(tmp_path / "new.sqlite", 3)
    with pytest.raises(PrivacyError, match="not the ledger that the site's earlier releases are in"):
        Ledger(tmp_path / "new.sqlite").require_contains(head)
    with pytest.raises(PrivacyError, match="the privacy ledger is gone"):
        Ledger(tmp_path / "none.sqlite").require_contains(head)
    with pytest.raises(PrivacyError, match="the privacy ledger is gone"):
        Ledger().require_contains(head)


# The limit


def test_a_release_that_would_pass_the_limit_is_not_made(path):
    history = gaussian(2.0, 0.25, 9)
    limit = Limit(epsilon_of(history, 1e-5).value + 1e-6, 1e-5)
    ledger = Ledger(path, "clinic", limit)
    for number in (1, 2, 3):
        ledger.record(replace(FIRST, round=number))
    with pytest.raises(PrivacyError, match=r"training in round 4 would pass the site's limit .* is spent"):
        ledger.record(replace(FIRST, round=4))
    ledger.record(replace(FIRST, round=3))
    assert total(Ledger(path)) == 9
    with pytest.raises(PrivacyError, match="label counts in round 0 would pass"):
        Ledger(path, "clinic", limit).record(
            replace(FIRST, kind="label_counts", round=0, mechanism=Mechanism("pure", 1.0))
        )
    found = sqlite3.connect(path).execute("SELECT limit_epsilon, limit_delta FROM head").fetchone()
    assert found == (limit.epsilon, limit.delta)
