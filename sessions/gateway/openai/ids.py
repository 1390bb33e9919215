"""Ids of this protocol, which contain ours: any gateway finds the turn of one without looking anything up.

They are no secrets and no rights. Whoever sends one is checked as if the session had been named in a path.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, Self

from sessions.errors import InvalidTurnId, NotFound
from sessions.store.keys import split_turn_id

_CALL: Final = "call_"
APPROVAL: Final = "mcpr_"
_RESPONSE: Final = re.compile(r"resp_([0-9a-f]{32})([0-9a-f]{2})([A-Za-z0-9_-]+)\Z")
_CONVERSATION: Final = "conv_"


@dataclass(frozen=True, slots=True)
class CallRef:
    """A call that a turn waits for at the end of a leg: of one of the sender's tools, or for an approval."""

    session_id: str
    turn_id: str
    leg: int
    call_id: str

    def __str__(self) -> str:
        """Its id for clients."""
        return self.written()

    def written(self, prefix: str = _CALL) -> str:
        """Its id for clients; the prefix says what it waits for."""
        return prefix + _packed(f"{self.turn_id}\0{self.leg}\0{self.call_id}")

    @classmethod
    def read(cls, call_id: str, prefix: str = _CALL) -> Self | None:
        """The call that an id names; None if it was not made here."""
        fields = (_unpacked(call_id.removeprefix(prefix)) or "").split("\0", 2)
        if not call_id.startswith(prefix) or len(fields) != 3 or not fields[1].isdecimal():
            return None
        try:
            session_id, _ = split_turn_id(fields[0])
        except InvalidTurnId:
            return None
        return cls(session_id, fields[0], int(fields[1]), fields[2])


@dataclass(frozen=True, slots=True)
class ResponseRef:
    """A response: one leg of a turn."""

    session_id: str
    part: str
    leg: int

    @property
    def turn_id(self) -> str:
        """The turn."""
        return f"{self.session_id}~{self.part}"

    def __str__(self) -> str:
        """Its id for clients."""
        return f"resp_{self.part}{self.leg:02x}{_packed(self.session_id)}"

    @classmethod
    def read(cls, response_id: str, param: str | None = None) -> Self:
        """The response that an id names.

        Raises:
            NotFound: it was not made here.
        """
        found = _RESPONSE.match(response_id)
        session_id = None if found is None else _unpacked(found[3])
        if found is None or session_id is None:
            raise NotFound(f"Response with id {response_id[:300]!r} not found.", param=param)
        return cls(session_id, found[1], int(found[2], 16))


def conversation_id(session_id: str) -> str:
    """The id of the conversation that a session is."""
    return _CONVERSATION + _packed(session_id)


def session_of(conversation: str, param: str | None = None) -> str:
    """The session that a conversation's id names.

    Raises:
        NotFound: it was not made here.
    """
    session_id = _unpacked(conversation.removeprefix(_CONVERSATION)) if conversation.startswith(_CONVERSATION) else None
    if session_id is None:
        raise NotFound(f"Conversation with id {conversation[:300]!r} not found.", param=param)
    return session_id


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
