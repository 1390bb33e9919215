"""The corpus and the questions of the retrieval benchmark: our own pages, Python's reference, and questions."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pydoc_data.topics import topics

from workers.retrieval.chunking import chunk_document, document_text, embedded_text
from workers.retrieval.ports import Chunk, Document, Section

SET = Path(__file__).parent / "retrieval_set"
PYTHON = "python"
# Shorter topics say next to nothing, and longer ones repeat the others.
TOPIC_CHARS = range(500, 21_000)


@dataclass(frozen=True)
class Page:
    """A document, and its name."""

    name: str
    document: Document


@dataclass(frozen=True)
class Passage:
    """A chunk of a page."""

    page: Page
    chunk: Chunk

    def text(self, *, headed: bool) -> str:
        """The input for the models: under its headings, or alone."""
        return embedded_text(self.chunk, self.page.name) if headed else self.chunk.text


@dataclass(frozen=True)
class Answer:
    """Where a page answers: offsets in its text."""

    page: Page
    start: int
    end: int


@dataclass(frozen=True)
class Question:
    """A question; a passage that contains most of one of its answers should be found."""

    kind: str
    text: str
    answers: tuple[Answer, ...]

    def answered_by(self, passage: Passage) -> bool:
        chunk = passage.chunk
        return any(
            answer.page is passage.page
            and min(answer.end, chunk.end) - max(answer.start, chunk.start) > (answer.end - answer.start) / 2
            for answer in self.answers
        )


@lru_cache
def pages() -> tuple[Page, ...]:
    """Our own, and the topics of the Python that runs this."""
    return (*_own(), *_topics())


def cut(size: int, overlap: int, *, own: bool = False) -> list[Passage]:
    """All pages in passages, or only our own.

    They are shuffled, always in the same way: equal scores are ranked by position, and no page may precede the others.
    """
    passages = [
        Passage(page, chunk)
        for page in (_own() if own else pages())
        for chunk in chunk_document(page.document, max_chars=size, overlap_chars=overlap)
    ]
    random.Random(1).shuffle(passages)
    return passages


@lru_cache
def questions() -> tuple[Question, ...]:
    """All questions that have an answer: another Python may word its reference differently.

    Raises:
        LookupError: one of our pages does not have the answer that `questions.txt` says.
    """
    lines = (SET / "questions.txt").read_text().splitlines()
    asked = [_question(line) for line in lines if line and not line.startswith("#")]
    return tuple(question for question in asked if question.answers)


@lru_cache
def _own() -> tuple[Page, ...]:
    return tuple(_page(path) for path in sorted((SET / "documents").glob("*.md")))


def _page(path: Path) -> Page:
    title, *parts = path.read_text().removeprefix("# ").split("\n## ")
    split = [part.partition("\n") for part in parts]
    sections = [Section(text.strip(), heading=f"{title.strip()} > {heading}") for heading, _, text in split]
    return Page(path.stem, Document("markdown", sections))


def _topics() -> Iterator[Page]:
    for name, text in sorted(topics.items()):
        if len(text) in TOPIC_CHARS:
            heading, _, rest = text.partition("\n")
            yield Page(name, Document("text", [Section(rest.strip("*= \n"), heading=f"Python > {heading}")]))


def _question(line: str) -> Question:
    kind, name, text, phrases = (part.strip() for part in line.split(" | "))
    answers = [answer for phrase in phrases.split(" // ") for answer in _answers(phrase, name)]
    if not answers and kind != PYTHON:
        raise LookupError(f"no page has the answer to {text!r}, though {name!r} should")
    return Question(kind, text, tuple(answers))


def _answers(phrase: str, name: str) -> list[Answer]:
    """On the page of this name, otherwise wherever it is."""
    pattern = re.compile(r"\s+".join(map(re.escape, phrase.split())))
    found = [Answer(page, *hit.span()) for page in pages() for hit in pattern.finditer(document_text(page.document))]
    return [answer for answer in found if answer.page.name == name] or found
