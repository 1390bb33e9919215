"""The request to deliver a webhook."""

from __future__ import annotations

from typing import ClassVar

from sessions.protocol.operation import OperationRequest


class Deliver(OperationRequest):
    """Tell the end of a turn to where its record says.

    Attributes:
        turn: its public id; user: the session's owner at that time.
    """

    kind: ClassVar[str] = "webhook"

    turn: str
    user: str | None = None

    @property
    def message_id(self) -> str:
        """The webhook's id: the same at each try, and when it is sent once more."""
        return f"msg_{self.turn.rpartition('~')[2]}"
