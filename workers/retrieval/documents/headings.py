"""What the readers have in common about headings: the path of those above a text, and the longest title."""

from __future__ import annotations

from typing import Final

from workers.retrieval.documents.plain import one_line

LONGEST_TITLE: Final = 200
"""Characters of a title; it is repeated above each passage."""


def heading_path(*headings: str | None) -> str | None:
    """The headings above a text, the outermost one first: 'Travel > Passports'. None if there are none."""
    return " > ".join(filter(None, headings)) or None


def title_of(text: str) -> str | None:
    """A document's title in one line, of limited length; None if it has none."""
    return one_line(text)[:LONGEST_TITLE] or None
