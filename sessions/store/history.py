"""The committed transcript: one entry per turn, so that a window never separates a tool call from its result.

An entry is a header (one line of JSON) followed by the turn's messages as one JSON array. The engine reads the
messages, all other code reads the header; neither parses the other's part. An entry that the session object of another
library wrote has a line more: the same content in that library's own format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One committed turn.

    Attributes:
        count: the number of messages, as a person would count them.
        messages: a JSON array in pydantic-ai's format.
        incomplete: how the turn ended, if it did not complete (`failed`, `cancelled`, `dead_lettered`); "" if it did.
        sender: the user who sent the message, if that was not the session's owner.
        adapter: whose session object wrote it (`sessions.adapters`); "" if a worker did.
        native: what that library needs to give back exactly what it was given; JSON.
    """

    turn: str
    agent: str
    at_ms: int
    count: int
    messages: bytes
    incomplete: str = ""
    sender: str | None = None
    adapter: str = ""
    native: bytes = b""

    def dump(self) -> bytes:
        """The entry as it is stored."""
        header = {"v": 1, "turn": self.turn, "agent": self.agent, "at": self.at_ms, "count": self.count}
        if self.incomplete:
            header["incomplete"] = self.incomplete
        if self.sender is not None:
            header["sender"] = self.sender
        if not self.adapter:
            return json.dumps(header, separators=(",", ":")).encode() + b"\n" + self.messages
        header["adapter"] = self.adapter
        return b"\n".join((json.dumps(header, separators=(",", ":")).encode(), self.messages, self.native))

    @classmethod
    def load(cls, raw: bytes) -> HistoryEntry:
        """The entry from its stored form."""
        head, _, messages = raw.partition(b"\n")
        header, native = json.loads(head), b""
        if adapter := header.get("adapter", ""):
            messages, _, native = messages.partition(b"\n")
        return cls(
            turn=header["turn"],
            agent=header["agent"],
            at_ms=header["at"],
            count=header["count"],
            messages=messages,
            incomplete=header.get("incomplete", ""),
            sender=header.get("sender"),
            adapter=adapter,
            native=native,
        )
