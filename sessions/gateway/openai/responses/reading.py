"""Reads a response: as it is now, at its end, or event by event."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.client.fleet_client import FleetClient
from sessions.errors import NotFound, ResultTimeout, SessionfleetError, TurnFailed
from sessions.gateway.caller import Caller
from sessions.gateway.narration import Ended, asks_client, in_legs, typed_content
from sessions.gateway.openai.chat.stream import DONE
from sessions.gateway.openai.errors import in_stream
from sessions.gateway.openai.ids import ResponseRef
from sessions.gateway.openai.responses.responses import open_status
from sessions.gateway.openai.responses.stream import ResponseMaker, ended
from sessions.gateway.openai.turns import Leg
from sessions.gateway.streams import Data
from sessions.gateway.strict_json import written
from sessions.protocol.event import Event
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import split_turn_id


@dataclass(slots=True)
class Reading:
    """One response of a caller's."""

    client: FleetClient
    session: Session
    turn: Turn
    ref: ResponseRef

    @classmethod
    async def of(cls, caller: Caller, ref: ResponseRef) -> Reading:
        """The response that an id names.

        Raises:
            InvalidTurnId, SessionOwnerError, TurnNotFound.
        """
        session = caller.session(ref.session_id)
        return cls(caller.gateway.client, session, await session.aturn(ref.turn_id), ref)

    @classmethod
    def of_leg(cls, caller: Caller, leg: Leg) -> Reading:
        """The response that a request led to."""
        ref = ResponseRef(leg.session_id, split_turn_id(leg.turn.id)[1], leg.number)
        return cls(caller.gateway.client, caller.session(leg.session_id), leg.turn, ref)

    async def now(self) -> dict[str, Any]:
        """The response as it is now.

        Raises:
            NotFound: the turn has ended, or waits, before this response began.
        """
        record = await self.turn.arecord()  # before the events, so that it is not newer than they are
        maker, reached = await self._maker(), 0
        async with aclosing(in_legs(self.so_far(), asks_client)) as items:  # type: ignore[type-var]
            async for leg, item in items:
                reached = leg + ended(item)
                if leg < self.ref.leg:
                    maker.earlier(item)
                    continue
                async for _ in self._made(maker, item):
                    pass
                if ended(item):
                    return maker.response()
        if reached < self.ref.leg or record.status.final:
            raise NotFound(f"Response with id {str(self.ref)!r} not found.")
        maker.status = open_status(record)
        return maker.response()

    async def at_end(self) -> dict[str, Any]:
        """The response, once it has ended."""
        maker = await self._maker()
        async for _ in self._events(maker):
            pass
        return maker.response()

    async def events(self, request: Request, after: int = -1) -> AsyncGenerator[Data]:
        """The events after the one with this number, as they come.

        Args:
            request: the one that is answered.
            after: number of the last event that the reader has.
        """
        maker = await self._maker()
        try:
            async with aclosing(self._events(maker)) as events:
                async for event in events:
                    if event["sequence_number"] > after:
                        yield event["type"], written(event)
        except SessionfleetError as error:
            fields = in_stream(request, error)
            yield "error", written({**fields, "type": "error", "sequence_number": maker.sequence})
        yield None, DONE

    async def request(self) -> TurnRequest:
        """What was asked of its turn."""
        asked = self.client.session_turns.request(self.session.keys, self.ref.part)
        return await self.client.portal.acall(asked)

    async def settled(self, seconds: float) -> None:
        """Wait for the turn's end, whatever it is, for at most this long."""
        with suppress(ResultTimeout, TurnFailed):
            await self.turn.aresult(timeout=seconds)

    async def _maker(self) -> ResponseMaker:
        return ResponseMaker(self.ref, await self.turn.arecord(), await self.request())

    def so_far(self) -> AsyncIterator[Event]:
        """The events of its turn that there are now."""
        return self.client.portal.aiterate(self.client.session_turns.so_far(self.session.keys, self.ref.part))

    async def _events(self, maker: ResponseMaker) -> AsyncGenerator[dict[str, Any]]:
        for event in maker.begin():
            yield event
        async with aclosing(in_legs(self.turn.aevents(), asks_client)) as items:  # type: ignore[type-var]
            async for leg, item in items:
                if leg < self.ref.leg:
                    maker.earlier(item)
                    continue
                async for event in self._made(maker, item):
                    yield event
                if ended(item):
                    yield maker.last()
                    return
        raise NotFound(f"Response with id {str(self.ref)!r} not found.")

    async def _made(self, maker: ResponseMaker, item: Any) -> AsyncGenerator[dict[str, Any]]:
        if isinstance(item, Ended):
            record = await self.turn.arecord()
            for event in maker.end(record, typed_content(record) if record.result is not None else None):
                yield event
        else:
            for event in maker.feed(item):
                yield event
