"""The passages of a committed turn that searches can find. They are cut the same way for the index and for a result.

The index has no texts, only where each passage is: message and characters. So a result shows what the history has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sessions.client.transcript import Message, messages_of
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from workers.retrieval.chunking import chunk_document
from workers.retrieval.documents.plain import clean
from workers.retrieval.ports import Document, PieceLimit, Section

_ROLES: Final = ("user", "assistant")
LONGEST_CHARS: Final = 100_000
"""Of a longer message, only the beginning is indexed."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a message, of at most 800 characters.

    Attributes:
        message: 0-based, among the messages of the turn.
        number: 0-based, within the message.
        start, end: in characters of the message's cleaned text.
    """

    message: int
    number: int
    role: str
    start: int
    end: int
    text: str


def passages_of(entry: HistoryEntry, keys: SessionKeys, limit: PieceLimit | None = None) -> list[Passage]:
    """The passages of a turn: of what its user said and what was answered, not of its tools' returns.

    Args:
        entry: the turn.
        keys: the session's.
        limit: how much the embedding model reads.

    Raises:
        CorruptRecord: the turn's messages cannot be read.
    """
    found: list[Passage] = []
    for message, said in enumerate(messages_of(entry, keys)):
        if said.role not in _ROLES or not (text := _text_of(said)):
            continue
        for chunk in chunk_document(Document("text", [Section(text)]), limit=limit):
            found.append(Passage(message, chunk.number, said.role, chunk.start, chunk.end, chunk.text))
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a passage is in the history, as the index has it.

    Attributes:
        turn: the turn's part of its id; position: in the history when it was indexed, to find it at once.
    """

    turn: str
    position: int
    message: int
    role: str
    start: int
    end: int

    @classmethod
    def of(cls, payload: dict[str, Any]) -> Place:
        """The place that the index has."""
        return cls(**{name: payload[name] for name in cls.__slots__})

    def dump(self) -> dict[str, Any]:
        """The form in which the index has it; `metadata` is what it filters by."""
        place = {name: getattr(self, name) for name in self.__slots__}
        return {**place, "metadata": {"role": self.role}}

    def read(self, entry: HistoryEntry, keys: SessionKeys) -> tuple[Message, str] | None:
        """The message and the passage's text; None if the turn does not have them."""
        messages = messages_of(entry, keys)
        if not 0 <= self.message < len(messages) or messages[self.message].role != self.role:
            return None
        text = _text_of(messages[self.message])[self.start : self.end]
        return (messages[self.message], text) if text else None


def _text_of(message: Message) -> str:
    return clean(message.text[:LONGEST_CHARS])
