"""What the documents point to: every link and picture is there, and every page of results names its commands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *RESULTS]


def anchors(document):
    """The anchors that the headings of a document make, as GitHub does."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links():
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not target.startswith(("https://", "mailto:")):
                yield document, target


@pytest.mark.parametrize(
    ("document", "target"), [pytest.param(*each, id=f"{each[0].name}: {each[1]}") for each in links()]
)
def test_links_lead_somewhere(document, target):
    name, _, anchor = target.partition("#")
    found = (document.parent / name).resolve() if name else document
    assert found.is_file()
    assert found.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(found)


def test_every_document_is_in_the_index():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]) for document, target in links() if document == index}
    assert {path for path in DOCUMENTS if path not in (index, ROOT / "README.md")} <= linked


PICTURES = [
    path
    for folder in ("pictures", "results")
    for path in (ROOT / "docs" / folder).glob("*")
    if path.suffix in (".svg", ".png")
]


def test_pictures_are_small_and_shown():
    shown = {(document.parent / target).resolve() for document, target in links()}
    assert len(PICTURES) > 5
    for path in PICTURES:
        assert path.stat().st_size < 300_000
        assert path in shown


@pytest.mark.parametrize("document", [pytest.param(path, id=path.name) for path in RESULTS])
def test_results_name_the_commands_that_make_them(document):
    """A command stands above the first table and picture; tests/test_docs.py reads them all."""
    text = document.read_text()
    first = re.search(r"^(\||!\[)", text, re.MULTILINE)
    assert "\nfedfer " in text[: first.start() if first else None]
