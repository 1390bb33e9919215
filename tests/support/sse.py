"""A reader of server-sent events that reconnects with its last event id, as a browser's EventSource does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Item:
    """One event as it came."""

    id: str
    type: str
    data: dict[str, Any]


async def items_of(response: httpx.Response) -> AsyncIterator[Item]:
    """The events of a response; comments and the unfinished last one are left out."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Item(fields.get("id", ""), fields.get("event", ""), json.loads(fields.get("data", "null")))
            fields = {}


@dataclass
class Reader:
    """Follows one turn to its end.

    Attributes:
        hang_up_after: the number of events after which it disconnects and reconnects, each time.
        pause: the seconds for which it reads nothing, once.
    """

    client: httpx.AsyncClient
    url: str
    hang_up_after: int | None = None
    pause: float = 0.0
    items: list[Item] = field(default_factory=list)
    connections: int = 0

    async def run(self) -> None:
        """Read up to `ended`."""
        while not (self.items and self.items[-1].type == "ended"):
            await self._connect()

    async def _connect(self) -> None:
        headers = {"Last-Event-ID": self.items[-1].id} if self.items else {}
        self.connections += 1
        async with self.client.stream("GET", self.url, headers=headers) as response:
            assert response.status_code == 200, (response.status_code, await response.aread())
            seen = 0
            async for item in items_of(response):
                self.items.append(item)
                seen += 1
                if self.pause and seen == 2:
                    await asyncio.sleep(self.pause)
                if seen == self.hang_up_after:
                    return

    @property
    def text(self) -> str:
        """The answer as a page would show it."""
        return text_of(self.items)


def text_of(items: list[Item]) -> str:
    """The streamed text as a page shows it: the text of a lost attempt is dropped after the last valid event."""
    shown: list[Item] = []
    for item in items:
        if item.type == "attempt_reset":
            valid = item.data["valid_through"]
            shown = [one for one in shown if valid is not None and order_of(one.id) <= order_of(valid)]
        elif item.type == "text_delta":
            shown.append(item)
    return "".join(item.data["text"] for item in shown)


def order_of(event_id: str) -> tuple[int, int]:
    """An event's place in its turn; in a session's stream, its id begins with the turn."""
    token, _, seq = event_id.rpartition(".")[2].partition("-")
    return int(token), int(seq)
