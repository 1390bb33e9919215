"""The inbox of approvals at a gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sessions.client.approvals import CallInInbox, Inbox
from sessions.client.arguments.approvals import InboxQuery
from sessions.client.ports import SessionRef
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parsing, without_none
from sessions.store.calls import PendingCall
from sessions.store.keys import split_turn_id


class RemoteApprovals:
    """`ApprovalCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def page(self, session: SessionRef, query: InboxQuery) -> Inbox:
        """The calls that turns of the caller's sessions wait for; see `Session.aapprovals`."""
        params = {"limit": query.limit, **without_none(cursor=query.cursor, kind=query.kind)}
        answer = await self._client(session).of_all("GET", "/approvals", params=params)
        with parsing("approvals"):
            return Inbox([_call(each) for each in answer["approvals"]], answer["cursor"])

    async def approved_tools(self, session: SessionRef) -> list[str]:
        """The tools whose calls need no more approval; see `ApprovalMethods.aapproved_tools`."""
        answer = await self._client(session).api("GET", "/approved-tools")
        with parsing("approved tools"):
            return [str(tool) for tool in answer["approved_tools"]]

    async def revoke(self, session: SessionRef, tool: str) -> bool:
        """Ask about calls of a tool again; see `ApprovalMethods.arevoke_approval`."""
        return await self._client(session).api_found("DELETE", f"/approved-tools/{segment(tool)}")


def _call(found: Mapping[str, Any]) -> CallInInbox:
    """A call in a gateway's JSON."""
    names = ("call_id", "tool", "args", "kind", "metadata", "waits_for")
    return CallInInbox(
        session_id=found["session_id"],
        part=split_turn_id(found["turn_id"])[1],
        user_id=found["user_id"],
        agent=found["agent"],
        message=found["message"],
        since=datetime.fromisoformat(found["since"]),
        expires_at=datetime.fromisoformat(found["expires_at"]),
        call=PendingCall(**{name: found[name] for name in names}),
    )
