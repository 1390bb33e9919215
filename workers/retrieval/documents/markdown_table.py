"""Finds tables in the paragraphs of a Markdown text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from workers.retrieval.documents.plain import one_line
from workers.retrieval.documents.table import Table

_RULE: Final = re.compile(r"\s*:?-+:?\s*")
_RULE_CHARS: Final = "|:- \t"
_BAR: Final = re.compile(r"(?<!\\)\|")
BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
"""A line break in HTML, which Markdown has within cells and headings."""


def find_table(lines: Sequence[str]) -> tuple[int, Table] | None:
    """The number of lines above the table, and the table that the other lines of the paragraph make."""
    for number, line in enumerate(lines[1:]):
        if "|" in line and not line.strip(_RULE_CHARS) and all(map(_RULE.fullmatch, rule := _cells(line))):
            header = list(map(_text, _cells(lines[number])))
            if "|" in lines[number] and len(header) == len(rule):
                rows = [list(map(_text, _cells(row))) for row in lines[number + 2 :]]
                return number, Table([header, *rows], header_rows=1 if any(header) else 0)
    return None


def without_comments(text: str) -> str:
    """The text without `<!-- comments -->`."""
    if "<!--" not in text:
        return text
    parts = []
    start = 0
    while (begin := text.find("<!--", start)) >= 0 and (end := text.find("-->", begin)) >= 0:
        parts.append(text[start:begin])
        start = end + 3
    return "".join((*parts, text[start:]))


def _cells(line: str) -> list[str]:
    line = line.strip().removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return _BAR.split(line)


def _text(cell: str) -> str:
    return one_line(without_comments(BREAK.sub(" ", cell.replace("\\|", "|"))))
