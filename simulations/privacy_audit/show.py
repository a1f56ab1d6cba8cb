"""What an audit found, as tables and sentences for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from simulations.display import shown
from simulations.privacy_audit.verdict import ABOVE

Facts = dict[str, Any]

ATTACKS = {
    "white_box": "white box: every update of every site",
    "black_box": "black box: the last model alone",
    "one_round": "one round: one picture, many trials",
}
"""The attacks, and what each one sees."""


def show(facts: Facts, console: Console) -> None:
    """Print an audit."""
    confidence = f"{100 * facts['confidence']:g} %"
    table = Table("figure", "value", title="Privacy audit", title_justify="left")
    table.add_row("claimed epsilon", shown(facts["claimed_epsilon"], 2))
    table.add_row(f"audited epsilon, at least ({confidence})", shown(facts["audited_epsilon"], 2))
    table.add_row("delta", f"{facts['delta']:g}")
    if "canaries" in facts:
        table.add_row("canaries", f"{facts['canaries']:,}, of which {facts['included']:,} were in")
        table.add_row("most that so many can prove", shown(facts["most_provable"], 2))
        _one_round(table, facts["one_round"], confidence)
    bad = facts["verdict"] == ABOVE
    table.add_row(
        "verdict", facts["verdict"].upper() if bad else facts["verdict"], style="bold red" if bad else ""
    )
    console.print(table)
    if "canaries" in facts:
        console.print(_attacks(facts))
    if facts["membership"] is not None:
        console.print(_membership(facts))
    for line in remarks(facts):
        console.print(line, highlight=False)


def _one_round(table: Table, found: Facts, confidence: str) -> None:
    table.add_row("one round, claimed epsilon", shown(found["claimed_epsilon"], 2))
    table.add_row(f"one round, audited, at least ({confidence})", shown(found["epsilon"], 2))
    table.add_row("one picture moves a step's sum by", f"{found['moved']:.2f} clips; 1 is allowed")


def _attacks(facts: Facts) -> Table:
    table = Table("attack", "said in", "said out", "right", "epsilon, at least", "AUC")
    for key, name in ATTACKS.items():
        found = facts[key]
        for index, each in enumerate(found["guesses"]):
            table.add_row(
                "" if index else name,
                f"{each['said_in']:,}",
                f"{each['said_out']:,}",
                f"{each['correct']:,}",
                shown(each["epsilon"], 2),
                "" if index else _with(found["auc"], found["auc_interval"]),
            )
    return table


def _membership(facts: Facts) -> Table:
    found = facts["membership"]
    table = Table("membership inference by loss", "value", "interval")
    table.add_row("trained on / held out", f"{found['members']:,} / {found['others']:,}", "")
    table.add_row("AUC (0.5 tells nothing)", shown(found["auc"]), _span(found["auc_interval"]))
    for each in found["caught"]:
        name = f"true positives at {100 * each['alarms']:g} % false ones"
        table.add_row(name, shown(each["share"]), _span(each["interval"]))
    table.add_row("epsilon, at least, were records independent", shown(found["epsilon"], 2), "")
    return table


def _with(value: float, limits: list[float]) -> str:
    return f"{value:.3f} ({_span(limits)})"


def _span(limits: list[float]) -> str:
    return f"{limits[0]:.3f} to {limits[1]:.3f}"


def remarks(facts: Facts) -> list[str]:
    """Return what has to be said beside the figures, a sentence or two each."""
    found = [f"AUDITED ABOVE CLAIMED: {fault}." for fault in facts["faults"]]
    if "canaries" in facts:
        one, bounds = facts["one_round"], sum(len(facts[key]["guesses"]) for key in ATTACKS)
        found.append(
            f"The {bounds} bounds hold together with {100 * facts['confidence']:g} % confidence (Bonferroni); the "
            "numbers of guesses were fixed before looking."
        )
        found.append(
            f"One round was tried {one['trials']:,} times at {one['site']}, with and without {one['picture']}, beside "
            f"{one['beside']}."
        )
    if not facts["faults"]:
        found.append("A low bound proves nothing: it only says that these attacks found no more.")
    if facts["membership"] is not None and not facts["held_out"]:
        found.append(
            "The test part is the data set's own and may differ from the training part by itself: what membership "
            "inference finds is no proof here, and does not count for the verdict."
        )
    return found
