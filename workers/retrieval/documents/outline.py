"""Collects a parser's headings and texts into sections."""

from __future__ import annotations

from collections.abc import Sequence

from workers.retrieval.documents.headings import heading_path
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.table import Table, table_lines
from workers.retrieval.ports import Section

_LONGEST_HEADING = 200


class Outline:
    """Receives headings and texts in document order.

    A section's text begins with its own heading, because a heading is often what a question is about. Headings without
    any text can therefore be found as well.
    """

    def __init__(self, limits: DocumentLimits, *, title: str | None = None) -> None:
        self._limits = limits
        self._above: list[tuple[int, str]] = [(0, title)] if title else []
        self._blocks: list[str] = []
        self._bare = False  # the blocks contain headings only
        self._chars = 0
        self._sections: list[Section] = []

    def heading(self, level: int, text: str) -> None:
        """Add a heading; level 1 is outermost. One that is too long for a heading is added as text."""
        if not text or len(text) > _LONGEST_HEADING:
            self.text(text)
            return
        if not (self._bare and self._above[-1][0] < level):
            self._close()
        while self._above and self._above[-1][0] >= level:
            self._above.pop()
        if not (self._above and self._above[-1] == (0, text)):  # a page's title and its first heading are often one
            self._above.append((level, text))
        self.text(text)
        self._bare = True

    def end(self, level: int) -> None:
        """End the text under the headings of this and of deeper levels."""
        if self._above and self._above[-1][0] >= level:
            self._close()
        while self._above and self._above[-1][0] >= level:
            self._above.pop()

    def text(self, text: str) -> None:
        """Add a paragraph, a row or a list item.

        Raises:
            Refusal: the document has too much text.
        """
        if text.strip():
            self._chars += len(text)
            self._limits.check_chars(self._chars)
            self._blocks.append(text)
            self._bare = False

    def table(self, table: Table) -> None:
        """Add a table, so that each of its rows names its columns. Raises the same error as `text`."""
        self.text("\n".join(table_lines(table)))

    def include(self, sections: Sequence[Section]) -> None:
        """Add the sections of an embedded document below the present headings. Raises the same error as `text`."""
        self._close()
        for section in sections:
            self._chars += len(section.text)
            self._limits.check_chars(self._chars)
            heading = heading_path(*(text for _, text in self._above), section.heading)
            self._sections.append(Section(section.text, heading=heading))

    def apart(self, text: str) -> None:
        """Add a section without heading, after which no text may follow. Raises the same error as `text`."""
        self._close()
        self._above = []
        self.text(text)

    def has(self, text: str) -> bool:
        """Whether a text occurs in what was added."""
        return any(text in each for each in self._blocks) or any(text in section.text for section in self._sections)

    def sections(self) -> list[Section]:
        """All sections of the document."""
        self._close()
        return self._sections

    def _close(self) -> None:
        if self._blocks:
            heading = heading_path(*(text for _, text in self._above))
            self._sections.append(Section("\n\n".join(self._blocks), heading=heading))
            self._blocks = []
            self._bare = False
