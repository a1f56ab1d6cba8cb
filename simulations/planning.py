"""The plan of some settings, for ``fedfer server run``: as the simulation and ``data deal`` would make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.plan import Plan
    from simulations.settings import Settings


def planned(words: Sequence[str], sites: int) -> Plan:
    """Return the plan of some words of the command line.

    What depends on pictures, such as the noise for a target epsilon, is worked out with those that the settings name:
    drawn faces, or a set that the coordinator has. Every site works out its own cost all the same.

    Parameters
    ----------
    sites : how many take part, unless the words say it.

    Raises
    ------
    ConfigError : a word is none, the settings make no plan, or they ask for what no plan says.
    """
    from dataclasses import replace

    from simulations.compose import composed
    from simulations.prepare import prepare

    told = any(word.startswith("partition.sites=") for word in words)
    settings, _ = composed([*words] if told or not sites else [f"partition.sites={sites}", *words])
    require_of_plan(settings)
    plan = prepare(settings).plan
    return replace(
        plan, groups=tuple(each.open for each in plan.groups)
    )  # sites need not tell anybody's group


def require_of_plan(settings: Settings) -> None:
    """Refuse settings of which no plan tells real sites.

    Raises
    ------
    ConfigError : naming the setting.
    """
    from dataclasses import asdict

    from client.strict import parse, require
    from simulations.pretraining import Pretraining

    for key, wanted in (
        ("pretrain", parse(Pretraining, asdict(settings.pretrain), "pretrain").wanted),
        ("distill.teacher", bool(settings.distill.teacher)),
    ):
        require(
            not wanted,
            "a plan begins from the weights of its seed, and its sites learn from their own labels alone",
            key,
            "Leave it out, or use fedfer simulate.",
        )
