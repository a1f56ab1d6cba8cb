"""Text tables and folders, opened with errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, TypeVar, cast

from fer_models.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

T = TypeVar("T")

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


def below(folder: Path, *steps: str, cure: str) -> Path:
    """Return what lies at ``folder/step/step``, whatever the case of its letters; ``a|b`` allows two names.

    Raises
    ------
    DataError : there is nothing of that name; its cure is ``cure``.
    """
    for step in steps:
        names = step.lower().split("|")
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        found = next((path for name in names for path in inside if path.name.lower() == name), None)
        if found is None:
            raise DataError(f"no {step.replace('|', ' or ')} in the folder", where=str(folder), cure=cure)
        folder = found
    return folder


def inner(folder: Path, *names: str) -> Path:
    """Return the folder of one of these names inside ``folder``, or ``folder`` itself where there is none.

    Archives unpack to a folder of their own, which users name or do not.
    """
    known = [name.lower() for name in names]
    inside = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return next((path for path in sorted(inside) if path.name.lower() in known), folder)


def inside(name: str, *, where: str) -> PurePosixPath:
    """Return a file name that a table tells as a relative path.

    Raises
    ------
    DataError : it is empty, or leaves the folder.
    """
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name or not name.isprintable() or path.is_absolute() or windows.anchor or ".." in windows.parts:
        raise DataError(
            f"file name {name!r} is empty or leaves the folder",
            where=where,
            cure="Name files inside the folder, such as images/001.png.",
        )
    return path


def text_of(path: Path) -> str:
    """Return a small text file, without a byte order mark.

    Raises
    ------
    DataError : it cannot be read, or is no UTF-8 text.
    """
    with opened(path) as file:
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError("no UTF-8 text", where=str(path), cure="Download the file again.") from error


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


def table(
    path: Path, required: Sequence[str], *, without: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, column -> cell) of a csv file with a header; blanks around names and cells are removed.

    Parameters
    ----------
    without : the columns of a file that may come without a header; the first of them tells whether it has one.

    Raises
    ------
    DataError : a required column is missing, a name occurs twice, a row has another number of cells than the
        header, or the file is no UTF-8 text.
    """
    return _csv(path, lambda reader: _rows(path, reader, required, without))


def _rows(
    path: Path, reader: Reader, required: Sequence[str], without: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    header = [name.strip() for name in next(reader, [])]
    rows: Iterable[list[str]] = reader
    if without and without[0] not in header:
        rows, header = chain([header], reader), list(without)
    check_header(header, required, where=f"{path}:1")
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise _uneven(row, len(header), f"{path}:{reader.line_num}")
        yield reader.line_num, dict(zip(header, (cell.strip() for cell in row), strict=True))


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


@dataclass(frozen=True)
class Block:
    """Some rows of a csv file that follow each other.

    Attributes
    ----------
    path : of the file.
    before : lines of the file that end before these rows.
    rows : the rows as they stand, blank lines among them.
    columns : K tuples of N cells, one a column of the header, without blank lines; blanks around cells stay.
    """

    path: Path
    before: int
    rows: list[list[str]]
    columns: list[tuple[str, ...]]

    def place(self, index: int) -> str:
        """Return ``file:line`` of the row at ``index`` of the columns."""
        line, left = self.before, index
        for row in self.rows:
            line += 1 + sum(cell.count("\n") for cell in row)
            left -= bool(row)
            if left < 0:
                break
        return f"{self.path}:{line}"


def header_of(path: Path) -> list[str]:
    """Return the names in the first line of a csv file; an empty file has none."""
    return next(_csv(path, lambda reader: iter([[name.strip() for name in next(reader, [])]])))


def blocks(path: Path, size: int = 16384) -> Iterator[Block]:
    """Yield the rows under the header of a csv file, ``size`` at a time, so that memory stays flat.

    Raises
    ------
    DataError : a row has another number of cells than the header, or the file is no UTF-8 text.
    """
    return _csv(path, lambda reader: _blocks(path, reader, size))


def _blocks(path: Path, reader: Reader, size: int) -> Iterator[Block]:
    width, before = len(next(reader, [])), reader.line_num
    while rows := list(islice(reader, size)):
        block = Block(path, before, rows, [])
        filled = [row for row in rows if row]
        for index, row in enumerate(filled):
            if len(row) != width:
                raise _uneven(row, width, block.place(index))
        if filled:
            yield replace(block, columns=list(zip(*filled, strict=True)))
        before = reader.line_num


def _csv(path: Path, read: Callable[[Reader], Iterator[T]]) -> Iterator[T]:
    """Yield what ``read`` makes of a csv file; what is no csv text becomes a DataError with its line."""
    with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        try:
            yield from read(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"no csv text: {error}", where=f"{path}:{reader.line_num + 1}", cure="Save it as UTF-8 csv."
            ) from error


def _uneven(row: Sequence[str], width: int, where: str) -> DataError:
    return DataError(
        f"{len(row)} cells for {width} columns",
        where=where,
        cure="Give one cell a column; put a cell that holds a comma in double quotes.",
    )
