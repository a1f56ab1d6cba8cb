"""``fedfer data prepare``: faces out of raw pictures, with all that is known of them kept beside.

Every picture has a line in ``faces.csv``: cropped, or why not. Nothing is left out without being told. A killed run
goes on where it was: ``state.jsonl`` has a line for every picture that is done.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from client.strict import nearest, parse, require
from fer_models.edge.faces import FINDERS, MARGIN, FaceFinder, cropped
from fer_models.edge.sources import picture
from fer_models.errors import ConfigError, DataError, RunFolderError
from fer_models.readers.imagefolder import METADATA
from fer_models.readers.pictures import SUFFIXES
from fer_models.readers.tables import existing, inside, table
from server.run_folder import write_bytes, write_text, writing

USAGE = "Write: fedfer data prepare IN OUT."

STATE, REPORT, OPTIONS = "state.jsonl", "faces.csv", "prepare.json"
"""Files beside the faces: what is done, what became of every picture, and how it was asked for."""

FOUND, NO_FACE, SEVERAL = "cropped", "no face found", "several faces"

COLUMNS = ("file_name", "outcome", "faces", "left", "top", "right", "bottom", "upright", "face_file")


@dataclass(frozen=True)
class Preparation:
    """How faces are taken out of pictures.

    Attributes
    ----------
    faces : how they are found, one of :data:`fer_models.edge.faces.FINDERS`.
    face_model : YuNet's file; only for ``faces=yunet``.
    size : side of a face in pixels.
    channels : 1 for gray, 3 for colour.
    margin : share of the side that is added around a face; below 0 takes the finder's own.
    several : of a picture with several faces, take the ``largest`` or ``skip`` it.
    missing : of a picture without a face, ``skip`` it or take the ``whole`` of it.
    """

    faces: str = "haar"
    face_model: str = ""
    size: int = 112
    channels: int = 3
    margin: float = -1.0
    several: str = "largest"
    missing: str = "skip"

    def __post_init__(self) -> None:
        for name, known in (
            ("faces", FINDERS),
            ("several", ("largest", "skip")),
            ("missing", ("skip", "whole")),
        ):
            value = getattr(self, name)
            require(value in known, f"unknown {name} {value!r}", name, nearest(value, known))
        require(8 <= self.size <= 1024, f"size is {self.size}", "size", "Give 8 to 1024 pixels.")
        require(self.channels in (1, 3), f"channels is {self.channels}", "channels", "Give 1 or 3.")
        require(self.margin <= 2, f"a margin of {self.margin}", "margin", "Give 0 to 2.")


@dataclass(frozen=True)
class Outcome:
    """What became of a picture.

    Attributes
    ----------
    file_name : of the picture, below the input folder.
    outcome : :data:`FOUND`, or why there is no face of it.
    faces : that were found.
    box : left, top, right, bottom of the one that was taken.
    upright : whether its eyes were found, and made level.
    face_file : of the face, below the output folder; empty where there is none.
    """

    file_name: str
    outcome: str
    faces: int = 0
    box: tuple[float, ...] = ()
    upright: bool = False
    face_file: str = ""


def prepare_faces(words: Sequence[str], console: Console) -> int:
    """Take faces out of the pictures of a folder; print how many, and what is missing.

    Raises
    ------
    ConfigError : no two folders, or a wrong word.
    DataError : no pictures, or not one face in all of them.
    RunFolderError : the output folder holds something else, or faces that were asked for otherwise.
    """
    source, target, how = _asked(words)
    finder = FaceFinder(how.faces, Path(how.face_model) if how.face_model else None)
    names = _names(source)
    done = _begin(target, source, how)
    files = face_files(names, {name: each.face_file for name, each in done.items() if each.face_file})
    for number, name in enumerate(names, 1):
        if name not in done:
            done[name] = _prepared(source / name, target, files[name], name, finder, how)
            with writing(target), (target / STATE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(done[name])) + "\n")
        if number % 200 == 0:
            console.print(f"{number} of {len(names)} pictures", highlight=False)
    found = [done[name] for name in names]
    _report(found, target)
    tables = _tables(source, target, {each.file_name: each for each in found})
    _tell(found, tables, target, console)
    if not any(each.face_file for each in found):
        cure = "Use faces=yunet with its model, or faces=whole where pictures are crops already."
        raise DataError("no face is found in any picture", where=str(source), cure=cure)
    return 0


def _asked(words: Sequence[str]) -> tuple[Path, Path, Preparation]:
    known = {each.name: str(each.type) for each in fields(Preparation)}
    kinds = {"int": int, "float": float, "str": str}
    options, names = {}, []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            names.append(word)
            continue
        if key not in known:
            raise ConfigError(
                f"data prepare takes no {key!r}", where="command line", cure=nearest(key, known)
            )
        try:
            options[key] = kinds[known[key]](value)
        except ValueError as error:
            raise ConfigError(f"no number: {value!r}", where=key, cure="Give a number.") from error
    if len(names) != 2:
        raise ConfigError("data prepare needs two folders", where="command line", cure=USAGE)
    source = existing(Path(names[0]).expanduser(), cure="Name the folder that holds the pictures.")
    target = Path(names[1]).expanduser()
    if target.resolve().is_relative_to(source.resolve()):
        cure = "Name a folder outside of it, so that faces are not taken for pictures."
        raise ConfigError("the faces would lie among the pictures", where=str(target), cure=cure)
    return source, target, parse(Preparation, options, "")


def _metadata(source: Path) -> list[Path]:
    """Return the tables of a folder, below it: its own, or those of its parts."""
    own = source / METADATA
    return [own] if own.is_file() else sorted(source.glob(f"*/{METADATA}"))


def _names(source: Path) -> list[str]:
    """Return the pictures of a folder: those that its tables name, or all that lie in it."""
    found = []
    for file in _metadata(source):
        for line, cells in table(file, ("file_name",)):
            name = inside(cells["file_name"], where=f"{file}:{line}")
            found.append((file.parent / name).relative_to(source).as_posix())
    if not found:
        found = [
            path.relative_to(source).as_posix()
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("._")
        ]
    if not found:
        raise DataError(
            "the folder holds no picture", where=str(source), cure="Name the folder that holds them."
        )
    return list(dict.fromkeys(found))


def _begin(target: Path, source: Path, how: Preparation) -> dict[str, Outcome]:
    """Return what an earlier, killed run has done, whose options have to be the same."""
    facts = json.dumps({"source": str(source.resolve()), **asdict(how)}, indent=1) + "\n"
    kept = target / OPTIONS
    if target.exists() and not kept.is_file() and (not target.is_dir() or any(target.iterdir())):
        raise RunFolderError("the folder holds something else", where=str(target), cure="Name a new folder.")
    if kept.is_file() and kept.read_text(encoding="utf-8") != facts:
        what = "the folder holds faces of other pictures, or that were asked for otherwise"
        raise RunFolderError(what, where=str(target), cure="Name a new folder.")
    write_text(kept, facts)
    return {each.file_name: each for each in _lines(target / STATE)}


def _lines(path: Path) -> Iterator[Outcome]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            facts = json.loads(line)
            yield Outcome(**{**facts, "box": tuple(facts["box"])})
        except (ValueError, TypeError, LookupError):
            continue  # what a kill has cut off is done again


def face_files(names: Sequence[str], kept: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return picture -> file of its face: its own name with ``.png`` at the end, and a name that no other face has.

    ``a.jpg`` beside ``a.jpg.png`` becomes ``a.jpg.2.png``. Names that differ in capitals alone count as one, as some
    systems store them.

    Parameters
    ----------
    kept : those of an earlier run, which stay as they are.
    """
    found = dict(kept or {})
    before = {file.lower() for file in found.values()}
    taken = before | {name.lower() for name in names if name.lower().endswith(".png")}
    for name in (name for name in names if name not in found):
        own = name.lower().endswith(".png")
        file, number = name if own else f"{name}.png", 1
        while file.lower() in (before if own and number == 1 else taken):
            number += 1
            file = f"{name}.{number}.png"
        taken.add(file.lower())
        found[name] = file
    return found


