"""What a user or a tenant used, from the counters in the fleet's store."""

from __future__ import annotations

from collections.abc import Callable

from sessions.client.arguments.usage import UsageQuery
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.protocol.usage import UsageRow
from sessions.store.usage import UsageRange


class LocalUsage:
    """`UsageCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def rows(self, session: SessionRef, query: UsageQuery) -> list[UsageRow]:
        """What was used; see `Session.ausage`."""
        fleet = self._fleet()
        await fleet.open()
        wanted = UsageRange(session.keys.tenant, session.user_id, query.since, query.until, query.by)
        return await fleet.stores.usage.read(wanted)
