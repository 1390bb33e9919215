"""Exports and imports at a gateway: records as lines of JSON, streamed in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from itertools import islice
from typing import Final

import httpx

from sessions.client.backend import Imported, NewSession
from sessions.client.ports import SessionRef
from sessions.errors import RemoteUnavailable
from sessions.remote.client import RemoteClient
from sessions.remote.exchange import CONNECT_SECONDS
from sessions.remote.problems import error_of
from sessions.remote.wire import parsing, without_none
from sessions.transfer.records import End, PastTurn, Record, dump_record, load_record

_SILENCE: Final = 120.0
"""Seconds without a byte, after which the gateway counts as gone: it may wait for a worker that reads a document."""
_LINES: Final = "application/x-ndjson"
_AT_ONCE: Final = 100


class RemoteTransfer:
    """`TransferCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def records(self, session: SessionRef) -> AsyncGenerator[Record]:
        """The session as records; see `TransferMethods.aexport`."""
        client = self._client(session)
        await client.require_gateway()
        server = client.server
        headers = client.headers()
        headers["Accept"] = _LINES
        url = server.address.api(f"{client.home}/export")
        http = await server.http()
        limits = httpx.Timeout(_SILENCE, connect=CONNECT_SECONDS)
        complete, number = False, 0
        try:
            async with http.stream("GET", url, headers=headers, timeout=limits) as response:
                await _accept(response, str(server.address))
                async with aclosing(_lines(response)) as lines:
                    async for line in lines:
                        number += 1
                        record = load_record(line, f"{server.address}, line {number} of the export")
                        complete = isinstance(record, End)
                        yield record
        except httpx.HTTPError as error:
            raise RemoteUnavailable(f"{server.address}: the export broke off ({type(error).__name__})") from error
        if not complete:
            raise RemoteUnavailable(f"{server.address}: the export broke off; its log says why")

    async def create_from(self, session: SessionRef, new: NewSession) -> Imported:
        """Create the session from an import; see `Session.aimport_from`. Foreign formats are read here."""
        client = self._client(session)
        await client.require_gateway()
        server = client.server
        headers = client.headers()
        headers.update({"Content-Type": _LINES, "Accept": "application/json"})
        params = without_none(session_id=session.session_id, ttl=new.ttl, queue=new.queue)
        http = await server.http()
        limits = httpx.Timeout(_SILENCE, connect=CONNECT_SECONDS)
        try:
            response = await http.post(
                server.address.api("/sessions/import"),
                params=params,
                headers=headers,
                content=_body(new),
                timeout=limits,
            )
        except httpx.HTTPError as error:
            raise RemoteUnavailable(
                f"{server.address}: the import broke off ({type(error).__name__}); importing again is safe"
            ) from error
        await _accept(response, str(server.address))
        with parsing("import"):
            answer = response.json()
            left_out = (*new.source.left_out.lines, *answer["left_out"])
            return Imported(answer["user_id"], answer["counts"], left_out, answer["repeated"])


async def _accept(response: httpx.Response, server: str) -> None:
    if not response.is_success:
        await response.aread()
        raise error_of(response, server)


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The lines of a response. Only a line feed ends one: JSON may contain other separators of lines."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


async def _body(new: NewSession) -> AsyncIterator[bytes]:
    """The records as lines, read in a thread."""
    records = new.source.records()
    turns = 0

    def page() -> list[Record]:
        return list(islice(records, _AT_ONCE))

    while found := await asyncio.to_thread(page):
        yield b"".join(map(dump_record, found))
        turns += sum(isinstance(record, PastTurn) for record in found)
        if new.progress is not None:
            new.progress(turns, 0)
