"""Memories of one user and questions about them, from the text files of `memory_set`, which we wrote.

Parameters are chosen with `tuning`; `held-out` is only for the figures that are published, so nobody looks at its
questions while choosing. Both have distractors: memories that share words or the subject with a question, and do not
answer it. They share no subject. `plain` has none, and questions that no memory answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "memory_set"


@dataclass(frozen=True, slots=True)
class Changed:
    """A fact, the newer one that contradicts it, and a question that the newer one answers."""

    question: str
    older: str
    newer: str


@dataclass(frozen=True, slots=True)
class MemorySet:
    """One user's memories, as questions about them.

    Attributes:
        texts: all memories, oldest first: those that were contradicted before those that contradict them.
        asked: questions with the memory that answers each.
        changed: facts that changed.
        unrelated: questions that no memory answers.
    """

    texts: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]
    changed: tuple[Changed, ...]
    unrelated: tuple[str, ...]


def memory_set(name: str) -> MemorySet:
    """The set of this name; the head of its file says what each line is."""
    texts, asked, changed, unrelated = [], [], [], []
    for paragraph in (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").split("\n\n"):
        lines = [line.partition(" ")[::2] for line in paragraph.splitlines()]
        of = {mark: [text for at, text in lines if at == mark] for mark in "?=-<>!"}
        texts += of["="] + of["-"]
        asked += [(question, answer) for answer in of["="] for question in of["?"]]
        changed += [Changed(of["?"][0], older, newer) for older, newer in zip(of["<"], of[">"], strict=True)]
        unrelated += of["!"]
    facts = [*(one.older for one in changed), *(one.newer for one in changed)]
    return MemorySet((*texts, *facts), tuple(asked), tuple(changed), tuple(unrelated))
