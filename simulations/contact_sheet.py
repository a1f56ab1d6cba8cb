"""Pictures in labelled rows, to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fer_models.errors import ConfigError, RunFolderError
from fer_models.samples import Samples

GAP = 2
"""Pixels between two pictures."""

INK, PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(
    samples: Samples, path: Path | str, rows_by: str = "label", columns: int = 10, scale: int | None = None
) -> Path:
    """Write a picture with one labelled row a value of a column, and return its path.

    Parameters
    ----------
    samples : pictures of one size.
    path : file to write, with an ending that Pillow knows such as ``.png``.
    rows_by : ``label``, ``subject``, ``split`` or a group attribute.
    columns : pictures a row, the first ones of each value.
    scale : how many times a picture is enlarged; by default so that it is about 96 pixels wide.

    Raises
    ------
    ConfigError : an unknown column, no picture, or less than one picture a row.
    RunFolderError : the file cannot be written.
    """
    values = _column(samples, rows_by)
    if columns < 1 or not len(samples):
        raise ConfigError(
            "a contact sheet without pictures", where=str(path), cure="Ask for one column or more."
        )
    scale = scale or max(1, round(96 / samples.size))
    names = [name for name in samples.labels if name in values] if rows_by == "label" else sorted(set(values))
    strips = [_strip(samples, np.flatnonzero(values == name)[:columns], columns, scale) for name in names]
    sheet = _labelled(strips, names)
    target = Path(path)
    part = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(part, optimize=True)
        part.replace(target)
    except (OSError, ValueError) as error:
        part.unlink(missing_ok=True)
        raise RunFolderError(
            f"cannot write the contact sheet: {error}", where=str(path), cure="Choose a writable .png file."
        ) from error
    return target


def _column(samples: Samples, name: str) -> NDArray[np.str_]:
    columns = {"label": np.array(samples.labels)[samples.label], "split": samples.split, **samples.groups}
    if samples.subject is not None:
        columns["subject"] = samples.subject
    if name not in columns:
        raise ConfigError(
            f"no column {name!r} to sort rows by",
            where="contact sheet",
            cure=f"Use {', '.join(sorted(columns))}.",
        )
    return columns[name]


def _strip(samples: Samples, rows: NDArray[np.intp], columns: int, scale: int) -> NDArray[np.uint8]:
    """Return one row of enlarged pictures side by side, uint8 (height, width, 3)."""
    side = samples.size * scale
    strip = np.full((side, columns * (side + GAP), 3), PAPER[0], np.uint8)
    for place, row in enumerate(rows):
        picture = samples.pictures[row]
        colour = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, 2)
        left = place * (side + GAP)
        strip[:, left : left + side] = colour.repeat(scale, 0).repeat(scale, 1)
    return strip


def _labelled(strips: list[NDArray[np.uint8]], names: list[str]) -> Image.Image:
    """Stack strips and write a name beside each."""
    font = ImageFont.load_default(size=14)
    margin = 12 + max(int(font.getlength(name)) for name in names)
    height, width = strips[0].shape[:2]
    sheet = Image.new("RGB", (margin + width, len(strips) * (height + GAP)), PAPER)
    ink = ImageDraw.Draw(sheet)
    for i, (strip, name) in enumerate(zip(strips, names, strict=True)):
        top = i * (height + GAP)
        sheet.paste(Image.fromarray(strip), (margin, top))
        ink.text((6, top + height // 2), name, fill=INK, font=font, anchor="lm")
    return sheet
