"""Loads the Lua scripts and runs them; all scripts of one tick of the event loop travel in one round trip.

Each transition is one file in `lua/`. A line `--!include name` stands for a fragment in `lua/lib/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

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

_FLIGHTS: Final = 2
_SEATS: Final = 256
_INCLUDE: Final = "--!include "
_SCRIPTS: Final = resources.files(__package__) / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A transition of the protocol: its text with the includes filled in, and the digest that names it."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script of this name."""
    lines = (_SCRIPTS / f"{name}.lua").read_text("utf-8").splitlines()
    parts = [
        (_SCRIPTS / "lib" / f"{line.removeprefix(_INCLUDE)}.lua").read_text("utf-8")
        if line.startswith(_INCLUDE)
        else line
        for line in lines
    ]
    text = "\n".join(parts) + "\n"
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def script_names() -> tuple[str, ...]:
    """All scripts there are."""
    return tuple(sorted(p.name.removesuffix(".lua") for p in _SCRIPTS.iterdir() if p.name.endswith(".lua")))


Arg = str | bytes | int | float
Reply = list[Any]


@dataclass(slots=True)
class _Call:
    command: tuple[Arg, ...]
    script: Script | None
    reply: asyncio.Future[Any]


def store_error(error: BaseException) -> BackendError:
    """Our error for one of redis-py's."""
    if isinstance(error, OutOfMemoryError) or "maxmemory" in str(error):
        return StoreFull(f"the store is at its maxmemory: {error}. {StoreFull.__doc__}")
    if (hint := hint_for(error)) is not None:
        return StoreUnavailable(f"the store refuses commands for now; {hint} ({error})")
    if isinstance(error, AuthenticationError):
        return StoreUnavailable(
            f"the store refuses the user name or the password of REDIS_URL, whose special characters must be "
            f"percent-encoded ({error})"
        )
    if isinstance(error, NoPermissionError):
        return StoreUnsupported(f"the store's user lacks a right: {error}. docs/security.md has all that are needed")
    if isinstance(error, PASSING):
        return StoreUnavailable(f"{StoreUnavailable.__doc__} ({error})")
    return BackendError(f"the store refused: {error}")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for redis-py's, for a plain read within the block.

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
    """Runs scripts, and plain reads, on the store; gathers calls into few pipelines.

    Calls of one tick of the loop share a pipeline and keep their order. While `_FLIGHTS` pipelines are on their way
    the next calls wait for the first that lands: the busier a process, the larger the pipelines, because what a call
    costs here is mostly what redis-py does for each pipeline.
    """

    def __init__(self, client: AsyncStore) -> None:
        self._client = client
        self._waiting: list[_Call] = []
        self._boarding = False
        self._flights: set[asyncio.Task[None]] = set()

    def start(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> asyncio.Future[Reply]:
        """Queue a script for this tick; the future holds its reply."""
        wanted = script(name)
        return self._queue(("EVALSHA", wanted.sha, len(keys), *keys, *args), wanted)

    async def run(self, name: str, keys: Sequence[str], *args: Arg) -> Reply:
        """Run a script and wait for its reply.

        Raises:
            StoreUnavailable, StoreFull, BackendError: the store did not run it, or its reply was lost.
        """
        return await self.start(name, keys, args)

    async def read(self, *command: Arg) -> Any:
        """Run a plain command that only reads, with the scripts of this tick.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        return await self._queue(command, None)

    def _queue(self, command: tuple[Arg, ...], wanted: Script | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        call = _Call(command, wanted, loop.create_future())
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
                replies = await self._execute_anew(calls, replies)
        except REDIS_ERRORS as error:
            replies = [error] * len(calls)
        except asyncio.CancelledError:
            for call in calls:
                call.reply.cancel()
            raise
        except Exception:  # noqa: BLE001 - one of the calls cannot be sent, and that is no fault of the others'
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
            return (await self._execute_anew([call], [await self._one(call.command)]))[0]
        except Exception as error:  # noqa: BLE001 - whoever waits for this call must hear of it
            return error

    async def _one(self, command: tuple[Arg, ...]) -> Any:
        try:
            return await self._client.execute_command(*command)
        except ResponseError as error:
            return error

    async def _execute_anew(self, calls: list[_Call], replies: list[Any]) -> list[Any]:
        """The server does not know a script (it is new, or was restarted): send those with their text."""
        done = list(replies)
        for index, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, NoScriptError) and call.script is not None:
                done[index] = await self._one(("EVAL", call.script.text, *call.command[2:]))
        return done


def _settle(call: _Call, reply: Any) -> None:
    if call.reply.done():  # nobody waits any more
        return
    if isinstance(reply, BaseException):
        call.reply.set_exception(store_error(reply))
    else:
        call.reply.set_result(reply)
