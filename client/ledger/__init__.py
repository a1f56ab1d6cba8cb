"""The privacy ledger: every private release of a site, on disk before it leaves.

``events.py`` says what is written, ``store.py`` how it lies on disk, ``book.py`` what a site does with it.
"""

from client.ledger.book import Ledger
from client.ledger.events import Event, Head, fingerprint
from client.ledger.store import close_all

__all__ = ["Event", "Head", "Ledger", "close_all", "fingerprint"]
