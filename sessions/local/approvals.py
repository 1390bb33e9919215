"""The inbox of approvals, from the indexes in the fleet's store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sessions.client.approvals import CallInInbox, Inbox
from sessions.client.arguments.approvals import InboxQuery
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.errors import TurnNotFound
from sessions.store.calls import WaitingTurn
from sessions.store.keys import SessionKeys
from sessions.store.session_index import IndexRange


class LocalApprovals:
    """`ApprovalCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def page(self, session: SessionRef, query: InboxQuery) -> Inbox:
        """The calls that turns of the user, or of the tenant, wait for; see `Session.aapprovals`."""
        fleet = self._fleet()
        await fleet.open()
        tenant, user = session.keys.tenant, session.user_id
        wanted = IndexRange("asking", tenant, user, query.after, fields=("owner",))
        # One more than the page needs shows whether there is a next page.
        entries = await fleet.stores.index.read(wanted, query.limit + 1)
        shown = entries[: query.limit]
        reads = []
        for entry in shown:
            owner = None if entry.values[0] is None else entry.values[0].decode()
            if user in (None, owner):
                keys = SessionKeys.from_name(tenant, entry.position.name, fleet.settings.partitions)
                reads.append(_in_session(fleet, keys, owner, query))
        calls = [call for found in await asyncio.gather(*reads) for call in found]
        return Inbox(calls, shown[-1].position.text if len(entries) > query.limit else None)

    async def approved_tools(self, session: SessionRef) -> list[str]:
        """The tools whose calls need no more approval; see `ApprovalMethods.aapproved_tools`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id)
        return sorted(await fleet.stores.approved_tools.read(session.keys))

    async def revoke(self, session: SessionRef, tool: str) -> bool:
        """Ask about calls of a tool again; see `ApprovalMethods.arevoke_approval`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id, "write")
        return await fleet.stores.approved_tools.remove(session.keys, tool, session.user_id)


async def _in_session(
    fleet: FleetClient, keys: SessionKeys, owner: str | None, query: InboxQuery
) -> Sequence[CallInInbox]:
    """What a session's turns wait for; nothing if they have been answered since the index was read."""
    waiting = await fleet.stores.calls.waiting(keys)
    found = await asyncio.gather(*(_of_turn(fleet, keys, owner, turn, query) for turn in waiting))
    return [call for calls in found for call in calls]


async def _of_turn(
    fleet: FleetClient, keys: SessionKeys, owner: str | None, turn: WaitingTurn, query: InboxQuery
) -> Sequence[CallInInbox]:
    try:
        summary, pending = await asyncio.gather(
            fleet.stores.turns.summary(keys, turn.part), fleet.stores.calls.pending(keys, turn.part)
        )
    except TurnNotFound:  # it was deleted
        return ()
    return [
        CallInInbox(
            session_id=keys.session_id,
            part=turn.part,
            user_id=owner,
            agent=summary.request.agent,
            message=summary.request.in_words,
            since=_time(turn.since_ms),
            expires_at=_time(turn.until_ms),
            call=call,
        )
        for call in pending
        if query.wants(call)
    ]


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
