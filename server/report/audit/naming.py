"""Intersections of groups as a reader takes them in: ``Male*Asian`` of ``gender*race`` is “Male × Asian”."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TIMES = " × "


def spelled(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose intersections, and their groups, have names that can be read and broken over lines."""
    groups = record["counts"]["groups"]
    names = [
        name for attribute, values in groups.items() if "*" in attribute for name in (attribute, *values)
    ]
    return _renamed(record, {name: name.replace("*", TIMES) for name in names})


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Rename what is exactly a name, or a list of names with commas, whether key or value."""
    if isinstance(value, Mapping):
        return {names.get(key, key): _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if isinstance(value, str) and (parts := value.split(", ")) and all(part in names for part in parts):
        return ", ".join(names[part] for part in parts)
    return value
