"""Bring a data set of your own form to a site: here arrays in one file, as a lab's own tool may leave them.

A site reads pictures by a mapping, ``data.yaml``. Whatever your pictures lie in, write them once as files and a table;
all checks, splits and audits then work as for any other set. Run it in an empty folder::

    python own_site.py
    fedfer data validate ward
    fedfer data check data=imagefolder data.root=ward data.split=holdout
    fedfer site init clinic --data ward --name clinic
    fedfer site check clinic
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

EXPRESSIONS = ("neutral", "happiness", "surprise")
PEOPLE, PICTURES = 30, 6


def recorded() -> dict[str, np.ndarray]:
    """Stand in for your own file: gray pictures (N, 48, 48) uint8, which expression, which person, their age."""
    random = np.random.default_rng(0)
    expression = np.tile(np.arange(PICTURES) % len(EXPRESSIONS), PEOPLE)
    pictures = random.integers(0, 120, (len(expression), 48, 48), dtype=np.uint8)
    for picture, which in zip(pictures, expression, strict=True):
        picture[30 : 34 + 3 * which, 14:34] = 230  # a bright bar for a mouth: nobody's face
    person = np.repeat(np.arange(PEOPLE), PICTURES)
    return {
        "pictures": pictures,
        "expression": expression,
        "person": person,
        "age": (20 + 2 * person) % 70 + 18,
    }


def write(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Write pictures and the table ``metadata.csv``; an empty cell is *undisclosed*."""
    (folder / "images").mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "label", "subject", "age"])
        for row, picture in enumerate(arrays["pictures"]):
            name = f"images/{row:04d}.png"
            Image.fromarray(picture).save(folder / name)
            person = arrays["person"][row]
            age = "" if person % 10 == 0 else arrays["age"][row]  # who did not tell
            table.writerow([name, EXPRESSIONS[arrays["expression"][row]], f"person-{person}", age])


write(recorded(), Path("ward"))
