"""Document to chunks: passages that a search finds and an embedding model takes in whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from workers.retrieval.ports import Chunk, Document, Section

# MiniLM reads 256 word pieces and drops the rest. At 800 characters prose has 130 pieces (95 % below 160) and
# technical Markdown 180 (95 % below 250); at 1,000 two fifths of the latter would be cut.
MAX_CHARS: Final = 800
OVERLAP_CHARS: Final = 100

_BETWEEN: Final = "\n\n"
# A section below an eighth of a chunk (a dozen words: a slide, a heading, a short answer) is too little for a
# vector to hold on to, and crowds out whole passages. It is joined with what follows; the texts of both stay.
_TINY: Final = 8
# The splitter's time grows with the square of a text without spaces or full stops: 90 s for a megabyte of Chinese.
# In windows of this size it is 2 s.
_WINDOW_CHARS: Final = 20_000
_WORDS: Final = re.compile(r"[\W_]+")
_LONGEST_TITLE: Final = 80


def document_text(document: Document) -> str:
    """The text that chunks' offsets count in."""
    return _BETWEEN.join(section.text for section in document.sections)


def chunk_document(
    document: Document, *, max_chars: int = MAX_CHARS, overlap_chars: int = OVERLAP_CHARS
) -> list[Chunk]:
    """Cut a document at its sections, then at paragraphs, sentences and words, whatever is largest and fits.

    A chunk lies in one page and under one heading, except where tiny sections are joined. A section's heading stays
    with the beginning of its text. The splitter lets other threads run: call this in one for a large document.

    Args:
        document: what was read, with whitespace as the reader leaves it; the splitter is slow on runs of empty lines.
        max_chars: of a chunk.
        overlap_chars: at most so much of a chunk's end is repeated in the next one of the same section, in whole
            sentences or words.

    Raises:
        ValueError: sizes that cannot be kept.
    """
    if not 0 <= overlap_chars <= max_chars // 2:
        raise ValueError(f"overlap_chars={overlap_chars!r} must be between 0 and half of max_chars={max_chars!r}")
    chunks: list[Chunk] = []
    for passage in _passages(document.sections, max_chars):
        for start, end in _cuts(passage, max_chars, overlap_chars):
            text = passage.text[start:end]
            at = passage.start + start
            chunks.append(Chunk(len(chunks), text, at, at + len(text), passage.page, passage.heading))
    return chunks


def embedded_text(chunk: Chunk, name: str) -> str:
    """A chunk as it goes into the embedding model: below the document's name and the headings above it.

    'It must be renewed each year' says little; below 'staff handbook > Passports' it is found. Headings with which
    the chunk itself begins are not repeated.
    """
    parts = [_title(name), *(chunk.heading or "").split(" > ")]
    above = " > ".join(part for part in parts if part and not chunk.text.startswith(part))
    return f"{above}\n{chunk.text}" if above else chunk.text


@dataclass(frozen=True, slots=True)
class _Passage:
    """Sections that are cut together; `start` is where they begin in the document's text."""

    start: int
    text: str
    page: int | None
    heading: str | None


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

    The headings at the beginning are set aside and put back before the first chunk: the splitter would make them a
    chunk of their own wherever the first paragraph fills one. The other chunks stay as much shorter, and
    `embedded_text` fills that room with the same headings.
    """
    from semantic_text_splitter import TextSplitter  # noqa: PLC0415

    lead = _lead(passage)
    lead = lead if lead <= max_chars // 2 else 0
    room = max_chars - lead
    splitter = TextSplitter(room, overlap=min(overlap_chars, room // 2))
    first = True
    for start, window in _windows(passage.text, lead):
        for offset, text in splitter.chunk_indices(window):
            yield (0 if first and lead else start + offset), start + offset + len(text)
            first = False
    if first and lead:
        yield 0, len(passage.text[:lead].rstrip())


def _lead(passage: _Passage) -> int:
    """How long the headings are with which a passage begins, with the blank line behind them."""
    headings = set((passage.heading or "").split(" > "))
    length = 0
    for block in passage.text.split(_BETWEEN)[: len(headings)]:
        if block not in headings:
            break
        length += len(block) + len(_BETWEEN)
    return min(length, len(passage.text))


def _windows(text: str, start: int) -> Iterator[tuple[int, str]]:
    """The text from `start` on in pieces that the splitter takes quickly, cut where it would cut too."""
    while start < len(text):
        end = start + _WINDOW_CHARS
        if end < len(text):
            half = start + _WINDOW_CHARS // 2
            cuts = (text.rfind(between, half, end) for between in ("\n\n", "\n", ". ", " "))
            end = next((cut + 1 for cut in cuts if cut > 0), end)
        yield start, text[start:end]
        start = end


def _title(name: str) -> str:
    """A document's name as words: 'https://example.org/staff_handbook.pdf' is 'staff handbook'."""
    stem = PurePosixPath(name.partition("?")[0]).stem
    words = " ".join(_WORDS.sub(" ", stem).split())
    return words if len(words) <= _LONGEST_TITLE and any(letter.isalpha() for letter in words) else ""
