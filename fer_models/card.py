"""The model card: what a model is, what it was learned from, what it may and may not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fer_models.transforms import NORMALISATION
from fer_models.zoo import ModelSpec

INTENDED_USE = (
    "Research on facial expression recognition and on federated, private and fair training. The model sorts "
    "a picture of one detected, roughly aligned face into expression categories as annotators would name "
    "them."
)

LIMITS = (
    "An expression is not an emotion: what a face shows does not tell reliably what a person feels "
    "(Barrett et al. 2019, Psychological Science in the Public Interest 20).",
    "Annotators disagree, and label noise differs between groups of people; accuracy against such labels "
    "inherits it.",
    "Rare classes (often disgust and contempt) and groups with few pictures have wide intervals: read the "
    "figures with theirs.",
    "Faces, cameras, light and ages unlike the training data lower the accuracy; measure on your own "
    "data first.",
    "Not for decisions about people. The European Union prohibits systems that infer emotions at work and in "
    "education, save for medical or safety reasons (Regulation (EU) 2024/1689, article 5(1)(f)).",
)

NO_PRIVACY = "Trained without differential privacy: the weights may reveal training pictures."

_SECTIONS = (("training", "Training"), ("figures", "Figures"), ("privacy", "Privacy"))


def model_card(spec: ModelSpec, labels: Sequence[str], facts: Mapping[str, Any], parameters: int) -> str:
    """Return the card as Markdown.

    ``facts`` may hold ``name`` and ``data`` (text) and ``training``, ``figures`` and ``privacy`` (text, or a
    mapping that becomes a table; a value that is a mapping becomes one row a key). Other keys become sections
    of their own. Without ``privacy`` the card says that there was none.
    """
    facts = {"privacy": NO_PRIVACY, **facts}
    what = (
        f"`{spec.name}` (norm `{spec.norm}`), {parameters:,} parameters, trained with FedFER. Input: "
        f"{'gray' if spec.channels == 1 else 'colour'} faces of {spec.size} x {spec.size} pixels, normalised "
        f"as `{NORMALISATION}`. Output: logits of {len(labels)} classes: {', '.join(labels)}."
    )
    parts = [f"# {facts.get('name', spec.name)}", "", what, ""]
    parts += ["## Data", "", str(facts.get("data", "Not stated.")), ""]
    parts += [
        "## Intended use",
        "",
        INTENDED_USE,
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in LIMITS),
        "",
    ]
    titles = dict(_SECTIONS)
    rest = [key for key in facts if key not in titles and key not in ("name", "data")]
    for key in (*titles, *rest):
        if key in facts:
            parts += [f"## {titles.get(key, key.replace('_', ' ').capitalize())}", "", _body(facts[key]), ""]
    return "\n".join(parts)


def _body(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    rows = [f"| {_cell(name)} | {_cell(text)} |" for name, text in _flatten(value)]
    return "\n".join(["| fact | value |", "|---|---|", *rows])


def _flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, inner in value.items():
        title = f"{prefix}{name}"
        rows += _flatten(inner, f"{title}, ") if isinstance(inner, Mapping) else [(title, inner)]
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " to ".join(_cell(each) for each in value) if len(value) == 2 else ", ".join(map(_cell, value))
    return str(value).replace("|", "\\|").replace("\n", " ")
