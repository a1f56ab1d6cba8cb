"""Tables that owners ship as .xlsx, read without a spreadsheet program: the cells of the first sheet, as text."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from fer_models.errors import DataError

LARGEST = 256 << 20
"""Bytes that a sheet may unpack to; those of the data sets have a few million."""

_NAME = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_CELL = re.compile(r"([A-Z]{1,3})\d+")


def sheet(path: Path) -> list[list[str]]:
    """Return the rows of the first sheet; cells without a value are empty, a row ends with its last value.

    Raises
    ------
    DataError : it is no such file, or a huge one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            shared = _shared(archive) if "xl/sharedStrings.xml" in archive.namelist() else []
            root = _parsed(archive, "xl/worksheets/sheet1.xml")
    except (OSError, zipfile.BadZipFile, KeyError, ElementTree.ParseError, ValueError, RuntimeError) as error:
        what = f"no table of a spreadsheet: {error}"
        raise DataError(what, where=str(path), cure="Download the .xlsx file again.") from error
    return [_cells(row, shared) for row in root.iter(f"{_NAME}row")]


def _parsed(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > LARGEST:
        raise ValueError(f"{name} is larger than {LARGEST >> 20} MiB")
    text = archive.read(name)
    if b"<!DOCTYPE" in text[:1024] or b"<!ENTITY" in text:
        raise ValueError(f"{name} defines entities")  # which could unpack to any size
    return ElementTree.fromstring(text)


def _shared(archive: zipfile.ZipFile) -> list[str]:
    root = _parsed(archive, "xl/sharedStrings.xml")
    return ["".join(part.text or "" for part in item.iter(f"{_NAME}t")) for item in root.iter(f"{_NAME}si")]


def _cells(row: ElementTree.Element, shared: list[str]) -> list[str]:
    found: list[str] = []
    for cell in row.iter(f"{_NAME}c"):
        match = _CELL.fullmatch(cell.get("r", ""))
        column = _column(match[1]) if match else len(found)
        found += [""] * (column - len(found))
        found.append(_text(cell, shared))
    return found


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _text(cell: ElementTree.Element, shared: list[str]) -> str:
    value = cell.find(f"{_NAME}v")
    if cell.get("t") == "inlineStr":
        return "".join(part.text or "" for part in cell.iter(f"{_NAME}t")).strip()
    if value is None or value.text is None:
        return ""
    return (shared[int(value.text)] if cell.get("t") == "s" else value.text).strip()
