"""Sets of posed faces whose file names tell everything: KDEF, RaFD, FACES, NimStim, MUG.

One :class:`Naming` a set: the pattern of its names, its codes of expressions, and what the other parts mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fer_models.errors import ConfigError
from fer_models.labels import TWO_LETTER_CODES
from fer_models.readers.listing import OTHER_NAME, Listing, coded, reading, require_choice
from fer_models.readers.people import RAFD_AGE, RAFD_ETHNICITY, SEX_LETTERS, SEX_WORDS

SECOND = "second file of the same picture"
CALM = "calm face, which is no expression"


@dataclass(frozen=True)
class Naming:
    """How a set names its files.

    Attributes
    ----------
    title : of the set.
    pattern : of a whole file name, any case, with the parts ``subject`` and ``expression``.
    codes : part ``expression`` -> class.
    groups : column -> part of the pattern and its table.
    subject : parts that name a person together.
    same : parts whose equality makes two files the same picture; none are compared where empty.
    """

    title: str
    pattern: re.Pattern[str]
    codes: Mapping[str, str]
    groups: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    subject: tuple[str, ...] = ("subject",)
    same: tuple[str, ...] = ()


def _letters(*codes: str) -> dict[str, str]:
    return {code: TWO_LETTER_CODES[code] for code in codes}


def _naming(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


KDEF_ANGLES = {
    "S": "frontal",
    "HL": "half left",
    "HR": "half right",
    "FL": "full left",
    "FR": "full right",
}
KDEF = Naming(
    "KDEF",
    _naming(
        r"[AB](?P<sex>[FM])(?P<subject>\d\d)(?P<expression>[A-Z]{2})(?P<angle>S|HL|HR|FL|FR)\.(jpe?g|png)"
    ),
    _letters("AF", "AN", "DI", "HA", "NE", "SA", "SU"),
    {"gender": ("sex", SEX_LETTERS), "angle": ("angle", KDEF_ANGLES)},
    ("sex", "subject"),  # F01 and M01 are two people, A and B two sessions of one
)

RAFD_ANGLES = {
    "000": "camera 0",
    "045": "camera 45",
    "090": "frontal",
    "135": "camera 135",
    "180": "camera 180",
}
RAFD_CODES = {
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprised": "surprise",
}
GAZES = {gaze: gaze for gaze in ("frontal", "left", "right")}
RAFD = Naming(
    "RaFD",
    _naming(
        r"Rafd(?P<angle>\d{3})_(?P<subject>\d\d)_(?P<kind>[A-Z]+)_(?P<sex>[A-Z]+)_(?P<expression>[A-Z]+)"
        r"_(?P<gaze>[A-Z]+)\.jpe?g"
    ),
    RAFD_CODES,
    {
        "gender": ("sex", SEX_WORDS),
        "ethnicity": ("kind", RAFD_ETHNICITY),
        "age": ("kind", RAFD_AGE),
        "angle": ("angle", RAFD_ANGLES),
        "gaze": ("gaze", GAZES),
    },
)

FACES_CODES = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "s": "sadness",
}
FACES_AGES = {"y": "young", "m": "middle-aged", "o": "old"}
FACES = Naming(
    "FACES",
    _naming(r"(?P<subject>\d{3})_(?P<age>[a-z])_(?P<sex>[a-z])_(?P<expression>[a-z])_[a-z]\.jpe?g"),
    FACES_CODES,
    {"gender": ("sex", SEX_LETTERS), "age": ("age", FACES_AGES)},
)

MOUTHS = {"O": "open", "C": "closed", "X": "exuberant"}
NIMSTIM = Naming(
    "NimStim",
    _naming(
        r"(?P<subject>\d\d)(?P<sex>[FM])_(?P<expression>[A-Z]{2})_.?(?P<mouth>[A-Z])\.(bmp|jpe?g|png|tiff?)"
    ),
    {**_letters("AN", "DI", "FE", "HA", "NE", "SA", "SP"), "CA": "neutral"},
    {"gender": ("sex", SEX_LETTERS), "mouth": ("mouth", MOUTHS)},
    same=("subject", "expression", "mouth"),
)

MUG = Naming(
    "MUG",
    _naming(r"(?P<subject>\d{3})_(?P<expression>[a-z]{2})_\d{3}_\d{4}\.jpe?g"),
    _letters("AN", "DI", "FE", "HA", "NE", "SA", "SU"),
)


def listed(root: Path, naming: Naming, wanted: Callable[[dict[str, str]], str] | None = None) -> Listing:
    """List the pictures below a folder by their names.

    Parameters
    ----------
    wanted : the parts of a name -> why its picture is left out, empty to keep it.

    Raises
    ------
    DataError : a name of the set's form holds an unknown code.
    """
    listing = Listing(naming.title, root)
    seen: set[tuple[str, ...]] = set()
    # A code is looked up as the table spells it, and file names come in either case.
    cased = {code.lower(): name for code, name in naming.codes.items()}
    for path in listing.pictures_in(root.rglob("*")):
        match = naming.pattern.fullmatch(path.name)
        if match is None:
            listing.skip(OTHER_NAME)
            continue
        parts = {name: part.lower() for name, part in match.groupdict().items()}
        expression = coded(cased, parts["expression"], "expression", where=str(path))
        groups = {column: _group(column, told, parts, path) for column, told in naming.groups.items()}
        key = tuple(parts[name] for name in naming.same)
        reason = SECOND if naming.same and key in seen else wanted(parts) if wanted else ""
        seen.add(key)
        if reason:
            listing.skip(reason)
        else:
            subject = "".join(parts[name] for name in naming.subject).upper()
            listing.add(path, expression, subject=subject, groups=groups)
    return listing


def _group(column: str, told: tuple[str, Mapping[str, str]], parts: Mapping[str, str], path: Path) -> str:
    part, table = told
    return coded({code.lower(): value for code, value in table.items()}, parts[part], column, where=str(path))


def _only(column: str, table: Mapping[str, str], chosen: Sequence[str]) -> Callable[[dict[str, str]], str]:
    """Return what keeps pictures whose part of that name stands for one of the chosen values."""
    strange = [value for value in chosen if value not in table.values()]
    if strange or not chosen:
        option, known = f"{column}s", ", ".join(table.values())
        raise ConfigError(f"{option} are {list(chosen)}", where=option, cure=f"Name some of {known}.")
    lowered = {code.lower(): value for code, value in table.items()}

    def reason(parts: dict[str, str]) -> str:
        value = lowered[parts[column]]
        return "" if value in chosen else f"{column} not asked for: {value}"

    return reason


def list_kdef(root: Path, *, angles: Sequence[str] = ("frontal",)) -> Listing:
    """List KDEF: ``AF01ANS.JPG`` is session A, female 01, angry, straight.

    Parameters
    ----------
    angles : of :data:`KDEF_ANGLES`; the other pictures are left out and counted.
    """
    return listed(root, KDEF, _only("angle", KDEF_ANGLES, angles))


def list_rafd(root: Path, *, angles: Sequence[str] = ("frontal",)) -> Listing:
    """List RaFD: ``Rafd090_01_Caucasian_female_angry_frontal.jpg`` is camera, person, group, sex, expression, gaze.

    The third word mixes ethnicity and age: the children of RaFD are Caucasian.

    Parameters
    ----------
    angles : of :data:`RAFD_ANGLES`; the other pictures are left out and counted.
    """
    return listed(root, RAFD, _only("angle", RAFD_ANGLES, angles))


def list_faces_mpi(root: Path) -> Listing:
    """List FACES: ``004_o_m_a_b.jpg`` is person, age group, sex, expression, set."""
    return listed(root, FACES)


def list_nimstim(root: Path, *, calm: str = "leave_out") -> Listing:
    """List NimStim: ``01F_AN_C.BMP`` is person and sex, expression, mouth.

    Parameters
    ----------
    calm : ``leave_out`` counts the calm faces and leaves them out, ``neutral`` takes them as neutral.
    """
    require_choice("calm", calm, ("leave_out", "neutral"))

    def reason(parts: dict[str, str]) -> str:
        return CALM if parts["expression"] == "ca" and calm == "leave_out" else ""

    return listed(root, NIMSTIM, reason)


def list_mug(root: Path) -> Listing:
    """List MUG's manually annotated pictures, ``manual/images``: ``001_an_001_0056.jpg``."""
    return listed(root, MUG)


read_kdef = reading(list_kdef)
read_rafd = reading(list_rafd)
read_faces_mpi = reading(list_faces_mpi)
read_nimstim = reading(list_nimstim)
read_mug = reading(list_mug)
