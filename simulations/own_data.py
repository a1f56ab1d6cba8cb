"""One's own pictures: ``fedfer data template DIR`` writes a folder to fill, ``fedfer data validate DIR`` corrects it.

A reader stops at the first mistake. The validator goes on, and tells every row that a reader would refuse, each with
its line and its cure, so that a table is corrected in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from fer_models.errors import ConfigError, DataError, RunFolderError
from fer_models.labels import EXPRESSIONS, canonical
from fer_models.readers.groups import BANDS, USUAL_GROUPS, group_column
from fer_models.readers.imagefolder import METADATA, metadata_files
from fer_models.readers.pictures import decode
from fer_models.readers.tables import existing, inside, table
from fer_models.samples import split_name

MOST_SHOWN = 50
"""Mistakes that are printed; the others are counted."""

TEMPLATE = """\
file_name,label,subject,gender,age,ethnicity,split
images/0001.png,neutral,person-1,female,24,white,
images/0002.jpg,happiness,person-1,female,24,white,
images/0003.jpg,anger,person-2,,,,
"""

README = f"""\
Put your pictures into images/ and write one row a picture into {METADATA}; the three rows there are examples.

file_name   path below this folder, such as images/0001.png. Crop faces beforehand: the central square is read
label       one of {", ".join(EXPRESSIONS)}; happy, sad, angry and the like are understood
subject     any name for the person, the same for all of a person's pictures. With it nobody is trained on and tested
gender, age, ethnicity
            what people told of themselves. Leave the cell empty where they did not: never guess from a face.
            Ages are years. Other columns of groups may be added and named in data.options.groups
split       train, validation or test; leave it empty and a test part of whole people is drawn

Leave columns out that you do not have; only file_name and label must be there. Then look at what you have:

fedfer data validate DIR
fedfer data check data=imagefolder data.root=DIR data.split=holdout
"""


def write_template(words: list[str], console: Console) -> None:
    """Write a folder to fill: ``metadata.csv``, ``README.txt`` and ``images/``.

    Raises
    ------
    ConfigError : no folder, or more than one word.
    RunFolderError : the folder has a table already, or cannot be written.
    """
    folder = _folder(words, "template")
    if (folder / METADATA).exists():
        cure = "Name a new folder; the table there is kept as it is."
        raise RunFolderError(f"the folder has a {METADATA}", where=str(folder), cure=cure)
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / METADATA).write_text(TEMPLATE)
        (folder / "README.txt").write_text(README)
    except OSError as error:
        cure = "Free disk space or choose another folder."
        raise RunFolderError(
            f"cannot write the template: {error.strerror}", where=str(folder), cure=cure
        ) from error
    console.print(
        f"{folder / METADATA}: replace the example rows, as {folder / 'README.txt'} says", markup=False
    )


def validate(words: list[str], console: Console) -> int:
    """Print every row that would be refused; return how many mistakes there are.

    Raises
    ------
    ConfigError : no folder, or more than one word.
    DataError : there is no table, or its header is wrong.
    """
    folder = existing(_folder(words, "validate"), cure="Name the folder that holds metadata.csv.")
    rows, mistakes = 0, 0
    for file, _ in metadata_files(folder):
        seen: dict[str, int] = {}
        for line, cells in table(file, ("file_name", "label")):
            rows += 1
            for error in _mistakes(file, line, cells, seen):
                mistakes += 1
                if mistakes <= MOST_SHOWN:
                    console.print(
                        f"[bold red]line {line}[/]: {escape(f'{error.what}. {error.cure}')}", soft_wrap=True
                    )
    if mistakes > MOST_SHOWN:
        console.print(f"and {mistakes - MOST_SHOWN} more")
    found = "nothing to correct" if not mistakes else f"{mistakes} to correct"
    console.print(f"{rows} rows, {found}", highlight=False)
    return mistakes


def _folder(words: list[str], verb: str) -> Path:
    if len(words) != 1 or "=" in words[0]:
        raise ConfigError(
            f"data {verb} needs one folder", where="command line", cure=f"Write: fedfer data {verb} DIR."
        )
    return Path(words[0]).expanduser()


def _mistakes(file: Path, line: int, cells: dict[str, str], seen: dict[str, int]) -> Iterator[DataError]:
    """Everything that is wrong with one row."""
    where = f"{file}:{line}"
    name = cells["file_name"]
    if name in seen:
        yield DataError(
            f"{name} stands in line {seen[name]} already", where=where, cure="Remove one of the rows."
        )
    seen.setdefault(name, line)
    checks = [
        lambda: decode(file.parent / inside(name, where=where), 8, 1),
        lambda: canonical(cells["label"], where=where),
        lambda: split_name(cells["split"], where=where) if cells.get("split") else None,
    ]
    checks += [
        lambda c=column: group_column(c, [cells[c]], BANDS.get(c, ()), [where])
        for column in USUAL_GROUPS
        if column in cells
    ]
    for check in checks:
        try:
            check()
        except DataError as error:
            yield error
