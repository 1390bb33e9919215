"""Events as they leave the gateway: when the response begins, what it says when they break, and what stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sse_starlette.sse import AppStatus

from sessions.errors import StaleCursor, StoreUnavailable
from sessions.gateway import streams
from sessions.gateway.streams import event_stream
from sessions.protocol.event import Event, EventType

STARTED = Event("1-1", EventType.STARTED, {"attempt": 1})
ENDED = Event("1-2", EventType.ENDED, {"status": "succeeded"})


@pytest.fixture(autouse=True)
def _serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of this process is to end; an earlier one may have been."""
    monkeypatch.setattr(AppStatus, "should_exit", False)


class Told:
    """A turn with these events: an error is raised, None waits for ever."""

    id = "s~0"

    def __init__(self, *told: Event | Exception | None) -> None:
        self.told = told
        self.left = False

    async def aevents(self, _after: str | None) -> AsyncIterator[Event]:
        try:
            for one in self.told:
                if isinstance(one, Exception):
                    raise one
                if one is None:
                    await asyncio.Event().wait()
                else:
                    yield one
        finally:
            self.left = True


async def sent(turn: Told, *, hang_up_behind: int | None = None) -> list[dict[str, Any]]:
    """The messages of a response, whose reader may disconnect after this many."""
    messages: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)
        if len(messages) == hang_up_behind:
            gone.set()

    response = await event_stream(turn.aevents(None), turn.id)
    await response({"type": "http", "method": "GET", "path": "/events"}, receive, send)  # type: ignore[arg-type]
    return messages


def text_of(messages: list[dict[str, Any]]) -> str:
    return b"".join(message.get("body", b"") for message in messages).decode()


async def nothing_stays() -> None:
    """The waiter is gone; the library itself checks the end of the server once per process."""
    left = {task for task in asyncio.all_tasks() if "shutdown_watcher" not in repr(task)}
    assert left == {asyncio.current_task()}


async def test_events_are_sent_up_to_the_last() -> None:
    """Each with its cursor; half a surrogate pair is escaped."""
    turn = Told(STARTED, Event("1-2", EventType.TEXT, {"text": "é\ud800"}), Event("1-3", EventType.ENDED, {}))
    said = text_of(await sent(turn))
    assert said.startswith('id: 1-1\nevent: started\ndata: {"attempt":1}\n\n')
    assert 'data: {"text":"\\u00e9\\ud800"}' in said
    assert said.endswith("id: 1-3\nevent: ended\ndata: {}\n\n")
    assert turn.left
    await nothing_stays()


async def test_what_is_wrong_at_once_has_a_status() -> None:
    """The error is raised before the response begins."""
    turn = Told(StaleCursor())
    with pytest.raises(StaleCursor):
        await sent(turn)
    assert turn.left
    await nothing_stays()


async def test_an_end_without_events_is_204() -> None:
    """EventSource does not reconnect after 204."""
    turn = Told()
    assert (await sent(turn))[0]["status"] == 204
    assert turn.left
    await nothing_stays()


@pytest.mark.parametrize(
    ("error", "kind"), [(StoreUnavailable(), "urn:sessionfleet:error:StoreUnavailable"), (KeyError("x"), "about:blank")]
)
async def test_what_breaks_later_is_said_in_the_stream(error: Exception, kind: str) -> None:
    """Without a cursor, so that the reader reconnects with its last one; without revealing what it was."""
    said = text_of(await sent(Told(STARTED, error)))
    assert said.endswith(f'event: interrupted\ndata: {{"type": "{kind}"}}\n\n')
    await nothing_stays()


@pytest.mark.parametrize("told", [(None,), (STARTED, None)])
async def test_a_reader_that_leaves_leaves_nothing(
    told: tuple[Event | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first event (the response has begun all the same), and while the next one is waited for."""
    monkeypatch.setattr(streams, "_TELLING", 0.01)
    turn = Told(*told)
    messages = await sent(turn, hang_up_behind=len(told))
    assert messages[0]["status"] == 200
    assert turn.left
    await nothing_stays()


async def test_a_reader_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client may reconnect; meanwhile it holds no resources."""
    monkeypatch.setattr(streams, "_SEND_TIMEOUT", 0.01)
    turn = Told(STARTED, ENDED)
    response = await event_stream(turn.aevents(None), turn.id)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await response({"type": "http", "method": "GET", "path": "/events"}, receive, send)  # type: ignore[arg-type]
    assert turn.left
    await nothing_stays()
