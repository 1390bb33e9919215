"""Headings of a PDF: its bookmarks say on which page chapters begin, and their titles are searched on that page."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import pypdfium2

from workers.retrieval.documents.headings import heading_path, title_of
from workers.retrieval.ports import Section

_MOST: Final = 10_000
# On the page, '4.1 ' or 'Chapter 4: ' may precede the title.
_NUMBERING_CHARS: Final = 14
_SIGNS: Final = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A title with its 0-based page and its nesting level."""

    page: int
    level: int
    title: str


def read_bookmarks(document: pypdfium2.PdfDocument) -> list[Bookmark]:
    """The bookmarks in order; none if they are damaged, since the text can be read without them."""
    try:
        return list(islice(_bookmarks(document), _MOST))
    except (pypdfium2.PdfiumError, ValueError, RecursionError):
        return []


def cut_pages(pages: Sequence[str], bookmarks: Sequence[Bookmark]) -> list[Section]:
    """Divide pages into sections: one for each page that has text, or several if chapters begin within a page.

    The section of a title that is not found on its page (it spans two lines, or is a picture) begins at the previous
    title.
    """
    by_page: defaultdict[int, list[Bookmark]] = defaultdict(list)
    for bookmark in bookmarks:
        by_page[bookmark.page].append(bookmark)
    sections: list[Section] = []
    above: list[tuple[int, str]] = []

    def close(number: int, lines: Sequence[str]) -> None:
        if text := "\n".join(lines).strip("\n"):
            sections.append(Section(text, number + 1, heading_path(*(title for _, title in above))))

    for number, page in enumerate(pages):
        lines = page.split("\n")
        start = 0
        for bookmark in by_page[number]:
            title, at = bookmark.title, _find(lines, start, bookmark.title)
            if at is not None:
                close(number, lines[start:at])
                title, start = lines[at], at
                lines[at] += "\n"  # a blank line below the heading
            above = [each for each in above if each[0] < bookmark.level]
            above.append((bookmark.level, title))
        close(number, lines[start:])
    return sections


def _bookmarks(document: pypdfium2.PdfDocument) -> Iterator[Bookmark]:
    for entry in document.get_toc():
        title = title_of(entry.get_title())
        target = entry.get_dest()
        page = target.get_index() if target else None
        if title and page is not None:
            yield Bookmark(page, entry.level, title)


def _find(lines: Sequence[str], start: int, title: str) -> int | None:
    """The line that is this title, with or without a number; punctuation and case are ignored."""
    wanted = _letters(title)
    for at in range(start, len(lines)):
        line = lines[at]
        if len(line) <= len(title) + _NUMBERING_CHARS and wanted and _letters(line).endswith(wanted):
            return at
    return None


def _letters(text: str) -> str:
    return _SIGNS.sub("", text).casefold()
