"""The inbox of approvals: the calls that turns of many sessions wait for, as the back ends return them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sessions.store.calls import PendingCall


@dataclass(frozen=True, slots=True)
class CallInInbox:
    """A call that a turn waits for.

    Attributes:
        part: of the turn's id.
        user_id: the owner of its session, if it has one.
        agent: the name of its agent; message: what was said to it.
        since: when the turn began to wait. expires_at: when it fails if its calls are not answered.
    """

    session_id: str
    part: str
    user_id: str | None
    agent: str
    message: str
    since: datetime
    expires_at: datetime
    call: PendingCall


@dataclass(frozen=True, slots=True)
class Inbox:
    """A page of it, and the cursor of the next page; None at the end."""

    calls: Sequence[CallInInbox]
    cursor: str | None = None
