"""Turns that are cancelled when their reader leaves (`on_disconnect="cancel"`).

The store keeps until when the reader is known to be there. The reader's process renews this; if it is killed, the time
runs out, and the worker cancels the turn. So nothing depends on a last message from a process that has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from broker_config.telemetry import get_logger
from sessions.client.ports import TurnCalls
from sessions.errors import BackendError, SessionfleetError
from sessions.protocol.event import Event
from sessions.store.keys import SessionKeys
from sessions.store.shelter import sheltered

_log = get_logger(__name__)


@asynccontextmanager
async def attending(attend: Callable[[float], Awaitable[Any]], grace: float) -> AsyncIterator[None]:
    """Be there as a reader, for the duration of the block.

    Args:
        attend: records that the reader is there for this many seconds.
        grace: seconds within which a reader that has left may come back.
    """
    await attend(grace)
    renewing = asyncio.create_task(_renew(attend, grace))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(attend: Callable[[float], Awaitable[Any]], grace: float) -> None:
    while True:
        await asyncio.sleep(grace / 5)
        try:
            await attend(grace)
        except BackendError as error:
            _log.warning("attendance_not_renewed", error=repr(error))


async def read_or_cancel(
    turns: TurnCalls, keys: SessionKeys, part: str, after: str | None, user_id: str | None
) -> AsyncGenerator[Event]:
    """All events of a turn after a cursor; if the reader stops before the last one, the turn is cancelled at once.

    An error is not a decision to leave: then the turn is cancelled if no reader comes back in time.
    """
    ended = False
    try:
        async with aclosing(turns.attend(keys, part, after, user_id)) as events:
            async for event in events:
                ended = event.final
                yield event
        ended = True
    except (GeneratorExit, asyncio.CancelledError):
        if not ended:
            await sheltered(_cancel(turns, keys, part, user_id))
        raise


async def _cancel(turns: TurnCalls, keys: SessionKeys, part: str, user_id: str | None) -> None:
    try:
        await turns.cancel(keys, part, user_id)
    except SessionfleetError as error:  # it is cancelled when the reader is no longer believed to be there
        _log.warning("turn_not_cancelled", turn=keys.public_id(part), error=repr(error))