def _prepared(
    path: Path, target: Path, file: str, name: str, finder: FaceFinder, how: Preparation
) -> Outcome:
    if not path.is_file():
        return Outcome(name, "missing picture")
    frame = picture(path)
    if frame.pixels is None:
        return Outcome(name, frame.problem)
    faces = finder(frame.pixels)
    if len(faces) > 1 and how.several == "skip":
        return Outcome(name, SEVERAL, len(faces))
    chosen, outcome, margin = faces[:1], FOUND, MARGIN[how.faces] if how.margin < 0 else how.margin
    if not faces:
        if how.missing == "skip":
            return Outcome(name, NO_FACE)
        chosen, outcome, margin = FaceFinder("whole")(frame.pixels), f"{NO_FACE}, taken whole", 0.0
    face = chosen[0]
    crop = cropped(frame.pixels, face, how.size, how.channels, margin)
    content = io.BytesIO()
    Image.fromarray(crop).save(content, "PNG")
    write_bytes(target / file, content.getvalue())
    box = tuple(round(each, 1) for each in face.box)
    return Outcome(name, outcome, len(faces), box, face.eyes is not None, file)


def _report(found: Sequence[Outcome], target: Path) -> None:
    rows = []
    for each in found:
        box = each.box or ("",) * 4
        upright = "yes" if each.upright else "no" if each.face_file else ""
        rows.append([each.file_name, each.outcome, each.faces, *box, upright, each.face_file])
    write_text(target / REPORT, _csv(COLUMNS, rows))


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _tables(source: Path, target: Path, found: dict[str, Outcome]) -> int:
    """Write the tables of the input with the faces' names, every other column as it was; return the rows left out."""
    left = 0
    for file in _metadata(source):
        place = file.parent.relative_to(source)
        rows, header = [], None
        for _, cells in table(file, ("file_name",)):
            header = header or list(cells)
            outcome = found[(place / cells["file_name"]).as_posix()]
            if not outcome.face_file:
                left += 1
                continue
            face = Path(outcome.face_file).relative_to(place).as_posix()
            rows.append([face if name == "file_name" else cells[name] for name in header])
        if header is not None:
            write_text(target / place / METADATA, _csv(header, rows))
    return left


def _tell(found: Sequence[Outcome], left: int, target: Path, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    taken = [each for each in found if each.face_file]
    say(
        f"{len(taken)} faces of {len(found)} pictures, {sum(each.upright for each in taken)} with their eyes made level"
    )
    kinds = Counter(each.outcome.partition(":")[0] for each in found if each.outcome != FOUND)
    for kind, many in kinds.most_common():
        names = [each.file_name for each in found if each.outcome.partition(":")[0] == kind]
        say(f"{kind}: {many}, such as {', '.join(names[:3])}")
    more = sum(each.faces > 1 for each in taken)
    if more:
        say(f"{more} pictures have several faces; the largest was taken")
    if left:
        say(f"{left} rows of {METADATA} have no face and are not in the new one")
    say(f"what became of every picture: {target / REPORT}")
