"""What a user or a tenant used, from a gateway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import date

from sessions.client.arguments.usage import TOTAL, UsageQuery
from sessions.client.ports import SessionRef
from sessions.protocol.usage import UsageRow
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parsing


class RemoteUsage:
    """`UsageCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def rows(self, session: SessionRef, query: UsageQuery) -> list[UsageRow]:
        """What was used; see `Session.ausage`."""
        params = {
            "since": query.since.isoformat(),
            "until": query.until.isoformat(),
            "by": ",".join(query.by) or TOTAL,
        }
        answer = await self._client(session).of_all("GET", "/usage", params=params)
        with parsing("usage"):
            names = [field.name for field in fields(UsageRow)]
            rows = [{name: row[name] for name in names} for row in answer["usage"]]
            return [UsageRow(**row | {"day": row["day"] and date.fromisoformat(row["day"])}) for row in rows]
