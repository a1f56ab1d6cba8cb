"""A disk without room: the ledger and the journal say so, what they held stays, and nothing leaves without an entry."""

import subprocess
import sys
from pathlib import Path

from client.ledger import Ledger, close_all
from client.secagg.journal import DiskJournal

WRITING = """
import resource, sys
from pathlib import Path
from client.ledger import Event, Ledger
from client.mechanisms import Mechanism
from client.secagg.journal import DiskJournal
from fer_models.errors import FedferError

folder, run = Path(sys.argv[1]), b"r" * 32
ledger, journal = Ledger(folder / "ledger.sqlite", "clinic"), DiskJournal(folder / "journal.sqlite")

def record(number):
    ledger.record(Event("training", "run", "a" * 64, number, "b" * 64, 1e-5, Mechanism("gaussian", 2.0)))

def mask(number):
    journal.mask(run, "train", number, number)

record(1)
mask(1)
most = max(file.stat().st_size for file in folder.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # no file may grow beyond that, as where a disk is full
for write in (record, mask):
    for number in range(2, 2000):
        try:
            write(number)
        except FedferError as error:
            print(number - 1, type(error).__name__, error)
            break
"""


def test_a_full_disk_is_told_with_its_cure_and_takes_nothing_that_was_written(tmp_path):
    code = [sys.executable, "-W", "ignore", "-c", WRITING, str(tmp_path)]
    root = Path(__file__).parent.parent.parent
    out = subprocess.run(code, cwd=root, capture_output=True, text=True, check=True).stdout
    ledger, journal = (line.split(" ", 2) for line in out.splitlines())
    assert ledger[1] == "RunFolderError"
    assert "cannot write the privacy ledger" in ledger[2]
    assert "Free disk space" in ledger[2]
    assert journal[1] == "SecureAggregationError"
    assert "the journal of secure aggregation cannot be written" in journal[2]
    assert "Free disk space" in journal[2], "not to put a copy back, with which the site would mask twice"
    held = Ledger(tmp_path / "ledger.sqlite", "clinic", read_only=True)
    assert held.head.number == int(ledger[0])
    close_all()
    masked = DiskJournal(tmp_path / "journal.sqlite")
    assert masked.has_masked(b"r" * 32, "train", int(journal[0]))
    assert not masked.has_masked(b"r" * 32, "train", int(journal[0]) + 1)
