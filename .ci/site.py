"""What mkdocs is told of the documents, which are written as GitHub shows them.

GitHub takes what is indented as far as a list item's text for a part of the item; Python-Markdown wants four spaces,
and a blank line between an item of several paragraphs and the next.
"""

from __future__ import annotations

import re
from typing import Any

ITEM = re.compile(r"^(\s*)([-*]|\d+\.) +(?=\S)")
FENCE = re.compile(r"^\s*(```|~~~)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return "\n".join(widened(markdown.split("\n")))


def widened(lines: list[str]) -> list[str]:
    """Indent what belongs to a list item by four spaces for each level, and part items of several paragraphs."""
    found: list[str] = []
    several = False  # whether the open item has a blank line in it
    levels: list[int] = []  # how far the text of each open item is indented in the source
    fence = ""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        item = None if fence else ITEM.match(line)
        if line.strip() and not fence:
            while levels and indent < levels[-1] and not (item and indent >= levels[-1]):
                levels.pop()
        if item and several and found[-1].strip():
            found.append("")
        several = not item and (several or not line.strip()) and bool(levels)
        shift = 4 * len(levels) - (levels[-1] if levels else 0)
        found.append(" " * shift + line if line.strip() else line)
        if mark := FENCE.match(line):
            fence = "" if fence == mark[1] else fence or mark[1]
        if item:
            levels.append(item.end())
    return found
