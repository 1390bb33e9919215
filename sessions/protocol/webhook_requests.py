"""The requests to deliver a webhook: that a turn ended, or that it waits for answers."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pydantic import BaseModel, Field

from sessions.protocol.operation import OperationRequest, OperationSpec


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


class AskedCall(BaseModel):
    """A call that a turn waits for, as its webhook shows it; see `PendingCall`."""

    call_id: str
    tool: str
    args: Any = None
    kind: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    waits_for: str | None = None


class DeliverAsk(DeliverWebhook):
    """Send the webhook of a turn that waits. It has the calls as they were, so that each try sends the same.

    Attributes:
        since_ms: when the turn began to wait, by which its waits are told apart.
    """

    kind: ClassVar[str] = "webhook_waiting"

    since_ms: int
    calls: tuple[AskedCall, ...]

    @property
    def message_id(self) -> str:
        """The webhook's id: another one than that of the turn's end, and of its other waits."""
        return f"{super().message_id}_{self.since_ms}"


_REQUESTS: Final = {kind.kind: kind for kind in (DeliverWebhook, DeliverAsk)}


def webhook_request(spec: OperationSpec) -> DeliverWebhook | None:
    """The delivery that a turn in the lane makes; None if the operation is another one.

    Raises:
        ValidationError: the request cannot be read.
    """
    request = _REQUESTS.get(spec.kind)
    return None if request is None else request.model_validate(spec.body)
