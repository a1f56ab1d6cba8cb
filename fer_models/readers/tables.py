"""Text tables and folders, opened with errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from fer_models.errors import DataError

Progress = Callable[[int, int], None]
"""Called now and then with the rows read so far and the rows to read, 0 where their number is unknown."""


def existing(root: Path | str, *, cure: str) -> Path:
    """Return ``root`` as a path.

    Raises
    ------
    DataError : there is no such file or folder; its cure is ``cure``.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError("no such file or folder", where=str(root), cure=cure)
    return path


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, through gzip when its name ends in ``.gz``.

    Raises
    ------
    DataError : the file cannot be read to its end, while it is opened or inside the block.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (OSError, EOFError, zlib.error) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"cannot be read: {what}", where=str(path), cure="Check its rights, or download it again."
        ) from error


def table(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, column -> cell) of a csv file with a header; blanks around names and cells are removed.

    Raises
    ------
    DataError : a required column is missing, a name occurs twice, a row has another number of cells than the
        header, or the file is no UTF-8 text.
    """
    with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        try:
            header = [name.strip() for name in next(reader, [])]
            check_header(header, required, where=f"{path}:1")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{len(row)} cells for {len(header)} columns",
                        where=f"{path}:{reader.line_num}",
                        cure="Give one cell a column; put a cell that holds a comma in double quotes.",
                    )
                yield reader.line_num, dict(zip(header, (cell.strip() for cell in row), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"no csv text: {error}", where=f"{path}:{reader.line_num + 1}", cure="Save it as UTF-8 csv."
            ) from error


def check_header(header: Sequence[str], required: Sequence[str], *, where: str) -> None:
    """Refuse a header that lacks a required column or has one twice."""
    missing = [name for name in required if name not in header]
    if missing:
        raise DataError(
            f"no column {missing[0]!r} in the header {','.join(header)!r}",
            where=where,
            cure=f"The first line must name the columns {', '.join(required)}.",
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"column {twice[0]!r} occurs twice", where=where, cure="Rename one of them.")
