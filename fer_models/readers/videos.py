"""Frames of video files, by OpenCV, which is loaded when the first one is read."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from PIL import Image

SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
"""Endings of the file names that are taken for videos, in lower case."""


def frame_of(path: Path, moment: float) -> Image.Image:
    """Return the frame that is shown at a share of the length of a video.

    Frames are counted by reading them: what a file says of its own length is often wrong.

    Parameters
    ----------
    moment : above 0 and below 1; 0.5 is the middle frame.

    Raises
    ------
    ValueError : there is no frame, such as in a damaged file.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said by us, with the file's name
    import cv2

    count = _count(path, path.stat().st_mtime_ns)
    wanted = min(int(moment * count), count - 1)
    video = cv2.VideoCapture(str(path))
    try:
        for _ in range(wanted):
            video.grab()
        read, pixels = video.read()
    finally:
        video.release()
    if not read or count == 0:
        raise ValueError("no video with frames")
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


@lru_cache(maxsize=4)
def _count(path: Path, changed: int) -> int:  # noqa: ARG001 - a file that has changed is counted anew
    import cv2

    video, count = cv2.VideoCapture(str(path)), 0
    try:
        while video.grab():
            count += 1
    finally:
        video.release()
    return count
