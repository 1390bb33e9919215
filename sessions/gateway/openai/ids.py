"""Ids of this protocol, which contain ours: any gateway finds the turn of one without looking anything up.

They are no secrets and no rights. Whoever sends one is checked as if the session had been named in a path.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final, Self

from sessions.errors import InvalidTurnId
from sessions.store.keys import split_turn_id

_CALL: Final = "call_"


@dataclass(frozen=True, slots=True)
class CallRef:
    """A call of one of the sender's tools, at the end of a leg of a turn."""

    session_id: str
    turn_id: str
    leg: int
    call_id: str

    def __str__(self) -> str:
        """Its id for clients."""
        return _CALL + _packed(f"{self.turn_id}\0{self.leg}\0{self.call_id}")

    @classmethod
    def read(cls, call_id: str) -> Self | None:
        """The call that an id names; None if it was not made here."""
        fields = (_unpacked(call_id.removeprefix(_CALL)) or "").split("\0", 2)
        if not call_id.startswith(_CALL) or len(fields) != 3 or not fields[1].isdecimal():
            return None
        try:
            session_id, _ = split_turn_id(fields[0])
        except InvalidTurnId:
            return None
        return cls(session_id, fields[0], int(fields[1]), fields[2])


def completion_id(turn_id: str, leg: int) -> str:
    """The id of a chat completion."""
    return f"chatcmpl-{split_turn_id(turn_id)[1]}{leg:02x}"


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpacked(text: str) -> str | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
