"""Lines of JSON or CSV, one a face, and annotated copies of what was looked at."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fer_models.edge.faces import Face, Pixels, in_channels
from fer_models.edge.sources import FILMS, Frame
from fer_models.errors import RunFolderError
from server.run_folder import writing
from simulations.predicting.judges import Judge
from simulations.predicting.stream import Seen

INK = (213, 94, 0)
"""Colour of boxes and heat: vermilion of Okabe and Ito's palette, told apart with all kinds of sight."""

HEAT = 0.6
"""How much the strongest heat hides of a face."""

FILM_RATE = 25.0
"""Frames a second of an annotated film whose source does not tell its own, as some cameras do not."""

COLUMNS = (
    "source",
    "frame",
    "seconds",
    "face",
    "left",
    "top",
    "right",
    "bottom",
    "label",
    "probability",
    "problem",
)


def rows_of(found: Seen, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what is told of a frame: one row a face, or one with the problem where there is none.

    ``seconds`` is None for pictures and cameras, and ``faces_left`` says how many faces were found and not judged.
    """
    where: dict[str, Any] = {"source": found.frame.source, "frame": found.frame.number}
    where["seconds"] = None if found.frame.seconds is None else round(found.frame.seconds, 3)
    if found.problem:
        return [{**where, "face": None, "problem": found.problem}]
    rows = []
    for number, (face, each) in enumerate(zip(found.faces, found.probabilities, strict=True)):
        best = int(each.argmax())
        told = {"face": number, "box": [round(x, 1) for x in face.box], "label": labels[best]}
        told["probability"] = round(float(each[best]), 4)
        told["probabilities"] = {name: round(float(p), 4) for name, p in zip(labels, each, strict=True)}
        rows.append({**where, **told, **({"faces_left": found.left} if found.left else {})})
    return rows


class Lines:
    """Writes rows as they come, a line each, to a file or a stream.

    Parameters
    ----------
    kind : ``jsonl`` or ``csv``; csv has a column a class with its probability.
    """

    def __init__(self, stream: TextIO, kind: str, labels: tuple[str, ...]) -> None:
        self._stream, self._kind, self._labels = stream, kind, labels
        if kind == "csv":
            self._write([*COLUMNS, *labels])

    def _write(self, cells: list[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
        self._stream.write(text.getvalue())

    def __call__(self, row: dict[str, Any]) -> None:
        """Write a row of :func:`rows_of`."""
        if self._kind == "jsonl":
            self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            box = dict(zip(("left", "top", "right", "bottom"), row.get("box", ()), strict=False))
            cells = [{**row, **box}.get(name) for name in COLUMNS]
            self._write(cells + [row.get("probabilities", {}).get(name) for name in self._labels])
        self._stream.flush()


class Copies:
    """Annotated copies in a folder: pictures as PNG, films as mp4. Originals are never touched.

    Parameters
    ----------
    gradcam : draw where the net looks, too.
    """

    def __init__(self, folder: Path, judge: Judge, *, gradcam: bool) -> None:
        self._folder, self._judge, self._gradcam = folder, judge, gradcam
        self._film: tuple[str, Any, tuple[int, int]] | None = None
        self.written = 0
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, found: Seen) -> None:
        """Write the copy of a frame."""
        if found.frame.pixels is None:
            return
        picture = annotated(found, self._judge, gradcam=self._gradcam)
        if found.frame.source.startswith("camera ") or Path(found.frame.source).suffix.lower() in FILMS:
            self._to_film(found.frame, picture)
            return
        from PIL import Image

        path = self._folder / f"{name_of(found.frame.source)}.png"
        with writing(path):
            Image.fromarray(picture).save(path)
        self.written += 1

    def _to_film(self, frame: Frame, picture: Pixels) -> None:
        import cv2

        size = picture.shape[1::-1]
        if self._film is None or self._film[0] != frame.source or self._film[2] != size:
            self.close()
            path = self._folder / f"{name_of(frame.source)}.mp4"
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(path), code, frame.rate or FILM_RATE, size)
            if not writer.isOpened():
                cure = "Choose another folder, or a film whose frames have an even number of pixels a side."
                raise RunFolderError("the annotated film cannot be written", where=str(path), cure=cure)
            self._film = (frame.source, writer, size)
            self.written += 1
        assert self._film is not None
        self._film[1].write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """End the film that is being written, if any."""
        if self._film is not None:
            self._film[1].release()
            self._film = None


def name_of(source: str) -> str:
    """Return a file name for a copy: that of the source, with eight letters that tell folder and ending from others."""
    mark = hashlib.sha256(os.fsencode(Path(source).absolute())).hexdigest()[:8]
    return f"{Path(source).stem.replace(' ', '-')}-{mark}"


def annotated(found: Seen, judge: Judge, *, gradcam: bool) -> Pixels:
    """Return a copy (H, W, 3) of a frame with a box, the expression and its probability at every face."""
    import cv2

    assert found.frame.pixels is not None
    picture = in_channels(found.frame.pixels, 3).copy()
    if gradcam and found.faces:
        said = found.probabilities.argmax(1).astype(np.int64)
        for face, heat in zip(found.faces, judge.heat(found.crops, said), strict=True):
            _warm(picture, face, heat)
    thick = max(1, round(max(picture.shape[:2]) / 400))
    for face, each in zip(found.faces, found.probabilities, strict=True):
        left, top, right, bottom = (round(x) for x in face.box)
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), INK, thick)
        text = f"{judge.labels[int(each.argmax())]} {each.max():.0%}"
        scale = max(0.35, (right - left) / 250)
        place = (left + 2, top - 4 if top > 20 else min(bottom + 16, picture.shape[0] - 4))
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, thick, cv2.LINE_AA)
    return picture


def _warm(picture: Pixels, face: Face, heat: NDArray[np.float32]) -> None:
    """Draw heat (size, size), 0 to 1, over the box of a face."""
    import cv2

    height, width = picture.shape[:2]
    left, top = (max(0, round(each)) for each in face.box[:2])
    right, bottom = min(width, round(face.box[2])), min(height, round(face.box[3]))
    if right <= left or bottom <= top:
        return
    share = HEAT * cv2.resize(heat, (right - left, bottom - top))[:, :, None]
    part = picture[top:bottom, left:right]
    part[:] = ((1 - share) * part + share * np.array(INK)).round().clip(0, 255).astype(np.uint8)
