"""`Prefer: wait=N` (RFC 7240): how long a caller wants to wait for a turn's end, and the turn as it is then."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Request, Response, status
from sse_starlette.sse import AppStatus
from starlette.requests import ClientDisconnect

from sessions.api.turn import Turn
from sessions.errors import GatewayStopping, ResultTimeout, TurnFailed
from sessions.gateway.resources import TurnResource

T = TypeVar("T")
LONGEST: Final = 300.0
_LOOK: Final = 0.5
"""Seconds after which a waiting request checks whether the gateway is stopping."""
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d+)\"?\s*(?=$|[,;])", re.IGNORECASE | re.ASCII)


def wait_of(prefer: str | None) -> float | None:
    """Seconds to wait; None if the caller does not say. Other preferences are ignored, as the RFC requires."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), LONGEST) if found else None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the caller of a request wants to wait, and where its turn is shown."""

    seconds: float | None
    request: Request
    response: Response

    async def show(
        self, turn: Turn, path: str, session_id: str, *, accepted: bool = False, approvals: bool = True
    ) -> TurnResource:
        """The turn as it is now, or at its end if that comes in time.

        Args:
            accepted: the response's status says that the turn was accepted, or 200 if it ended in time.
        """
        self.response.headers["Location" if accepted else "Content-Location"] = path
        if self.seconds is not None:
            with suppress(GatewayStopping):  # the turn as it is now is a good response
                await while_there(self.request, _ended_within(turn, self.seconds))
                self.response.headers["Preference-Applied"] = f"wait={self.seconds:g}"
        record = await turn.arecord()
        if accepted and self.seconds and record.status.final:
            self.response.status_code = status.HTTP_200_OK
        return TurnResource.of(record, turn.id, path, session_id, approvals=approvals)


async def _patience(
    request: Request,
    response: Response,
    prefer: Annotated[
        str | None,
        Header(description="`wait=N`: wait up to N seconds, at most 300, for its end.", examples=["wait=30"]),
    ] = None,
) -> Patience:
    return Patience(wait_of(prefer), request, response)


Wait = Annotated[Patience, Depends(_patience)]


async def _ended_within(turn: Turn, seconds: float) -> None:
    """Wait for a turn's end, whatever it is, for at most this long."""
    if seconds == 0:
        return
    try:
        await turn.aresult(timeout=seconds)
    except (ResultTimeout, TurnFailed):
        return


async def within(request: Request, seconds: float, work: Coroutine[Any, Any, T], turn: Turn) -> T:
    """Wait for something of a turn, as `while_there`, for at most this long.

    Raises:
        ResultTimeout: it took longer; the turn continues.
    """
    try:
        async with asyncio.timeout(seconds):
            return await while_there(request, work)
    except TimeoutError:
        raise ResultTimeout(f"turn {turn.id!r} has not answered within {seconds:g} s; it continues") from None


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for something for as long as the client is connected and the gateway is not stopping.

    Raises:
        ClientDisconnect: the client disconnected, and the wait has ended. GatewayStopping: likewise.
    """
    wanted, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        while not (wanted.done() or gone.done()):
            await asyncio.wait((wanted, gone), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
            if AppStatus.should_exit and not wanted.done():
                raise GatewayStopping
        if not wanted.done():
            raise ClientDisconnect
        return wanted.result()
    finally:
        wanted.cancel()
        gone.cancel()
        await asyncio.gather(wanted, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
