"""The class methods of `Session` about the calls that turns of many sessions wait for: the inbox of approvals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Unpack

from sessions.api.many_sessions import Where, opened
from sessions.api.turn import Turn
from sessions.client.approvals import CallInInbox, Inbox
from sessions.client.arguments.approvals import AskedKind, InboxQuery
from sessions.client.arguments.values import short_string
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.store.calls import PendingCall


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A call that a turn waits for, as the inbox shows it: `approval.turn.approve(approval.call.call_id)`.

    Attributes:
        turn: to answer the call, or to follow or cancel the turn.
        call: the tool, its arguments, and what kind of answer it waits for.
        user_id: the owner of the session, if it has one.
        agent: the name of the agent; message: what was said to it.
        since: when the turn began to wait. expires_at: when it fails if its calls are not answered.
    """

    turn: Turn
    call: PendingCall
    session_id: str
    user_id: str | None
    agent: str
    message: str
    since: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """Some of the calls, and the cursor of the next page (`Session.approvals(cursor=...)`); None at the end."""

    approvals: list[PendingApproval] = field(default_factory=list)
    cursor: str | None = None

    def __iter__(self) -> Iterator[PendingApproval]:
        return iter(self.approvals)

    def __len__(self) -> int:
        return len(self.approvals)


class ApprovalMethods:
    """The methods of `Session` about approvals, each with an async form."""

    async def aapproved_tools(self: BackedSession) -> list[str]:
        """The tools whose calls need no more approval in this session: `turn.approve(call_id, always=True)`.

        Raises:
            SessionOwnerError: the session is neither this user's nor shared with it.
        """
        return await self.portal.acall(self.backend.approvals.approved_tools(self))

    approved_tools = blocking(aapproved_tools)

    async def arevoke_approval(self: BackedSession, tool: str) -> bool:
        """Ask about calls of a tool again; returns whether they needed no approval. Calls that run are not stopped.

        Raises:
            SessionOwnerError: the user may not write to the session. NotFound: there is no such session.
        """
        return await self.portal.acall(self.backend.approvals.revoke(self, short_string("tool", tool)))

    revoke_approval = blocking(arevoke_approval)

    @classmethod
    async def aapprovals(
        cls: type[BackedSession],
        user_id: str | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        kind: AskedKind | None = None,
        **where: Unpack[Where],
    ) -> ApprovalPage:
        """The calls that turns wait for, in all sessions of a user; without a user, of the tenant.

        The session whose turn began to wait last comes first. A page has all calls of its sessions.

        Args:
            limit: the largest number of sessions in a page, up to 1,000. cursor: of the page before.
            kind: only calls of this kind: "approval", "result" or "in_doubt". None for all but the results of the
                sender's own tools, which the program that sent the message provides.
            where: as for `Session.alist`.

        Raises:
            BadRequest: an argument cannot be used. BackendError, RemoteError: see `sessions.errors`.
        """
        query = InboxQuery.of(limit, cursor, kind)
        any_of_them = opened(cls, user_id, **where)
        inbox = await any_of_them.portal.acall(any_of_them.backend.approvals.page(any_of_them, query))
        return _page(any_of_them, inbox, where)

    @classmethod
    def approvals(
        cls: type[BackedSession],
        user_id: str | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        kind: AskedKind | None = None,
        **where: Unpack[Where],
    ) -> ApprovalPage:
        """The calls that turns of a user, or of the tenant, wait for; see `aapprovals`."""
        query = InboxQuery.of(limit, cursor, kind)
        any_of_them = opened(cls, user_id, **where)
        inbox = any_of_them.portal.call(any_of_them.backend.approvals.page(any_of_them, query))
        return _page(any_of_them, inbox, where)


def _page(asked: BackedSession, inbox: Inbox, where: Where) -> ApprovalPage:
    return ApprovalPage([_approval(asked, found, where) for found in inbox.calls], inbox.cursor)


def _approval(asked: BackedSession, found: CallInInbox, where: Where) -> PendingApproval:
    session = opened(type(asked), asked.user_id, found.session_id, **where)
    values: dict[str, Any] = {
        name: getattr(found, name)
        for name in ("call", "session_id", "user_id", "agent", "message", "since", "expires_at")
    }
    return PendingApproval(turn=Turn(session.client, session.keys, found.part, user_id=asked.user_id), **values)
