"""Tool calls that a turn waits for, and the decisions about them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sessions.protocol.version import WIRE_VERSION, WireVersion

SENDER: Final = "the sender of the message"
"""What a call of one of the sender's own tools waits for. Who may send a message may provide its result."""
DENIED: Final = "The tool call was denied."


def denial(reason: str) -> str:
    """The tool result that the model gets for a denied call."""
    return f"{DENIED} {reason}".strip() if reason else DENIED


class CallKind(StrEnum):
    """What a call waits for."""

    APPROVAL = "approval"  # permission to run it
    RESULT = "result"  # a result that comes from elsewhere
    IN_DOUBT = "in_doubt"  # a person's decision: its worker died while it ran, so nobody knows its outcome
    TURN = "turn"  # the answer of another agent, which runs in its own turn; no caller can provide it


class WaitingCall(BaseModel):
    """A tool call that its turn waits for, as it is stored.

    Attributes:
        place: its position among the calls that the turn waits for; the journal, a hash, keeps no order.
        waits_for: may name what will bring the result.
    """

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    key: str
    call_id: str
    tool: str
    args: Any = None
    kind: CallKind
    metadata: dict[str, Any] = Field(default_factory=dict)
    waits_for: str | None = None
    place: int = 0


class CallAnswer(BaseModel):
    """The answer to a `WaitingCall`: a person's decision, or a result.

    Attributes:
        always: to approve: further calls of this tool in the session need no approval.
    """

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    action: Literal["approve", "deny", "provide"]
    args: dict[str, Any] | None = None
    reason: str = ""
    result: Any = None
    always: bool = False
