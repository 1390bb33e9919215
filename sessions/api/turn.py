"""`Turn`: wait for a turn, follow its events, answer its calls or cancel it, from any process, by its id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from sessions.client.arguments.turns import OnDisconnect, cancels
from sessions.client.arguments.values import boolean
from sessions.client.attendance import read_or_cancel
from sessions.client.blocking import blocking, iterating
from sessions.client.output_type import OutputType
from sessions.client.portal import Portal
from sessions.client.ports import SessionClient, TurnCalls
from sessions.client.result import result_of
from sessions.errors import BadRequest
from sessions.protocol.call import CallAnswer
from sessions.protocol.event import Event
from sessions.protocol.finite import non_finite
from sessions.protocol.text import is_encodable
from sessions.protocol.turn import TurnStatus
from sessions.sse import KEEP_ALIVE, pieces
from sessions.store.calls import PendingCall
from sessions.store.keys import SessionKeys
from sessions.store.turns import TurnRecord


class Turn:
    """One accepted request of a session.

    Attributes:
        id: `<session>~<uuid>`; any other process can continue with `Session(session).turn(id)`.
    """

    def __init__(
        self,
        client: SessionClient,
        keys: SessionKeys,
        part: str,
        output: OutputType | None = None,
        user_id: str | None = None,
    ) -> None:
        self._client = client
        self._user_id = user_id
        self._keys = keys
        self._part = part
        self._output = output
        self.id = keys.public_id(part)

    def __repr__(self) -> str:
        return f"Turn({self.id!r})"

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        return self._client.portal

    @property
    def _turns(self) -> TurnCalls:
        """The part of the client that sends requests about turns."""
        return self._client.turns

    # --- its record -------------------------------------------------------------------------------------

    async def arecord(self) -> TurnRecord:
        """The stored record: status, attempt, times, worker, usage.

        Raises:
            TurnNotFound: it expired or was deleted.
        """
        return await self.portal.acall(self._turns.read(self._keys, self._part))

    record = blocking(arecord)

    @property
    def status(self) -> TurnStatus:
        """The current status; reads the store each time."""
        return self.record().status

    @property
    def attempt(self) -> int:
        """How often the turn was begun: 0 while it is queued, 2 after one crash or retry; reads the store each time."""
        return self.record().attempt

    # --- its result -------------------------------------------------------------------------------------

    async def aresult(self, timeout: float | None = None) -> Any:
        """Wait for the answer: a string, or an object of the agent's output type.

        Args:
            timeout: seconds to wait. It ends the wait, never the turn.

        Raises:
            ResultTimeout: it did not end in time (NoWorkerAlive: no worker serves its queue).
            TurnFailed: it ended without a result; the subclass says how.
            TurnNotFound: it expired or was deleted.
        """
        work = self._turns.wait(self._keys, self._part, timeout)
        return result_of(await self.portal.acall(work), self.id, self._output)

    result = blocking(aresult)

    # --- its stream -------------------------------------------------------------------------------------

    def aevents(self, after: str | None = None, *, on_disconnect: OnDisconnect = "continue") -> AsyncIterator[Event]:
        """Iterate over the turn's events, from the start or after the event with this id.

        Args:
            on_disconnect: "cancel" cancels the turn when the iteration is closed before its end (`aclosing`, or a
                cancelled task), and about 15 seconds after this process was killed. For the one who started the turn;
                other readers do not keep it alive.

        Raises:
            StaleCursor: `after` is beyond the end of the stream. BadRequest: there is no such `on_disconnect`.
        """
        if cancels(on_disconnect):
            return self.portal.aiterate(read_or_cancel(self._turns, self._keys, self._part, after, self._user_id))
        return self.portal.aiterate(self._turns.follow(self._keys, self._part, after))

    events = iterating(aevents)

    def aattend(self, after: str | None = None) -> AsyncIterator[Event]:
        """Iterate over the turn's events as a reader who may come back: a browser behind a web backend.

        The turn is cancelled 15 seconds after the last such reader has left, or was killed, and none has come back.

        Raises:
            As `aevents`.
        """
        return self.portal.aiterate(self._followed(after, attended=True))

    attend = iterating(aattend)

    async def asse(
        self,
        after: str | None = None,
        *,
        keep_alive: float = KEEP_ALIVE,
        full_errors: bool = False,
        on_disconnect: OnDisconnect = "continue",
    ) -> AsyncIterator[str] | None:
        """The turn's events as pieces of an SSE response; None if there are none after `after`: respond with 204.

        A browser's `EventSource` reads them, and sends the last id as `Last-Event-ID` when it reconnects. Each piece
        has an event's id and type, and its data as JSON. Send them as `sse.MEDIA_TYPE`, with `sse.HEADERS`.

        Args:
            after: id of the last event that the browser has seen.
            keep_alive: seconds of silence after which a comment is sent. It keeps proxies from closing the
                connection, and lets the server notice that the browser has disconnected.
            full_errors: for developers: errors as in the turn's record, which may quote providers and servers. By
                default they are those of `public_message`.
            on_disconnect: "cancel" cancels the turn 15 seconds after the browser has gone, unless it has reconnected.
                With several such readers the last one counts.

        Raises:
            TurnNotFound, StaleCursor, BackendError: all of them before the first piece.
        """
        attended = cancels(on_disconnect)
        if not await self.portal.acall(self._turns.has_events(self._keys, self._part, after)):
            return None
        events = self._followed(after, attended)
        return self.portal.aiterate(pieces(events, keep_alive, full_errors=full_errors))

    def sse(
        self,
        after: str | None = None,
        *,
        keep_alive: float = KEEP_ALIVE,
        full_errors: bool = False,
        on_disconnect: OnDisconnect = "continue",
    ) -> Iterator[str] | None:
        """The turn's events as pieces of an SSE response; see `asse`. Each reader occupies a thread."""
        attended = cancels(on_disconnect)
        if not self.portal.call(self._turns.has_events(self._keys, self._part, after)):
            return None
        events = self._followed(after, attended)
        return self.portal.iterate(pieces(events, keep_alive, full_errors=full_errors))

    def _followed(self, after: str | None, attended: bool) -> AsyncGenerator[Event]:
        if attended:
            return self._turns.attend(self._keys, self._part, after, self._user_id)
        return self._turns.follow(self._keys, self._part, after)

    # --- its pending calls: any process may answer them, once ----------------------------------------------

    async def aapprovals(self) -> list[PendingCall]:
        """The calls that the turn is waiting for."""
        return await self.portal.acall(self._turns.pending_calls(self._keys, self._part))

    approvals = blocking(aapprovals)

    async def aapprove(self, call_id: str, *, args: Mapping[str, Any] | None = None, always: bool = False) -> None:
        """Approve a call, optionally with other arguments. The turn continues when all its calls are answered.

        Args:
            always: further calls of this tool in the session need no approval, until `session.revoke_approval(tool)`.

        Raises:
            CallNotFound: the turn is not waiting for this call. CallAnswered: it was already answered differently.
            BadRequest: this kind of call cannot be answered in this way, or the arguments are not a JSON object.
        """
        await self._answer(call_id, _approval(args, always))

    approve = blocking(aapprove)

    async def adeny(self, call_id: str, reason: str = "") -> None:
        """Deny a call; the model receives the denial and the reason.

        Raises:
            As `aapprove`.
        """
        await self._answer(call_id, _denial(reason))

    deny = blocking(adeny)

    async def aprovide(self, call_id: str, result: Any) -> None:
        """Provide the result of a call; the model receives it as if the tool had returned it.

        Raises:
            As `aapprove`; BadRequest also if the result is not JSON.
        """
        await self._answer(call_id, _result(result))

    provide = blocking(aprovide)

    async def _answer(self, call_id: object, answer: CallAnswer) -> None:
        calls, call = self._turns, _call_id(call_id)
        await self.portal.acall(calls.answer_call(self._keys, self._part, call, answer, self._user_id))

    # --- its end ----------------------------------------------------------------------------------------

    async def acancel(self) -> TurnStatus:
        """Request cancellation; returns the status. A running turn is stopped at its worker, model request included."""
        return await self.portal.acall(self._turns.cancel(self._keys, self._part, self._user_id))

    cancel = blocking(acancel)


