"""Divides documents into chunks: passages that fit into the embedding model's input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from workers.retrieval.ports import Chunk, Document, PieceLimit, Section

# MiniLM reads 256 word pieces and ignores the rest. 800 characters of prose have about 130 pieces (95 % have fewer than
# 160), those of technical Markdown 180 (95 % below 250). At 1,000 characters, two fifths of the latter would be cut.
MAX_CHARS: Final = 800
OVERLAP_CHARS: Final = 100

_BETWEEN: Final = "\n\n"
# A section shorter than an eighth of a chunk (a dozen words: a slide, a heading, a short answer) is too short for a
# meaningful vector, and would crowd out real passages. It is joined with the next section.
_TINY: Final = 8
# The splitter takes quadratic time for text without spaces or full stops: 90 s for a megabyte of Chinese. With windows
# of this size it takes 2 s.
_WINDOW_CHARS: Final = 20_000
_WORDS: Final = re.compile(r"[\W_]+")
_LONGEST_TITLE: Final = 80
_LEAST_CHARS: Final = 80


def document_text(document: Document) -> str:
    """The text to which the offsets of chunks refer."""
    return _BETWEEN.join(section.text for section in document.sections)


def chunk_document(
    document: Document,
    *,
    max_chars: int = MAX_CHARS,
    overlap_chars: int = OVERLAP_CHARS,
    limit: PieceLimit | None = None,
    name: str = "",
) -> list[Chunk]:
    """Divide a document at sections, paragraphs, sentences or words: the largest unit that fits.

    A chunk belongs to one page and one heading, except where tiny sections are joined. A section's heading stays with
    the beginning of its text. The splitter releases the GIL, so call this in a thread for large documents.

    Args:
        document: a parsed document. Its whitespace must be normalized, since the splitter is slow on runs of empty
            lines.
        max_chars: the maximum size of a chunk.
        overlap_chars: how much of a chunk's end may be repeated in the next one of the same section, in whole sentences
            or words.
        limit: how much the embedding model reads; None if that is more than `max_chars` in any language.
        name: the document's name, which is embedded with each chunk.

    Raises:
        ValueError: the sizes do not fit together.
    """
    if not 0 <= overlap_chars <= max_chars // 2:
        raise ValueError(f"overlap_chars={overlap_chars!r} must be between 0 and half of max_chars={max_chars!r}")
    chunks: list[Chunk] = []
    for passage in _passages(document.sections, max_chars):
        room = _Room(passage, limit, name)
        size = room.chars(max_chars)
        for start, end in room.divided(_cuts(passage, size, min(overlap_chars, size // 2))):
            text = passage.text[start:end]
            at = passage.start + start
            chunks.append(Chunk(len(chunks), text, at, at + len(text), passage.page, passage.heading))
    return chunks


def embedded_text(chunk: Chunk, name: str) -> str:
    """The text to embed for a chunk: preceded by the document's name and the headings above the chunk.

    'It must be renewed each year' says little on its own; under 'staff handbook > Passports' it is found. Headings with
    which the chunk itself begins are not repeated.
    """
    above = _above(chunk.heading, chunk.text, name)
    return f"{above}\n{chunk.text}" if above else chunk.text


def _above(heading: str | None, text: str, name: str) -> str:
    parts = [_title(name), *(heading or "").split(" > ")]
    return " > ".join(part for part in parts if part and not text.startswith(part))


@dataclass(frozen=True, slots=True)
class _Passage:
    """Sections that are divided together; `start` is their offset in the document's text."""

    start: int
    text: str
    page: int | None
    heading: str | None


