"""The request to deliver a webhook."""

from __future__ import annotations

from typing import ClassVar

from sessions.protocol.operation import OperationRequest


class DeliverWebhook(OperationRequest):
    """Send the webhook of a turn that ended to the URL in its record.

    Attributes:
        turn: the turn's public id; user: the session's owner when the turn ended.
    """

    kind: ClassVar[str] = "webhook"

    turn: str
    user: str | None = None

    @property
    def message_id(self) -> str:
        """The webhook's id: the same for every try, including those that a person asks for."""
        return f"msg_{self.turn.rpartition('~')[2]}"
