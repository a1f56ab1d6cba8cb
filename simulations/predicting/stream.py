"""Frames go through in batches of faces: a batch of faces, and the frames they are on, are in memory, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fer_models.edge.faces import MARGIN, Face, FaceFinder, Pixels, cropped
from fer_models.edge.sources import Frame
from simulations.predicting.judges import Judge

MOST_WAITING = 64
"""Frames without a face that may wait for a batch to fill."""

MOST_BYTES = 256 << 20
"""Of frames that wait for a batch to fill: photographs of many megapixels go on in smaller batches."""

NO_FACE = "no face found"


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame, its faces, and what they show.

    Attributes
    ----------
    frame : as it was read.
    faces : that were judged, the largest first.
    crops : uint8 (n, size, size) or (n, size, size, 3), as the model saw them.
    probabilities : float32 (n, classes).
    left : faces that were found beside these, and not judged.
    """

    frame: Frame
    faces: tuple[Face, ...]
    crops: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    left: int = 0

    @property
    def problem(self) -> str:
        """Why nothing is said of this frame; empty where something is."""
        return self.frame.problem or ("" if self.faces else NO_FACE)


@dataclass
class _Waiting:
    """Frames whose faces have not been judged yet."""

    frames: list[tuple[Frame, list[Face], int]] = field(default_factory=list)
    crops: list[Pixels] = field(default_factory=list)


def seen(
    source: Iterable[Frame], finder: FaceFinder, judge: Judge, *, batch: int, most: int = 0
) -> Iterator[Seen]:
    """Yield every frame with what its faces show, in order.

    Parameters
    ----------
    batch : faces that are judged at a time.
    most : faces of a frame that are judged, the largest first; 0 for all.
    """
    waiting, held = _Waiting(), 0
    for frame in source:
        found = [] if frame.pixels is None else finder(frame.pixels)
        chosen = found[:most] if most else found
        for face in chosen:
            assert frame.pixels is not None
            crop = cropped(frame.pixels, face, judge.size, judge.channels, MARGIN[finder.kind])
            waiting.crops.append(crop)
        waiting.frames.append((frame, chosen, len(found) - len(chosen)))
        held += 0 if frame.pixels is None else frame.pixels.nbytes
        many = len(waiting.frames) >= max(batch, MOST_WAITING if batch > 1 else 1)
        if many or len(waiting.crops) >= batch or held >= MOST_BYTES:
            yield from _judged(waiting, judge, batch)
            waiting, held = _Waiting(), 0
    yield from _judged(waiting, judge, batch)


def _judged(waiting: _Waiting, judge: Judge, batch: int) -> Iterator[Seen]:
    form = (judge.size, judge.size) if judge.channels == 1 else (judge.size, judge.size, judge.channels)
    crops = np.stack(waiting.crops) if waiting.crops else np.zeros((0, *form), np.uint8)
    parts = [judge.probabilities(crops[i : i + batch]) for i in range(0, len(crops), batch)]
    found = np.concatenate(parts) if parts else np.zeros((0, len(judge.labels)), np.float32)
    place = 0
    for frame, faces, left in waiting.frames:
        end = place + len(faces)
        yield Seen(frame, tuple(faces), crops[place:end], found[place:end], left)
        place = end
