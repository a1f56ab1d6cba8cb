"""The site of the documents: builds without a network, shows what the documents say, and names tests that exist."""

import ast
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
THREATS = (ROOT / "docs" / "threats.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as ``make docs`` does; strict, so that a link that leads nowhere ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def shape(text):
    """How many items, blocks of code, headings, lists and rows a page has."""
    return {tag: len(re.findall(rf"<{tag}[ >]", text)) for tag in ("li", "pre", "h2", "h3", "ol", "ul", "tr")}


def test_every_page_has_the_parts_that_its_document_has(site):
    plain = MarkdownIt("commonmark").enable("table")
    for page in PAGES:
        text = (site / f"{page.stem}.html").read_text()
        article = text.split("<article", 1)[1].split("</article>")[0]
        assert shape(article) == shape(plain.render(page.read_text())), page.name


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.glob("*.html"):
        loads = re.findall(
            r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"([^\"]*)\"", page.read_text()
        )
        assert not [
            each for each in map(html.unescape, loads) if re.match(r"\w+:|//", each) and each[:5] != "data:"
        ]
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:|//)|@import", style.read_text())


@pytest.mark.browser
@pytest.mark.parametrize("page", ["threats", "start"])
def test_axe_finds_nothing(site, axe, page):
    assert axe(site, site / f"{page}.html") == []


# Tests that are named


def named_tests(text=THREATS):
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def test_every_test_that_is_named_exists():
    assert len(named_tests()) >= 40
    secure = named_tests((ROOT / "docs" / "secure-aggregation.md").read_text())
    assert len(secure) >= 8
    for file, name in named_tests() + secure:
        found = {
            node.name
            for node in ast.parse((ROOT / file).read_text()).body
            if isinstance(node, ast.FunctionDef)
        }
        assert name in found, f"a page names {file}::{name}"


def test_every_attack_and_every_sight_names_a_test():
    attacks = THREATS.split("## Attacks")[1].split("## What is assumed")[0]
    rows = [line for line in attacks.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        assert "::test_" in row or row.startswith("| who "), row
