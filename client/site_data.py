"""Which pictures a site holds: the mapping that ``fedfer site init`` writes, and reading by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.reading import read_yaml
from client.strict import nearest, parse, require
from fer_models.errors import DataError
from fer_models.readers import names, options_of, read
from fer_models.samples import Samples
from fer_models.splits import WAYS, divided

REHEARSAL = "rehearsal"
"""The reader of what ``fedfer data deal`` has dealt out: pictures and randomness of a simulated site."""

TEMPLATE = """\
# Which pictures this site holds, and how they are read; docs/data.md describes the layouts.
# fer2013, imagefolder or classfolders; rehearsal reads what fedfer data deal has dealt out.
reader: {reader}
# The folder of the pictures, from here or from the root of the disk.
root: {root}
# Height and width in pixels, and channels (1 gray, 3 colour), as the plan's net takes them.
size: 48
channels: 1
# The classes, in the order that all sites agree on; [] takes those that are found.
labels: []
# The test part: official (the data set's own), holdout (held out: whole people, no copy on both sides), or auto
# (official where there is one); and the share that is held out. Once you have taken part in a run, leave these two as
# they are: else pictures that were trained on become test pictures.
split: auto
test: 0.2
# true tells nobody's group: nobody can see that you do not.
opted_out: false
# Options of the reader, such as subject: patient.
options: {{}}
"""
"""The mapping that ``fedfer site init`` writes."""


@dataclass(frozen=True)
class DataMap:
    """What ``data.yaml`` says; see :data:`TEMPLATE`."""

    reader: str
    root: str
    size: int
    channels: int
    labels: tuple[str, ...]
    split: str
    test: float
    opted_out: bool
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        known = [*names(), REHEARSAL]
        require(
            self.reader in known,
            f"unknown reader {self.reader!r}",
            "data.reader",
            nearest(self.reader, known),
        )
        require(self.split in WAYS, f"unknown split {self.split!r}", "data.split", nearest(self.split, WAYS))
        own = options_of(self.reader) if self.reader in names() else ()
        for name in self.options:
            cure = nearest(name, own) if own else "Leave options empty."
            require(name in own, f"unknown option {name!r}", "data.options", cure)


@dataclass(frozen=True)
class Held:
    """What a site holds.

    Attributes
    ----------
    samples : its pictures, each in a split.
    opted_out : it tells nobody's group.
    seed : of a made-up site's randomness, None at a real one.
    """

    samples: Samples
    opted_out: bool
    seed: int | None

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of training pictures and of test pictures."""
        return len(self.samples.rows("train")), len(self.samples.rows("test"))


def read_data(path: Path) -> Held:
    """Return the pictures that a mapping names.

    Parameters
    ----------
    path : the file ``data.yaml``; a relative root starts at its folder.

    Raises
    ------
    ConfigError : the mapping cannot be read.
    DataError : the pictures cannot.
    """
    cure = "Write it anew with fedfer site init in another folder."
    mapping = parse(DataMap, read_yaml(path, cure), path.name)
    root = path.parent / Path(mapping.root).expanduser()
    seed = None
    if mapping.reader == REHEARSAL:
        seed, found = _dealt(root)
    else:
        known = options_of(mapping.reader)
        given = {"size": mapping.size, "channels": mapping.channels, "labels": mapping.labels or None}
        options = {name: value for name, value in given.items() if name in known and value is not None}
        found = read(mapping.reader, root, **options, **mapping.options)
        found = divided(found, mapping.split, mapping.test, seed=0)
    return Held(found, mapping.opted_out, seed)


def _dealt(root: Path) -> tuple[int, Samples]:
    """Return the seed and the pictures of a folder that ``fedfer data deal`` wrote for one site."""
    try:
        seed = json.loads((root / "rehearsal.json").read_text())["seed"]
        if type(seed) is not int:
            raise ValueError(seed)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "no pictures for a rehearsal",
            where=str(root),
            cure="Give a site's folder of fedfer data deal, or another reader.",
        ) from error
    return seed, Samples.load(root)
