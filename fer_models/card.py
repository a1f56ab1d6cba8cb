"""The model card: what a model is, what it was learned from, what it may and may not be used for.

It begins with metadata as the Hugging Face hub reads them (https://huggingface.co/docs/hub/model-cards): YAML between
two lines of three dashes, with the figures as a ``model-index``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

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


def front_matter(name: str, data: str, metrics: Mapping[str, float | None], *, private: bool) -> str:
    """Return the metadata of a card.

    Parameters
    ----------
    data : what the model was tested on.
    metrics : what a figure is called -> its value; those that are None are left out.
    private : whether the model was trained with differential privacy.
    """
    tags = ["facial-expression-recognition", "federated-learning", "fairness"]
    facts: dict[str, Any] = {
        "license": "unknown",  # whoever publishes a model has to say
        "library_name": "fedfer",
        "pipeline_tag": "image-classification",
        "tags": [*tags, "differential-privacy"] if private else tags,
    }
    found = [
        {"type": re.sub(r"\W+", "_", key), "name": key, "value": round(float(value), 4)}
        for key, value in metrics.items()
        if value is not None
    ]
    if found:
        task = {"type": "image-classification", "name": "Facial expression recognition"}
        tested = {"type": "image-folder", "name": " ".join(data.split()), "split": "test"}
        result = {"task": task, "dataset": tested, "metrics": found}
        facts["model-index"] = [{"name": name, "results": [result]}]
    text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def _metrics(figures: Any) -> dict[str, float | None]:
    """Return the figures of a card that are single numbers, under the names that people read."""
    found = figures.items() if isinstance(figures, Mapping) else ()
    return {key.replace("_", " "): value for key, value in found if isinstance(value, int | float)}


def model_card(spec: ModelSpec, labels: Sequence[str], facts: Mapping[str, Any], parameters: int) -> str:
    """Return the card as Markdown, with its metadata.

    ``facts`` may hold ``name`` and ``data`` (text) and ``training``, ``figures`` and ``privacy`` (text, or a
    mapping that becomes a table; a value that is a mapping becomes one row a key). Other keys become sections
    of their own. Without ``privacy`` the card says that there was none.
    """
    name, private = (
        str(facts.get("name", spec.name)),
        facts.get("privacy", "none") not in ("none", NO_PRIVACY),
    )
    head = front_matter(
        name, str(facts.get("data", "Not stated.")), _metrics(facts.get("figures")), private=private
    )
    facts = {"privacy": NO_PRIVACY, **facts}
    parts = [head, f"# {name}", "", parameters_and_form(spec, labels, parameters), ""]
    parts += ["## Data", "", str(facts.get("data", "Not stated.")), ""]
    parts += use_and_limits()
    titles = dict(_SECTIONS)
    rest = [key for key in facts if key not in titles and key not in ("name", "data")]
    for key in (*titles, *rest):
        if key in facts:
            parts += [f"## {titles.get(key, key.replace('_', ' ').capitalize())}", "", _body(facts[key]), ""]
    return "\n".join(parts)


def parameters_and_form(spec: ModelSpec, labels: Sequence[str], parameters: int) -> str:
    """Return the sentences that say what net it is, what it takes in and what it gives."""
    return (
        f"`{spec.name}` (norm `{spec.norm}`), {parameters:,} parameters, trained with FedFER. Input: "
        f"{'gray' if spec.channels == 1 else 'colour'} faces of {spec.size} x {spec.size} pixels, normalised "
        f"as `{NORMALISATION}`. Output: logits of {len(labels)} classes: {', '.join(labels)}."
    )


def use_and_limits() -> list[str]:
    """Return the lines that say what a model may and may not be used for."""
    return ["## Intended use", "", INTENDED_USE, "", "## Limits", "", *(f"- {limit}" for limit in LIMITS), ""]


def _body(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    rows = [f"| {cell(name)} | {cell(text)} |" for name, text in _flatten(value)]
    return "\n".join(["| fact | value |", "|---|---|", *rows])


def _flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, inner in value.items():
        title = f"{prefix}{name}"
        rows += _flatten(inner, f"{title}, ") if isinstance(inner, Mapping) else [(title, inner)]
    return rows


def cell(value: Any) -> str:
    """Return a value as a cell of a table shows it: four digits, a range for two numbers, no markup."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " to ".join(cell(each) for each in value) if len(value) == 2 else ", ".join(map(cell, value))
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")
