"""The federated audit of a finished run: from the counts in its folder, without a picture and without its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.strict import nearest
from fer_models.counts import Counts
from fer_models.errors import ConfigError, RunFolderError
from server.run_folder import RunFolder, reading
from simulations.subjects import CURE, ROWS

OPTIONS = ("run", "system")

AGAIN = "Run it again, in an empty folder, with this version of FedFER."

HEADLINE = ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall", "macro_f1")
"""What is told of the other systems of the run, each with its interval."""

GAPS = ("accuracy_gap", "demographic_parity_difference", "equalized_odds_difference")
"""And of their parity, by attribute."""

PRIVACY = (
    "epsilon",
    "epsilon_note",
    "delta",
    "unit",
    "noise",
    "noise_multiplier",
    "counts_epsilon",
    "audit_epsilon",
    "trust",
    "aggregation",
    "learned",
    "start",
    "sites_note",
)
"""What the summary of a system says of its guarantee and of what left the sites."""


def count_run(words: Sequence[str]) -> tuple[dict[str, Any], Counts, dict[str, Any]]:
    """Return what a run found, from the folder that ``run=DIR`` names.

    Parameters
    ----------
    words : ``run=DIR``, and perhaps ``system=NAME``, the federated one by default.

    Returns
    -------
    What was judged, its counts, and the parts of the audit's record that a run knows besides: ``people``, ``data``,
    ``sites``, ``per_site``, ``systems``, ``privacy`` and ``noise``, each only where there is something; ``alike``, what
    is known of the people on the pictures, and ``doubt``, why intervals are too narrow, where they are.

    Raises
    ------
    ConfigError : an unknown word, or a system that the run did not train.
    RunFolderError : no finished run lies there, a file is damaged, or the run kept no counts.
    """
    given = options_among(words)
    folder = Path(given["run"])
    name = given.get("system", "federated")
    summary = _summary(folder)
    with reading(folder / "summary.json", AGAIN):
        others = {system: dict(facts) for system, facts in summary["systems"].items()}
    own = _chosen(others, name, folder)
    with reading(folder / "summary.json", AGAIN):
        counts = Counts.from_json(own["counts"])
        source = {"door": "run", "run": str(folder), "system": name, "name": summary["name"]}
        source |= {"rows": counts.rows, "plan": summary["plan_hash"]}
        parts = {
            "people": summary.get("people") or _people(counts),
            "alike": _alike(summary, own),
            "doubt": own.get("doubt") or _doubt(summary, counts, own),
            "data": summary.get("data"),
            "sites": own.get("sites"),
            "per_site": own.get("per_site"),
            "systems": {other: brief(facts) for other, facts in others.items()},
            "privacy": _privacy(own, folder, name),
            "noise": own.get("noise_of_counts"),
        }
    return source, counts, {key: part for key, part in parts.items() if part}


def _people(counts: Counts) -> dict[str, dict[str, int]]:
    """Return the people of each group that the sites' sums tell; those of a real run, of which nothing else does."""
    return {} if counts.people is None else counts.people.by_group(counts.groups)


def _alike(summary: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what intervals are over, who worked that out, and how many people sites took for several."""
    told = dict(summary.get("alike") or {})
    whence = own.get("people_sums", "sites")
    kept = ("over", "at_several_sites") if whence == "sites" else ("over",)
    return {**{key: told[key] for key in kept if key in told}, "from": whence}


def _doubt(summary: Mapping[str, Any], counts: Counts, own: Mapping[str, Any]) -> str:
    """Return the doubt of a folder that tells of people, from a version that had no sums over them."""
    told = [sum(groups.values()) for groups in (summary.get("people") or {}).values()]
    known = "alike" in summary or counts.people is not None or own.get("noise_of_counts")
    return "" if known or not told or min(told) >= counts.rows else f"{ROWS.format(whom='People')} {CURE}"


def privacy_of_model(path: Path) -> dict[str, Any]:
    """Return the part ``privacy`` of the record of an audit of a run's model; empty where the path is of no run.

    Raises
    ------
    RunFolderError : a file is damaged.
    """
    if not (path / "summary.json").is_file():
        return {}
    with reading(path / "summary.json", AGAIN):
        found = _privacy(_summary(path)["systems"]["federated"], path, "federated")
    return {"privacy": {key: value for key, value in found.items() if key != "sites_note"}}


def _privacy(own: Mapping[str, Any], folder: Path, name: str) -> dict[str, Any]:
    return {key: own.get(key) for key in PRIVACY} | _audited(folder, name)


def brief(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of another system beside the one that is judged, from its summary."""
    keys = [f"{key}{end}" for key in (*HEADLINE, "accuracy_gap") for end in ("", "_interval")]
    kept = {key: facts[key] for key in (*keys, "worst_class", "epsilon", "note") if key in facts}
    gaps = [f"{key}{end}" for key in GAPS for end in ("", "_interval")]
    parity = {
        name: {key: found[key] for key in gaps if key in found}
        for name, found in facts.get("parity", {}).items()
    }
    return {**kept, "parity": parity}


def options_among(words: Sequence[str]) -> dict[str, str]:
    """Return ``run`` and perhaps ``system``, as ``KEY=VALUE`` words give them.

    Raises
    ------
    ConfigError : an unknown word, or a key without a value.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in OPTIONS or not equals:
            what = f"audit run=DIR takes no {word!r}"
            raise ConfigError(what, where="command line", cure=nearest(key, OPTIONS))
        if not value:
            raise ConfigError("no value", where=key, cure=f"Write {key}=NAME.")
        given[key] = value
    return given


def _summary(folder: Path) -> dict[str, Any]:
    if not (folder / "summary.json").is_file():
        raise RunFolderError(
            "no finished run lies here",
            where=str(folder),
            cure="Give the folder of a run that has ended; fedfer simulate --run-dir DIR makes one.",
        )
    found = RunFolder(folder).read_json("summary.json")
    if not isinstance(found, dict) or "study" in found:
        cure = "Give the folder of one of its runs." if isinstance(found, dict) else AGAIN
        raise RunFolderError("this is not the summary of one run", where=str(folder), cure=cure)
    return found


def _chosen(systems: dict[str, dict[str, Any]], name: str, folder: Path) -> dict[str, Any]:
    """Take the system that is judged out of the others."""
    if name not in systems:
        cure = f"Use system=NAME with one of {', '.join(systems) or 'none'}."
        raise ConfigError(f"the run has no system {name!r}", where=str(folder), cure=cure)
    if name == "local_only":
        raise ConfigError(
            "local_only is a model for each site, and an audit judges one",
            where="system",
            cure="Audit another system of the run.",
        )
    if "counts" not in systems[name]:
        note = str(systems[name].get("note", "")) if "unjudged" in systems[name] else ""
        cure = "Audit its model on pictures of your own: model=DIR." if note else AGAIN
        raise RunFolderError(note or "the run kept no counts", where=f"{folder}, system {name}", cure=cure)
    return systems.pop(name)


def _audited(folder: Path, name: str) -> dict[str, Any]:
    """Return what an audit of the federated run's privacy found, nothing where there was none."""
    found = RunFolder(folder).read_json("privacy_audit.json") if name == "federated" else None
    if found is None:
        return {}
    keys = ("audited_epsilon", "confidence", "verdict", "canaries")
    with reading(folder / "privacy_audit.json", "Run fedfer audit-privacy again."):
        return {key: found[key] for key in keys if key in found}
