"""``fedfer predict``: looks, tells, and says at the end what it could not see."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fer_models.edge.faces import FaceFinder
from fer_models.edge.sources import frames
from fer_models.errors import DataError
from server.run_folder import writing
from simulations.predicting.asked import Asked
from simulations.predicting.judges import judge_of
from simulations.predicting.output import Copies, Lines, rows_of
from simulations.predicting.stream import NO_FACE, seen


def predict(wanted: Asked) -> int:
    """Judge what the words name; lines go to a file or standard output, what was left out to standard error.

    Raises
    ------
    DataError : an input is not there, not one picture of all could be read, or a film ends before its time.
    ModelError : the model is not there, or damaged.
    """
    how = wanted.how
    judge = judge_of(wanted.model, how)
    finder = FaceFinder(how.faces, Path(how.face_model) if how.face_model else None)
    copies = None if wanted.annotate is None else Copies(wanted.annotate, judge, gradcam=how.gradcam)
    told: Counter[str] = Counter()
    source = frames(wanted.inputs, how.every)
    batch = (
        1 if any(each.isdigit() for each in wanted.inputs) else how.batch
    )  # a camera's answers come at once
    try:
        with _stream(wanted.out) as stream:
            lines = Lines(stream, how.format, judge.labels)
            chosen = itertools.islice(source, how.frames) if how.frames else source
            for found in seen(chosen, finder, judge, batch=batch, most=how.most):
                for row in rows_of(found, judge.labels):
                    lines(row)
                if found.frame.cut_short:
                    told["cut"] += 1
                    continue
                told["frames"] += 1
                told["faces"] += len(found.faces)
                told["left"] += found.left
                told[found.problem and ("none" if found.problem == NO_FACE else "unreadable")] += 1
                if copies is not None:
                    copies(found)
    finally:
        source.close()  # type: ignore[attr-defined]  # a generator: lets go of a camera
        if copies is not None:
            copies.close()
    sys.stderr.write(summary(told, wanted, 0 if copies is None else copies.written) + "\n")
    if told["frames"] and told["unreadable"] == told["frames"]:
        raise DataError(
            "not one picture can be read", where=wanted.inputs[0], cure="See the column problem of the lines."
        )
    if told["cut"]:
        raise DataError(
            f"{told['cut']} of the films {'ends' if told['cut'] == 1 else 'end'} too soon",
            where=wanted.inputs[0] if len(wanted.inputs) == 1 else "see the column problem of the lines",
            cure="What is there was judged. Copy the film anew from where it comes from.",
        )
    return 0


def summary(told: Counter[str], wanted: Asked, copies: int) -> str:
    """Say how much was looked at, and what was not seen."""
    parts = [f"{told['faces']} faces in {told['frames']} frames"]
    parts += [f"{told['none']} without a face"] if told["none"] else []
    parts += [f"{told['left']} faces left out by most={wanted.how.most}"] if told["left"] else []
    parts += [f"{told['unreadable']} unreadable"] if told["unreadable"] else []
    parts += [f"films that end too soon: {told['cut']}"] if told["cut"] else []
    parts += [f"{copies} annotated copies in {wanted.annotate}"] if copies else []
    return "; ".join(parts)


@contextlib.contextmanager
def _stream(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    with writing(path, "Name a file in a folder that you may write to."):
        file = path.open("w", encoding="utf-8", newline="")
    with file:
        yield file
