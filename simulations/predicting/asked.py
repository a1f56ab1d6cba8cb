"""What the words of ``fedfer predict`` ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from client.strict import nearest, parse, require
from fer_models.edge.faces import FINDERS
from fer_models.errors import ConfigError
from simulations.predict import USAGE

FORMATS = ("jsonl", "csv")


@dataclass(frozen=True)
class Prediction:
    """How pictures are judged.

    Attributes
    ----------
    faces : how faces are found, one of :data:`fer_models.edge.faces.FINDERS`.
    face_model : YuNet's file; only for ``faces=yunet``.
    most : faces of a frame that are judged, the largest first; 0 for all.
    batch : faces that are judged at a time.
    every : of films and cameras, only each so many-th frame.
    frames : frames after which to stop; 0 for all.
    mirror : judge every face and its mirror image and take the mean, as audits do; twice the work.
    format : of the lines: jsonl or csv.
    gradcam : draw onto annotated copies where the net looks; only for nets, not for exported graphs.
    labels : YAML file that gives every class of the model a name of your own.
    threads : processor cores of a graph.
    """

    faces: str = "haar"
    face_model: str = ""
    most: int = 0
    batch: int = 32
    every: int = 1
    frames: int = 0
    mirror: bool = True
    format: str = "jsonl"
    gradcam: bool = False
    labels: str = ""
    threads: int = 1

    def __post_init__(self) -> None:
        require(
            self.faces in FINDERS,
            f"unknown way to find faces {self.faces!r}",
            "faces",
            nearest(self.faces, FINDERS),
        )
        require(
            self.format in FORMATS, f"unknown format {self.format!r}", "format", nearest(self.format, FORMATS)
        )
        for name, least, most in (
            ("most", 0, 10_000),
            ("batch", 1, 1024),
            ("every", 1, 10**6),
            ("frames", 0, 10**9),
            ("threads", 1, 256),
        ):
            value = getattr(self, name)
            require(least <= value <= most, f"{name} is {value}", name, f"Give {least} to {most}.")


@dataclass(frozen=True)
class Asked:
    """What is judged, by which model, how, and where the answers go.

    Attributes
    ----------
    model : a run folder, its ``model`` folder, or the folder of an exported model.
    inputs : pictures, folders, films, and cameras by their number.
    out : file of the lines; None for standard output.
    annotate : folder of annotated copies; None for none.
    """

    model: Path
    inputs: tuple[str, ...]
    how: Prediction
    out: Path | None
    annotate: Path | None


def asked(words: Sequence[str]) -> Asked:
    """Return what the words ask for.

    Raises
    ------
    ConfigError : no model or no input, an unknown word, or a value of the wrong kind.
    """
    flags, rest = _flags([word for word in words if not word.startswith("hydra.")])
    known = {each.name: str(each.type) for each in fields(Prediction)}
    options, names = {}, []
    for word in rest:
        key, equals, value = word.partition("=")
        if equals and key in known:
            options[key] = value if known[key] == "str" else _plain(key, value)
        elif equals and not Path(word).exists():
            raise ConfigError(f"predict takes no {key!r}", where="command line", cure=nearest(key, known))
        else:
            names.append(word)
    if len(names) < 2:
        what = "predict needs a model and something to look at"
        raise ConfigError(what, where="command line", cure=USAGE)
    how = parse(Prediction, options, "")
    if how.gradcam and "--annotate" not in flags:
        cure = "Write --annotate DIR gradcam=true."
        raise ConfigError("gradcam is drawn onto annotated copies", where="gradcam", cure=cure)
    out, annotate = (
        Path(flags[name]).expanduser() if name in flags else None for name in ("--out", "--annotate")
    )
    return Asked(Path(names[0]).expanduser(), tuple(names[1:]), how, out, annotate)


def _flags(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    found, others, rest = {}, [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            others.append(word)
            continue
        if name not in ("--out", "--annotate"):
            raise ConfigError(
                f"unknown option {word!r}", where="command line", cure="Use --out FILE or --annotate DIR."
            )
        found[name] = value if equals else next(rest, "")
        if not found[name]:
            raise ConfigError(f"{name} without a path", where="command line", cure=f"Write {name} PATH.")
    return found, others


def _plain(key: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"no value: {value!r}", where=key, cure="Give a number, true or false.") from error
