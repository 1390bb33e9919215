"""The request to deliver a webhook."""

from __future__ import annotations

from typing import ClassVar

from sessions.protocol.operation import OperationRequest


class Deliver(OperationRequest):
    """Send the end of a turn to the URL in its record.

    Attributes:
        turn: its public id; user: the session's owner at that time.
    """

    kind: ClassVar[str] = "webhook"

    turn: str
    user: str | None = None

    @property
    def message_id(self) -> str:
        """The webhook's id: the same for every try, including a retry by a person."""
        return f"msg_{self.turn.rpartition('~')[2]}"
