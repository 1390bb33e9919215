"""Turns as server-sent events: what a web backend sends, and how it copes with browsers that come and go."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from broker_config.settings import Settings
from sessions import Session, Turn
from sessions.client.per_process import get_client
from sessions.errors import StaleCursor, StoreUnavailable, TurnNotFound
from sessions.protocol.event import Event, EventType
from sessions.sse import pieces as sse_pieces
from tests.support.fleet import Fleet
from tests.support.servers import Server
from tests.support.waiting import await_until, wait_until


def ask(fleet: Fleet, message: str, **options: Any) -> Turn:
    return fleet.session(uuid.uuid4().hex).Agent("A").submit(message, stream=True, **options)


def events_of(pieces: list[str]) -> list[tuple[str, str, Any]]:
    """Id, type and data of each piece that is an event."""
    events = []
    for piece in pieces:
        assert piece.endswith("\n\n")
        if piece.startswith("id: "):
            fields = dict(line.split(": ", 1) for line in piece.splitlines() if line)
            events.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return events


async def test_the_pieces_are_the_events(fleet: Fleet) -> None:
    """Sync and async give the same; after a cursor comes the rest, and after the last event nothing."""
    turn = ask(fleet, 'SAY one\u2028"two" \u00fc {"id: 1"}')
    pieces = list(turn.sse() or ())
    assert pieces[0] == "retry: 1000\n\n"
    events = events_of(pieces)
    assert events == [(e.id, str(e.type), e.data) for e in turn.events()]
    again = await turn.asse()
    assert again is not None
    assert [piece async for piece in again] == pieces
    assert events_of(list(turn.sse(after=events[1][0]) or ())) == events[2:]
    assert turn.sse(after=events[-1][0]) is None
    assert await turn.asse(after=events[-1][0]) is None


async def test_a_silent_turn_keeps_its_connection(fleet: Fleet) -> None:
    """Comments come while nothing happens, and no event is lost by them."""
    turn = ask(fleet, "SLEEP 1\nSAY hello there")
    blocking = await asyncio.to_thread(lambda: list(turn.sse(keep_alive=0.05) or ()))
    assert blocking.count(": keep-alive\n\n") > 2
    assert events_of(blocking) == [(e.id, str(e.type), e.data) for e in turn.events()]


async def test_what_is_wrong_is_said_before_the_response_begins(fleet: Fleet) -> None:
    """An error that is known before the response begins can still have a status."""
    turn = ask(fleet, "SAY hello")
    turn.result(timeout=40)
    with pytest.raises(StaleCursor):
        turn.sse(after="999999999-0")
    with pytest.raises(StaleCursor):
        await turn.asse(after="nonsense")
    with pytest.raises(TurnNotFound):
        fleet.session(turn.id.partition("~")[0]).turn(turn.id[:-32] + uuid.uuid4().hex).sse()


async def test_a_store_that_goes_ends_the_body_quietly() -> None:
    """The browser comes back with its cursor; nothing is thrown into a response that has begun."""

    async def broken() -> AsyncGenerator[Event]:
        yield Event("1-1", EventType.TEXT_DELTA, {"text": "a"})
        raise StoreUnavailable

    pieces = [piece async for piece in sse_pieces(broken(), 1)]
    assert events_of(pieces) == [("1-1", "text_delta", {"text": "a"})]


async def test_every_piece_is_json_that_browsers_read() -> None:
    """Whatever a model or tool brought: numbers that are none, half a surrogate pair, other systems' line ends."""

    async def odd() -> AsyncGenerator[Event]:
        yield Event("1-1", EventType.TOOL_CALL, {"args": {"n": [float("nan"), float("-inf"), 1.5]}})
        yield Event("1-2", EventType.TEXT_DELTA, {"text": "a\r\nid: 9-9\n\n\x85\u2028\ud83d"})

    pieces = [piece async for piece in sse_pieces(odd(), 1)]
    assert all(piece.isascii() for piece in pieces)
    call, text = (json.loads(piece.splitlines()[2].removeprefix("data: "), parse_constant=ord) for piece in pieces[1:])
    assert call == {"args": {"n": [None, None, 1.5]}}
    assert text == {"text": "a\r\nid: 9-9\n\n\x85\u2028\ud83d"}