class _Room:
    """How much of a passage fits into a chunk, in the embedding model's word pieces.

    800 Chinese characters are three times what MiniLM reads; the rest would be in no vector.
    """

    def __init__(self, passage: _Passage, limit: PieceLimit | None, name: str) -> None:
        self._text = passage.text
        self._limit = limit
        self._pieces = 0
        if limit is not None:
            above = limit.count(_above(passage.heading, "", name))
            self._pieces = max(limit.most - above, limit.most // 2)

    def chars(self, most: int) -> int:
        """The size of chunks in characters: what fits on average, with a tenth to spare, and `most` at most."""
        sample = self._text[:_WINDOW_CHARS]
        if self._limit is None or not sample or not (pieces := self._limit.count(sample)):
            return most
        return min(most, max(_LEAST_CHARS, int(0.9 * self._pieces * len(sample) / pieces)))

    def divided(self, cuts: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The cuts, of which those are divided that do not fit, such as a table or code between prose."""
        for start, end in cuts:
            pieces = 0 if self._limit is None else self._limit.count(self._text[start:end])
            if pieces <= self._pieces or end - start <= _LEAST_CHARS:
                yield start, end
                continue
            size = max(_LEAST_CHARS // 2, int(0.9 * self._pieces * (end - start) / pieces))
            yield from self.divided(_split(self._text[start:end], start, size))


def _split(text: str, start: int, size: int, overlap: int = 0) -> Iterator[tuple[int, int]]:
    """Where the parts of a text begin and end that itself begins at `start`."""
    from semantic_text_splitter import TextSplitter  # noqa: PLC0415

    for offset, part in TextSplitter(size, overlap=overlap).chunk_indices(text):
        yield start + offset, start + offset + len(part)


def _passages(sections: Sequence[Section], max_chars: int) -> Iterator[_Passage]:
    start = 0
    joined: list[Section] = []
    for section in sections:
        if joined and not _belongs(joined, section, max_chars):
            passage = _join(start, joined)
            yield passage
            start += len(passage.text) + len(_BETWEEN)
            joined = []
        joined.append(section)
    if joined:
        yield _join(start, joined)


def _belongs(joined: Sequence[Section], section: Section, max_chars: int) -> bool:
    last = joined[-1]
    if (last.page, last.heading) == (section.page, section.heading):
        return True
    size = sum(len(each.text) + len(_BETWEEN) for each in joined)
    return size < max_chars // _TINY and size + len(section.text) <= max_chars


def _join(start: int, sections: Sequence[Section]) -> _Passage:
    text = _BETWEEN.join(section.text for section in sections)
    return _Passage(start, text, sections[0].page, sections[0].heading)


def _cuts(passage: _Passage, max_chars: int, overlap_chars: int) -> Iterator[tuple[int, int]]:
    """Where chunks begin and end.

    The headings at the beginning are split off and added to the first chunk, since the splitter would make them a chunk
    of their own if the first paragraph fills one. All chunks are shorter by the length of the headings, because
    `embedded_text` adds them again.
    """
    lead = _lead(passage)
    lead = lead if lead <= max_chars // 2 else 0
    room = max_chars - lead
    first = True
    for at, window in _windows(passage.text, lead):
        for start, end in _split(window, at, room, min(overlap_chars, room // 2)):
            yield (0 if first and lead else start), end
            first = False
    if first and lead:
        yield 0, len(passage.text[:lead].rstrip())


def _lead(passage: _Passage) -> int:
    """The length of the headings at the beginning of a passage, including the blank line after them."""
    headings = set((passage.heading or "").split(" > "))
    length = 0
    for block in passage.text.split(_BETWEEN)[: len(headings)]:
        if block not in headings:
            break
        length += len(block) + len(_BETWEEN)
    return min(length, len(passage.text))


def _windows(text: str, start: int) -> Iterator[tuple[int, str]]:
    """The text from `start` on, in windows that the splitter handles quickly, divided where the splitter would too."""
    while start < len(text):
        end = start + _WINDOW_CHARS
        if end < len(text):
            half = start + _WINDOW_CHARS // 2
            cuts = (text.rfind(between, half, end) for between in ("\n\n", "\n", ". ", "\u3002", " "))
            end = next((cut + 1 for cut in cuts if cut > 0), end)
        yield start, text[start:end]
        start = end


def _title(name: str) -> str:
    """A document's name as words: 'https://example.org/staff_handbook.pdf' becomes 'staff handbook'."""
    stem = PurePosixPath(name.partition("?")[0]).stem
    words = " ".join(_WORDS.sub(" ", stem).split())
    return words if len(words) <= _LONGEST_TITLE and any(letter.isalpha() for letter in words) else ""
