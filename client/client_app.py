"""Which messages a Flower ClientApp of FedFER takes; it needs nothing that a site's work needs."""

from __future__ import annotations

import functools
from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

KINDS = (
    "query",
    "query.label_counts",
    "query.statistics",
    "train",
    "evaluate",
    "query.secure",
    "query.secure_label_counts",
    "query.secure_statistics",
    "query.secure_moments",
    "train.secure",
    "evaluate.secure",
)
"""Types of messages that a site answers."""

REPEATABLE = frozenset(kind for kind in KINDS if kind == "query" or ".secure" in kind)
"""Those where the same question gets the same answer, as often as it is asked; see :mod:`client.secagg.participant`."""

Answering = Callable[[str, Message, Context], Message]
"""Given a type of message, the message and the node's context, returns the reply."""


def app_of(answer: Answering) -> ClientApp:
    """Return a ClientApp that answers every type of message by one function."""
    app = ClientApp()
    categories = {"query": app.query, "train": app.train, "evaluate": app.evaluate}
    for kind in KINDS:
        category, _, action = kind.partition(".")
        register = categories[category](*([action] if action else []))
        register(functools.partial(answer, kind))
    return app