async def test_a_reader_that_comes_as_another_goes_is_told(new_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is reloaded: the store may learn that the old one has gone only after the new one has come."""
    settings = Settings(redis_url=new_server.url)
    turn = Session("s", settings=settings).Agent("A").submit("hello")
    client, keys, part = get_client(settings), turn._keys, turn._part
    gate, watch = asyncio.Event(), client.stores.turns.watch

    async def late(*args: Any, on: bool = True) -> Any:
        if not on:
            await gate.wait()
        return await watch(*args, on=on)

    async def listed() -> bool:
        return bool(await client.stores.redis.hget(keys.turn(part), "readers"))

    async def waits() -> bool:
        return part in client.connection.bell._waiters

    async def nobody_waits() -> bool:
        return not await waits()

    async def read() -> None:
        async for _ in client.turns.follow(keys, part, None):
            pass

    async def come_and_go() -> bool:
        first = asyncio.create_task(read())
        await await_until(waits, description="one reads")
        first.cancel()
        await await_until(nobody_waits, description="it goes")
        second = asyncio.create_task(read())
        await await_until(waits, description="another one reads")
        gate.set()
        await asyncio.wait({first})
        found = await listed()
        second.cancel()
        await asyncio.wait({second})
        return found and not await listed()

    monkeypatch.setattr(client.stores.turns, "watch", late)
    assert await asyncio.to_thread(client.portal.call, come_and_go())
    await asyncio.to_thread(client.portal.call, client.aclose())


def test_a_forgotten_stream_is_closed_wherever_it_is_found(fleet: Fleet) -> None:
    """The garbage collector also runs on the client's own thread, where nothing may wait for that thread."""
    turn = ask(fleet, "SLEEP 60")
    client, part = fleet.client, turn.id.rpartition("~")[2]
    events = turn.events()
    next(events)

    async def found() -> None:
        events.close()  # type: ignore[attr-defined]

    client.portal.call(found())
    wait_until(lambda: part not in client.turns._readers, description="it is closed")
    turn.cancel()


async def test_a_reader_that_goes_at_once_is_not_listed(new_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the store has heard that it reads: that it went does not overtake that it came."""
    settings = Settings(redis_url=new_server.url)
    turn = Session("s", settings=settings).Agent("A").submit("hello")
    client, keys, part = get_client(settings), turn._keys, turn._part
    coming, gate, watch = asyncio.Event(), asyncio.Event(), client.stores.turns.watch

    async def late(*args: Any, on: bool = True) -> Any:
        if on:
            coming.set()
            try:
                await gate.wait()
            except asyncio.CancelledError:  # it was sent before
                asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(watch(*args, on=on)))
                raise
        return await watch(*args, on=on)

    async def come_and_go() -> bool:
        reader = asyncio.create_task(anext(client.turns.follow(keys, part, None)))  # type: ignore[arg-type]
        await coming.wait()
        reader.cancel()
        asyncio.get_running_loop().call_later(0.2, gate.set)
        await asyncio.wait({reader})
        await gate.wait()
        return bool(await client.stores.redis.hget(keys.turn(part), "readers"))

    monkeypatch.setattr(client.stores.turns, "watch", late)
    assert await asyncio.to_thread(client.portal.call, come_and_go()) is False
    await asyncio.to_thread(client.portal.call, client.aclose())


@pytest.mark.parametrize("while_waiting", [True, False])
async def test_a_browser_that_goes_leaves_nothing(fleet: Fleet, while_waiting: bool) -> None:
    """Whether the server was waiting for an event or sending one: no reader is listed afterwards.

    Servers cancel like this: repeatedly, until the task has ended.
    """
    turn = ask(fleet, "SLEEP 60")
    client, part = fleet.client, turn.id.rpartition("~")[2]
    reading = asyncio.Event()

    async def listed() -> bool:
        readers = await client.portal.acall(client.stores.redis.hget(turn._keys.turn(part), "readers"))
        return bool(readers) or part in client.turns._readers or part in client.connection.bell._waiters

    async def serve(pieces: AsyncIterator[str]) -> None:
        async with aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                if piece.startswith("id: "):
                    reading.set()
                    if not while_waiting:
                        await asyncio.sleep(60)

    pieces = await turn.asse()
    assert pieces is not None
    async with anyio.create_task_group() as server:
        server.start_soon(serve, pieces)
        await reading.wait()
        assert await listed()
        server.cancel_scope.cancel()

    async def gone() -> bool:
        return not await listed()

    await await_until(gone, description="nobody reads the turn")

    turn.cancel()
