"""Ids of this protocol. They contain the turn, so the history and a turn's events give a message the same id.

A thread's id is that of its session. They are no secrets and no rights: whoever sends one is checked as if the session
had been named in a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

_MESSAGE: Final = re.compile(r"msg_([0-9a-f]{32})_")
_CALL: Final = re.compile(r"call_([0-9a-f]{32})_(.+)\Z", re.DOTALL)


def message_id(part: str, name: str) -> str:
    """The id of one of a turn's messages.

    Args:
        part: the turn's part of its id.
        name: of the message within the turn.
    """
    return f"msg_{part}_{name}"


def turn_of_message(given: str) -> str | None:
    """The turn (its part) that a message came from; None if the message was not made here."""
    found = _MESSAGE.match(given)
    return found and found[1]


@dataclass(frozen=True, slots=True)
class CallRef:
    """A call of a tool; also the interrupt that asks about it."""

    part: str
    call_id: str

    def __str__(self) -> str:
        """Its id for clients."""
        return f"call_{self.part}_{self.call_id}"

    @classmethod
    def read(cls, given: str) -> Self | None:
        """The call that an id names; None if it was not made here."""
        found = _CALL.match(given)
        return None if found is None else cls(found[1], found[2])
