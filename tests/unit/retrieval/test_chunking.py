"""Chunks: exact offsets, sections kept apart, headings kept with their text."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.retrieval.chunking import MAX_CHARS, chunk_document, document_text, embedded_text
from workers.retrieval.ports import Chunk, Document, PieceLimit, Section

SENTENCE = "The quick brown fox jumps over the lazy dog near the old mill. "

texts = st.text(st.sampled_from("ab é中\n\n.\U0001f600\u0301  "), min_size=1, max_size=400).filter(str.strip)
sections = st.builds(
    Section, texts, page=st.none() | st.integers(1, 3), heading=st.sampled_from([None, "a", "a > b", "ab"])
)


@given(st.lists(sections, max_size=8), st.integers(20, 200), st.integers(0, 10))
@settings(max_examples=150, deadline=None)
def test_offsets_are_exact_and_no_text_is_lost(parts: list[Section], max_chars: int, overlap: int) -> None:
    """A hit's offsets point at its text; everything but whitespace is in some chunk."""
    document = Document("text", parts)
    text = document_text(document)
    chunks = chunk_document(document, max_chars=max_chars, overlap_chars=overlap)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    covered = set()
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert 0 < len(chunk.text) <= max_chars
        covered.update(range(chunk.start, chunk.end))
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)


@given(st.lists(sections, max_size=8))
@settings(max_examples=50, deadline=None)
def test_page_and_heading_are_those_of_where_a_chunk_begins(parts: list[Section]) -> None:
    """A citation leads to the right page."""
    document = Document("text", parts)
    for chunk in chunk_document(document, max_chars=60, overlap_chars=5):
        end = 0
        for part in parts:
            end += len(part.text) + 2
            if chunk.start < end:
                assert (chunk.page, chunk.heading) == (part.page, part.heading)
                break


def test_a_chunk_does_not_span_two_pages() -> None:
    """Two pages are never joined, even if both would fit into one chunk."""
    document = Document("pdf", [Section(SENTENCE * 3, page=1), Section(SENTENCE * 3, page=2)], 2)
    assert [chunk.page for chunk in chunk_document(document)] == [1, 2]


def test_tiny_sections_are_joined() -> None:
    """Slides of three words make one passage instead of ten; all of their words stay."""
    document = Document("pdf", [Section(f"Slide {number} here", page=number) for number in range(1, 9)], 8)
    chunks = chunk_document(document)
    assert len(chunks) < 4
    assert "\n\n".join(chunk.text for chunk in chunks) == document_text(document)


def test_a_heading_stays_with_the_paragraph_below_it() -> None:
    """A chunk that is a heading alone would win searches and answer nothing."""
    paragraph = SENTENCE * (MAX_CHARS // len(SENTENCE))
    document = Document("markdown", [Section(f"Mills\n\nOld\n\n{paragraph}\n\n{paragraph}", heading="Mills > Old")])
    chunks = chunk_document(document)
    assert chunks[0].text.startswith("Mills\n\nOld\n\nThe quick")
    assert max(len(chunk.text) for chunk in chunks) <= MAX_CHARS


def test_neighbours_overlap_by_whole_words() -> None:
    """A sentence at a boundary is whole in one of the two chunks."""
    chunks = chunk_document(Document("text", [Section(SENTENCE * 40)]), max_chars=300, overlap_chars=80)
    for before, after in pairwise(chunks):
        assert 0 < before.end - after.start <= 80
        assert after.text.startswith("The quick")


@pytest.mark.parametrize(("size", "overlap"), [(100, 51), (100, -1), (0, 1)])
def test_sizes_that_cannot_be_kept_are_refused(size: int, overlap: int) -> None:
    """Otherwise the chunker would loop or cut elsewhere."""
    with pytest.raises(ValueError, match="overlap_chars"):
        chunk_document(Document("text", [Section("x")]), max_chars=size, overlap_chars=overlap)


@pytest.mark.parametrize("text", ["a" * 400_000, "\u4e2d\u6587\u5b57" * 130_000])
def test_odd_texts_do_not_take_for_ever(text: str) -> None:
    """Neither spaces nor full stops: without windows the second takes 18 s, with them one."""
    began = time.process_time()
    chunk_document(Document("text", [Section(text)]))
    assert time.process_time() - began < 6


def test_what_is_embedded_names_document_and_headings() -> None:
    """'It must be renewed each year' is found by its subject."""
    chunk = Chunk(0, "It must be renewed.", 0, 19, heading="Travel > Passports")
    assert embedded_text(chunk, "staff_handbook-2024.pdf") == (
        "staff handbook 2024 > Travel > Passports\nIt must be renewed."
    )
    assert embedded_text(chunk, "https://example.org/a/guide.html?token=secret").startswith("guide > Travel")


def test_what_is_embedded_repeats_no_heading() -> None:
    """A chunk that begins with its heading already has it; a text without name or heading stays as it is."""
    chunk = Chunk(0, "Passports\n\nIt must be renewed.", 0, 30, heading="Travel > Passports")
    assert embedded_text(chunk, "") == f"Travel\n{chunk.text}"
    assert embedded_text(Chunk(0, "x", 0, 1), "") == "x"
    assert embedded_text(Chunk(0, "x", 0, 1), "x" * 200) == "x"


def letters(most: int) -> PieceLimit:
    """A model that reads Chinese sign by sign, and four letters of other scripts at a time."""
    return PieceLimit(most, lambda text: sum(4 if sign > "\u2e80" else 1 for sign in text) // 4)


@pytest.mark.parametrize(
    "text",
    [
        "合同的通知期为一个月。" * 200,
        "合" * 3000,
        SENTENCE * 30 + "\n\n" + "合同的通知期为一个月。" * 100 + "\n\n" + SENTENCE * 30,
    ],
)
def test_a_chunk_is_no_longer_than_what_the_model_reads(text: str) -> None:
    """Also next to prose of which it reads more, and under headings, which are embedded with it."""
    section = Section(text, heading="Verträge > 通知期")
    limit = letters(250)
    chunks = chunk_document(Document("text", [section]), limit=limit, name="handbook.md")
    assert all(limit.count(embedded_text(chunk, "handbook.md")) <= 250 for chunk in chunks)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)
    assert len(chunks) < len(text) / 100


def test_prose_that_the_model_reads_whole_is_cut_by_characters() -> None:
    """A limit changes nothing for it."""
    document = Document("text", [Section(SENTENCE * 40)])
    assert chunk_document(document, limit=letters(250)) == chunk_document(document)
