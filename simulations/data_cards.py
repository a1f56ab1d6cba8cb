"""What is known of every data set, and which of them serves a goal: ``fedfer data list``, ``card``, ``recommend``.

All facts lie in one table, ``data_sets.yaml``, beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.strict import nearest, parse
from fer_models.errors import ConfigError

FACTS = Path(__file__).with_name("data_sets.yaml")


@dataclass(frozen=True)
class Card:
    """The facts of one data set, a sentence or less each.

    Attributes
    ----------
    title : its name.
    reader : of :data:`fer_models.readers.READERS`, or ``faces``; empty where no layout could be confirmed.
    choice : what to write after ``data=``; empty where there is no reader.
    size, kind, classes : how many pictures, how they came about, and what they show.
    groups : column -> who told it: people themselves, the owner, annotators or an algorithm.
    annotation : who labelled expressions, and how surely.
    terms : on which terms one gets it, in our words.
    quote : a sentence of the owner's terms, word for word; empty where none was read.
    ask : where to ask for it.
    publish : what may be published.
    use, limits : what it serves, and what it cannot say.
    checked : which of these facts were read again at their source, and which were not.
    sources : where all this was read.
    """

    title: str
    reader: str
    choice: str
    size: str
    kind: str
    classes: str
    groups: Mapping[str, str]
    annotation: str
    terms: str
    quote: str
    ask: str
    publish: str
    use: str
    limits: str
    checked: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Goal:
    """What somebody wants to do, and the sets that serve it, the best first, each with its reason."""

    what: str
    sets: Mapping[str, str]


@cache
def _facts() -> Mapping[str, Any]:
    facts = OmegaConf.to_container(OmegaConf.load(FACTS))
    assert isinstance(facts, dict)
    return {str(key): value for key, value in facts.items()}


@cache
def cards() -> dict[str, Card]:
    """Return the card of every set, by name."""
    return {name: parse(Card, dict(facts), f"sets.{name}") for name, facts in _facts()["sets"].items()}


@cache
def goals() -> dict[str, Goal]:
    """Return every goal, by name."""
    return {name: parse(Goal, dict(facts), f"goals.{name}") for name, facts in _facts()["goals"].items()}


def tell(verb: str, words: list[str], console: Console) -> None:
    """Do what ``data list``, ``data card NAME`` or ``data recommend goal=NAME`` asks for.

    Raises
    ------
    ConfigError : a word too many or too few, or an unknown name.
    """
    if verb == "recommend":
        show_recommendation(words, console)
    elif verb == "list" and not words:
        show_list(console)
    elif verb == "card" and len(words) == 1:
        show_card(words[0], console)
    else:
        cure = "Write: fedfer data list, or fedfer data card NAME."
        raise ConfigError(f"cannot read {' '.join(words) or 'nothing'!r}", where=f"data {verb}", cure=cure)


def show_list(console: Console) -> None:
    """Print a line a set."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("name", "data=", "classes", "groups", "terms"):
        table.add_column(column, overflow="fold")
    for name, card in cards().items():
        groups = ", ".join(card.groups) or "-"
        table.add_row(*map(escape, (name, card.choice or "no reader", card.classes, groups, card.terms)))
    console.print(table)


def show_card(name: str, console: Console) -> None:
    """Print all facts of one set.

    Raises
    ------
    ConfigError : there is no such set; the nearest names are told.
    """
    if name not in cards():
        raise ConfigError(
            f"unknown data set {name!r}", where="command line", cure=nearest(name, list(cards()))
        )
    card = cards()[name]
    said = [f'"{card.quote}"'] if card.quote else []
    rows = {
        "read with": f"data={card.choice} data.root=DIR"
        if card.choice
        else "no reader, see docs/datasets.md",
        "size": card.size,
        "made": card.kind,
        "classes": card.classes,
        "groups": "\n".join(f"{column}: {told}" for column, told in card.groups.items()) or "none are told",
        "labelled by": card.annotation,
        "terms": "\n".join([card.terms, *said]),
        "ask": card.ask,
        "may be published": card.publish,
        "good for": card.use,
        "limits": card.limits,
        "checked": card.checked,
        "sources": "\n".join(card.sources),
    }
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in rows.items():
        table.add_row(title, escape(text))
    console.print(f"[bold]{escape(card.title)}[/]")
    console.print(table)
    console.print("Terms change, and the owner's agreement is what binds you: read it before you begin.")


def show_recommendation(words: list[str], console: Console) -> None:
    """Print the sets that serve ``goal=NAME``, the best first; the goals themselves without words.

    Raises
    ------
    ConfigError : another word, or an unknown goal.
    """
    if not words:
        for name, goal in goals().items():
            console.print(f"goal={name}: {goal.what}", highlight=False, markup=False)
        return
    key, _, name = words[0].partition("=")
    if key != "goal" or len(words) > 1:
        raise ConfigError(
            f"cannot read {' '.join(words)!r}",
            where="command line",
            cure=f"Write goal={next(iter(goals()))}.",
        )
    if name not in goals():
        raise ConfigError(f"unknown goal {name!r}", where="goal", cure=nearest(name, list(goals())))
    goal = goals()[name]
    table = Table(
        box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), title=f"To {goal.what}"
    )
    table.title_justify = "left"
    for column in ("name", "why", "terms"):
        table.add_column(column, overflow="fold")
    for chosen, reason in goal.sets.items():
        table.add_row(chosen, escape(reason), escape(cards()[chosen].terms))
    console.print(table)
    console.print("All about one: fedfer data card NAME", highlight=False)
