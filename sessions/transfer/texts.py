"""The text of a document, put together from its passages."""

from __future__ import annotations

from collections.abc import Iterable

from sessions.transfer.records import PassageRecord


def text_of(passages: Iterable[PassageRecord]) -> str:
    """The text that the passages were cut from: each at its place, and what two of them share only once."""
    pieces: list[str] = []
    length = 0
    for passage in sorted(passages, key=lambda found: (found.start, found.number)):
        if (gap := passage.start - length) > 0:  # the empty line between two sections
            pieces.append("\n" * gap)
        new = passage.text[max(0, -gap) :]
        pieces.append(new)
        length += max(0, gap) + len(new)
    return "".join(pieces)
