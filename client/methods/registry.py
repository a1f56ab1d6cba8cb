"""All methods of fair training by name."""

from __future__ import annotations

from client.methods.after import AFTER
from client.methods.by_class import BY_CLASS
from client.methods.by_group import BY_GROUP
from client.methods.by_site import BY_SITE
from client.methods.declaration import Method
from client.strict import nearest
from fer_models.errors import ConfigError

METHODS: dict[str, Method] = {method.name: method for method in (*BY_CLASS, *BY_GROUP, *BY_SITE, *AFTER)}
"""Name -> declaration, in the order in which they are listed; each is a choice of ``fairness``."""


def method_of(name: str) -> Method:
    """Return the declaration of that name.

    Raises
    ------
    ConfigError : there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}", where="fairness", cure=nearest(name, METHODS))
    return METHODS[name]
