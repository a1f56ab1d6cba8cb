"""The model card of an audit, from its record alone, in the form of the Hugging Face hub: ``README.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_models.card import cell, front_matter, parameters_and_form, use_and_limits
from fer_models.parity import SMALLEST
from fer_models.zoo import ModelSpec
from server.report.audit.first import first
from server.report.folder import Facts

README = "README.md"

FIGURES = ("accuracy", "balanced_accuracy", "worst_recall", "minority_recall", "macro_f1")
"""What stands in the metadata and in the first table."""

GAPS = ("accuracy_gap", "equal_opportunity_difference", "demographic_parity_difference")
"""Of every attribute, too."""

UNKNOWN_PRIVACY = (
    "Not known to this audit, which had the weights alone. Unless whoever trained the model says otherwise, take it "
    "that the weights may reveal training pictures."
)

Record = Mapping[str, Any]


def card(record: Record) -> str | None:
    """Return the card; None where predictions were judged, and no model is known.

    Parameters
    ----------
    record : what ``audit.json`` holds.
    """
    net = record["source"].get("net")
    if net is None:
        return None
    parts = [front_matter(_name(record), _data(record), dict(_metrics(record)), private=_private(record))]
    parts += [f"# {cell(_name(record))}", "", _what(net, record), ""]
    parts += ["## What was found", "", *_findings(record), ""]
    parts += ["## Data", "", *_tested(record), "", *use_and_limits(), "## Figures", "", *_figures(record), ""]
    for attribute in record["figures"]["parity"]:
        parts += [f"## By {_spaced(attribute)}", "", *_groups(record, attribute), ""]
    if "verdicts" in record:
        parts += ["## Limits that were set beforehand", "", *_verdicts(record["verdicts"]), ""]
    parts += ["## Privacy", "", *_privacy(record), "", "## This audit", "", *_audit(record), ""]
    return "\n".join(parts)


def _name(record: Record) -> str:
    source = record["source"]
    return str(source.get("name") or source["net"]["name"])


def _data(record: Record) -> str:
    return str(
        record.get("data", {}).get("name") or record["source"].get("data") or "the sites' own test pictures"
    )


def _private(record: Record) -> bool:
    return record.get("privacy", {}).get("epsilon") is not None


def _metrics(record: Record) -> Iterator[tuple[str, float | None]]:
    figures = record["figures"]
    for key in FIGURES:
        yield _plain(key), figures.get(key)
    for attribute, parity in figures["parity"].items():
        for key in GAPS:
            yield f"{_plain(key)} by {_plain(attribute)}", parity.get(key)


def _what(net: Record, record: Record) -> str:
    spec = ModelSpec.from_dict({key: value for key, value in net.items() if key != "parameters"})
    return parameters_and_form(spec, record["counts"]["labels"], net["parameters"])


def _tested(record: Record) -> Iterator[str]:
    figures = record["figures"]
    yield f"Tested on {sum(figures['support'].values()):,} pictures: {cell(_data(record))}."
    yield ""
    yield from _table(("expression", "pictures"), list(figures["support"].items()))
    yield from _balance(record.get("bias", {}))


def _balance(bias: Record) -> Iterator[str]:
    """Yield how evenly classes and groups occur, and how labels go with groups: the data's own bias."""
    named = {"expressions": bias.get("classes", {}), **bias.get("attributes", {})}
    keys = ("evenness", "imbalance_ratio", "cramers_v_corrected", "cramers_v_interval")
    rows = [(_plain(name), *(facts.get(key) for key in keys)) for name, facts in named.items() if facts]
    if rows:
        head = ("", "evenness", "most over fewest", "Cramer's V with the labels", "95 % interval")
        yield from (
            "",
            "How evenly they occur (1: evenly), and how far labels go with groups (0: not at all):",
            "",
        )
        yield from _table(head, rows)


def _figures(record: Record) -> Iterator[str]:
    figures = record["figures"]
    rows = [(_spaced(key), figures.get(key), figures.get(f"{key}_interval")) for key in FIGURES]
    yield from _table(("figure", "value", "95 % interval"), rows)
    yield ""
    recalls = figures["recall_interval"]
    rows = [
        (name, figures["support"][name], rate, recalls.get(name)) for name, rate in figures["recall"].items()
    ]
    yield from _table(("expression", "pictures", "recall", "95 % interval"), rows)