def _call_id(call_id: object) -> str:
    if not isinstance(call_id, str):
        raise BadRequest(f"call_id {call_id!r}: use the `call_id` of one of turn.approvals()")
    return call_id


def _approval(args: Mapping[str, Any] | None, always: object) -> CallAnswer:
    if args is not None and not isinstance(args, Mapping):
        raise BadRequest(f"args {args!r}: use a dict of the tool's arguments, or None for those of the model")
    own = None if args is None else dict(args)
    return _checked(CallAnswer.model_construct(action="approve", args=own, always=boolean("always", always)))


def _denial(reason: object) -> CallAnswer:
    if not isinstance(reason, str) or not is_encodable(reason):
        raise BadRequest(f"reason {reason!r}: use a string")
    return CallAnswer(action="deny", reason=reason)


def _result(result: Any) -> CallAnswer:
    return _checked(CallAnswer.model_construct(action="provide", result=result))


def _checked(answer: CallAnswer) -> CallAnswer:
    """The answer after a round trip through JSON, so that it contains plain values only."""
    if (found := non_finite(answer.args) or non_finite(answer.result)) is not None:
        raise BadRequest(f"an answer is stored as JSON, which cannot represent {found}")
    try:
        return CallAnswer.model_validate_json(answer.model_dump_json(warnings=False))
    except (PydanticSerializationError, ValidationError) as error:
        raise BadRequest(f"an answer is stored as JSON, and this one is not JSON: {error}") from error
