"""Runs the Lua scripts. All calls in one tick of the event loop share one round trip."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ResponseError,
)  # fmt: skip

from broker_config.redis_clients import PASSING, REDIS_ERRORS, AsyncStore
from broker_config.temporary_refusals import hint_for
from sessions.errors import BackendError, StoreFull, StoreUnavailable, StoreUnsupported
from sessions.store.binding import Arg, ScriptCall

_FLIGHTS: Final = 2
_SEATS: Final = 256

R = TypeVar("R")


@dataclass(slots=True)
class _Call:
    """A pending command. `script` is None for a plain command."""

    command: tuple[Arg, ...]
    script: ScriptCall[Any] | None
    reply: asyncio.Future[Any]


def store_error(error: BaseException) -> BackendError:
    """Our error for one of redis-py's."""
    if isinstance(error, OutOfMemoryError) or "maxmemory" in str(error):
        return StoreFull(f"the store is at its maxmemory: {error}. {StoreFull.__doc__}")
    if (hint := hint_for(error)) is not None:
        return StoreUnavailable(f"the store refuses commands for now; {hint} ({error})")
    if isinstance(error, AuthenticationError):
        return StoreUnavailable(
            "the store refuses the user name or password in REDIS_URL, whose special characters must be "
            f"percent-encoded ({error})"
        )
    if isinstance(error, NoPermissionError):
        return StoreUnsupported(f"the store's user lacks a right: {error}. docs/security.md has all that are needed")
    if isinstance(error, PASSING):
        return StoreUnavailable(f"{StoreUnavailable.__doc__} ({error})")
    return BackendError(f"the store refused: {error}")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for redis-py's, for plain reads in the block.

    Raises:
        StoreUnavailable, StoreFull, BackendError: the store did not answer as it should.
    """
    try:
        yield
    except BackendError:
        raise
    except REDIS_ERRORS as error:
        raise store_error(error) from error


class ScriptRunner:
    """Runs scripts, and plain reads, on the store; collects calls into few pipelines.

    Calls in one tick of the loop share a pipeline and keep their order. While `_FLIGHTS` pipelines are in flight, the
    next calls wait until one of them returns: the busier a process, the larger its pipelines. Most of the cost of a
    call is what redis-py does once per pipeline.
    """

    def __init__(self, client: AsyncStore) -> None:
        self._client = client
        self._waiting: list[_Call] = []
        self._boarding = False
        self._flights: set[asyncio.Task[None]] = set()

    def start(self, call: ScriptCall[R]) -> asyncio.Future[R]:
        """Queue a script for this tick; the future holds its reply."""
        return self._queue(call.command, call)

    async def run(self, call: ScriptCall[R]) -> R:
        """Run a script and wait for its reply.

        Raises:
            StoreUnavailable, StoreFull, BackendError: the store did not run it, or its reply was lost.
        """
        return await self.start(call)

    async def read(self, *command: Arg) -> Any:
        """Run a plain command that only reads, with the scripts of this tick.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        return await self._queue(command, None)

    async def publish(self, channel: str, message: bytes) -> int:
        """Publish a message on a sharded channel, with the scripts of this tick; returns how many receive it.

        Raises:
            StoreUnavailable, BackendError: the store did not answer; the message may have been published.
        """
        return int(await self._queue(("SPUBLISH", channel, message), None))

    def _queue(self, command: tuple[Arg, ...], script: ScriptCall[Any] | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        call = _Call(command, script, loop.create_future())
        self._waiting.append(call)
        if not self._boarding and len(self._flights) < _FLIGHTS:
            self._boarding = True
            loop.call_soon(self._take_off)
        return call.reply

    def _take_off(self) -> None:
        self._boarding = False
        calls, self._waiting = self._waiting[:_SEATS], self._waiting[_SEATS:]
        if calls:
            flight = asyncio.get_running_loop().create_task(self._fly(calls))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        if self._waiting and not self._boarding:
            self._take_off()

    async def _fly(self, calls: list[_Call]) -> None:
        try:
            replies = await self._execute(calls)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                replies = await self._execute_with_text(calls, replies)
        except REDIS_ERRORS as error:
            replies = [error] * len(calls)
        except asyncio.CancelledError:
            for call in calls:
                call.reply.cancel()
            raise
        except Exception:  # noqa: BLE001 - one of the calls cannot be sent; the others can
            replies = [await self._alone(call) for call in calls]
        for call, reply in zip(calls, replies, strict=True):
            _settle(call, reply)

    async def _execute(self, calls: Sequence[_Call]) -> list[Any]:
        if len(calls) == 1:
            return [await self._one(calls[0].command)]
        async with self._client.pipeline(transaction=False) as pipe:
            for call in calls:  # not `pipe.evalsha`, which a cluster's pipeline refuses
                pipe.execute_command(*call.command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    async def _alone(self, call: _Call) -> Any:
        try:
            return (await self._execute_with_text([call], [await self._one(call.command)]))[0]
        except Exception as error:  # noqa: BLE001 - the error goes to the caller of this script
            return error

    async def _one(self, command: tuple[Arg, ...]) -> Any:
        try:
            return await self._client.execute_command(*command)
        except ResponseError as error:
            return error

    async def _execute_with_text(self, calls: list[_Call], replies: list[Any]) -> list[Any]:
        """Send the text of scripts that the server does not know, because they are new or it was restarted."""
        done = list(replies)
        for index, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, NoScriptError) and call.script is not None:
                done[index] = await self._one(call.script.command_with_text)
        return done


def _settle(call: _Call, reply: Any) -> None:
    if call.reply.done():  # its caller was cancelled
        return
    if isinstance(reply, BaseException):
        call.reply.set_exception(store_error(reply))
        return
    try:
        call.reply.set_result(reply if call.script is None else call.script.read(reply))
    except Exception as error:  # noqa: BLE001 - a reply that cannot be read fails its own call and no other
        call.reply.set_exception(error)