def _groups(record: Record, attribute: str) -> Iterator[str]:
    parity, people = record["figures"]["parity"][attribute], record["people"].get(attribute, {})
    rows = []
    for name, group in parity["groups"].items():
        few = f"fewer than {SMALLEST}" if group["suppressed"] else group["n"]
        note = "few pictures" if group["weak"] and not group["suppressed"] else ""
        rows.append((name, few, people.get(name), group["accuracy"], group["accuracy_interval"], note))
    yield from _table(("group", "pictures", "people", "accuracy", "95 % interval", "mind"), rows)
    yield ""
    gaps = [(_spaced(key), parity.get(key), parity.get(f"{key}_interval")) for key in GAPS]
    yield from _table(("between groups", "value", "95 % interval"), gaps)


def _findings(record: Record) -> Iterator[str]:
    """Yield what the first screen of the page says, and every difference that is beyond chance."""
    said = first(Facts(record, "audit.json"))
    yield f"**{cell(said['headline'])}.**"
    yield ""
    yield cell(" ".join(said["found"]))
    sure = [gap for gap in record["findings"]["gaps"] if gap["sure"]]
    if sure:
        yield ""
    for gap in sure:
        of = "accuracy" if gap["class"] is None else f"recall of {gap['class']}"
        yield (
            f"- {_spaced(gap['attribute'])}: {cell(of)} {cell(gap['rate'])} for {cell(gap['group'])}, "
            f"{cell(gap['against_rate'])} for {cell(gap['against'])}; the difference is "
            f"{cell(gap['difference_interval'])}."
        )
    yield ""
    scarce = [f"Little can be said of: {'; '.join(said['scarce'])}."] if said["scarce"] else []
    yield cell(" ".join(filter(None, [said["lowest"], said["fails"], *said["sure"], *scarce])))


def _verdicts(verdicts: Sequence[Record]) -> Iterator[str]:
    rows = []
    for each in verdicts:
        rule = each["rule"]
        of = ", ".join(str(rule[key]) for key in ("class", "attribute") if rule.get(key))
        of = ", ".join(filter(None, [of, each["group"]]))
        limit = f"{rule['bound']} {rule['limit']:g}"
        rows.append((each["verdict"], rule["metric"], of, limit, each["figure"], each["interval"]))
    yield from _table(("verdict", "metric", "of", "limit", "value", "interval"), rows)


def _privacy(record: Record) -> Iterator[str]:
    privacy = record.get("privacy")
    if not privacy:
        yield UNKNOWN_PRIVACY
        return
    if privacy.get("epsilon") is None:
        yield "Trained without differential privacy: the weights may reveal training pictures."
    else:
        unit = "one person with all pictures" if privacy.get("unit") == "subject" else "one picture"
        yield f"Epsilon {privacy['epsilon']:.2f} at delta {privacy['delta']:g}, for {unit}."
    if privacy.get("audited_epsilon") is not None:
        yield f"An attack shows that it is {privacy['audited_epsilon']:.2f} at least."
    for key in ("trust", "learned", "epsilon_note", "sites_note"):
        if privacy.get(key):
            yield ""
            yield str(privacy[key])


def _audit(record: Record) -> Iterator[str]:
    source = record["source"]
    yield "The page `audit.html` shows all of this and how it was reckoned; `figures.csv` has every figure, and"
    yield "`audit.json` the counts that all figures come from. Where there is a `signature.json`, check it with"
    yield "`fedfer audit verify`."
    yield ""
    yield f"The weights that were judged have the SHA-256 `{source['model_sha256']}`."
    if "config" in record:
        words = [
            f"{key}={Path(value).name}" if key in ("model", "run", "data.root") else f"{key}={value}"
            for key, _, value in (word.partition("=") for word in record["config"]["words"])
        ]
        yield ""
        yield f"Asked for with: `fedfer audit {' '.join(' '.join(words).replace('`', '').split())}`."


def _plain(key: str) -> str:
    return key.replace("_", " ").replace("macro f1", "macro F1")


def _spaced(key: str) -> str:
    return cell(_plain(key))


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table; a value that is None is a dash, and columns without any value are left out."""
    kept = [i for i in range(len(head)) if any(row[i] not in (None, "") for row in rows)]
    yield f"| {' | '.join(head[i] for i in kept)} |"
    yield f"|{'---|' * len(kept)}"
    for row in rows:
        yield f"| {' | '.join('–' if row[i] is None else cell(row[i]) for i in kept)} |"
