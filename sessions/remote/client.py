"""One session's requests to a gateway: a client for `Agent` and `Turn`, like the fleet's own, over HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httpx

from sessions.client.portal import Portal
from sessions.client.ports import TurnDefaults
from sessions.client.timeout_message import timeout_message
from sessions.errors import RemoteError, RemoteTimeout, ResultTimeout, SessionfleetError
from sessions.protocol.call import CallAnswer
from sessions.protocol.event import Event
from sessions.protocol.turn import TurnStatus
from sessions.remote.address import segment
from sessions.remote.server import RemoteServer
from sessions.remote.stream import EventStream
from sessions.remote.uploads import with_stored
from sessions.remote.wire import GATEWAY_DEFAULT, parsing, turn_body, turn_record
from sessions.store.calls import PendingCall
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord

_LONGEST_WAIT: Final = 20.0
"""Seconds that one request waits for a turn's end. Proxies cut longer requests, and a dead gateway must be noticed."""
_SLACK: Final = 15.0
_POLL: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What `Agent` reads from a fleet's settings: here, the gateway's own settings apply."""

    turn_timeout: float = GATEWAY_DEFAULT
    approval_timeout: float = GATEWAY_DEFAULT


class RemoteClient:
    """Sends one session's requests to a gateway. Its coroutines run on the portal's event loop only."""

    settings: ClassVar[TurnDefaults] = _Defaults()

    def __init__(self, server: RemoteServer, session_id: str, user_id: str | None) -> None:
        self.server = server
        self.session_id = session_id
        self._user_id = user_id

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        return self.server.network.portal

    @property
    def turns(self) -> RemoteTurns:
        """The session's turns."""
        return RemoteTurns(self)

    def keys(self, session_id: str, tenant: str | None = None) -> SessionKeys:
        """The id of a session or lane as keys. Only the gateway knows its tenant and partition."""
        return SessionKeys.from_id(tenant or "remote", session_id, 1)

    async def require_gateway(self) -> None:
        """Check that the server is a gateway.

        Raises:
            RemoteUnsupported: it is not.
        """
        await self.server.require_gateway(self.server.timeout)

    async def create(self, body: dict[str, Any]) -> bool:
        """Create the session; False if it already existed."""
        response = await self.server.api("POST", "/sessions", user=self._user_id, json=body)
        return response.status_code == HTTPStatus.CREATED

    async def api(self, method: str, path: str = "", **options: Any) -> Any:
        """Send a request about this session; returns its JSON response, None if that has no body.

        Args:
            path: after the session's path.
            options: of `RemoteServer.api`.

        Raises:
            RemoteError, or the class that the gateway's problem names.
        """
        return await self.of_all(method, f"{self.home}{path}", **options)

    async def of_all(self, method: str, path: str, **options: Any) -> Any:
        """Like `api`, for a path that is not of this session; it begins after `/v1`."""
        response = await self.server.api(method, path, user=self._user_id, **options)
        if not response.content:
            return None
        with parsing("answer"):
            return response.json()

    async def download(self, path: str) -> bytes:
        """The content at a path of the session's.

        Raises:
            RemoteError, or the class that the gateway's problem names.
        """
        response = await self.server.api("GET", f"{self.home}{path}", user=self._user_id)
        return response.content

    async def api_or_none(self, method: str, path: str = "", **options: Any) -> Any:
        """Like `api`, but returns None if the resource does not exist."""
        return await self._api_or(None, method, path, **options)

    async def api_found(self, method: str, path: str) -> bool:
        """Like `api`, but returns whether the resource existed."""
        missing = object()
        return await self._api_or(missing, method, path) is not missing

    async def _api_or(self, default: Any, method: str, path: str, **options: Any) -> Any:
        try:
            return await self.api(method, path, **options)
        except SessionfleetError as error:
            # A RemoteError is a 404 without one of our classes: the path itself does not exist, for instance at a proxy
            # that does not forward /v1. It says nothing about the resource.
            if error.detail.get("status") != HTTPStatus.NOT_FOUND or isinstance(error, RemoteError):
                raise
            return default

    @property
    def home(self) -> str:
        """The session's path, after `/v1`."""
        return f"/sessions/{segment(self.session_id)}"

    def headers(self) -> httpx.Headers:
        """The headers of a request that does not go through `RemoteServer.api`."""
        return self.server.request_headers(x_user_id=self._user_id)


class RemoteTurns:
    """A session's turns at a gateway: `TurnCalls` over HTTP."""

    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    def check_message(self, message: str) -> None:
        """Does nothing: the gateway's settings limit the size of a message."""

    # --- submit ---------------------------------------------------------------------------------------------

    async def submit(self, keys: SessionKeys, submission: Submission) -> str:
        """Submit a turn; returns its id within the session. Retries have the same idempotency key.

        Raises:
            BadRequest, IdempotencyConflict, SessionBusy, SessionOwnerError, BackendError: nothing was accepted.
        """
        return (await self._accept(submission, 0.0)).part

    async def run(self, keys: SessionKeys, submission: Submission) -> TurnRecord:
        """Submit a turn and wait for its end, until shortly after its deadline.

        Raises:
            As `submit` and `wait`.
        """
        record = await self._accept(submission, _LONGEST_WAIT)
        if record.status.final:
            return record
        timeout = None if submission.timeout == GATEWAY_DEFAULT else submission.delay + submission.timeout + _SLACK
        return await self.wait(keys, record.part, timeout, waiting_counts=False)

    async def run_within(self, keys: SessionKeys, submission: Submission, seconds: float) -> TurnRecord:
        """Submit a turn and wait for its end, for this many seconds in total.

        Raises:
            ResultTimeout: it did not end in time. RemoteTimeout: it is unknown whether it was accepted.
        """
        until = time.monotonic() + seconds
        record = await self._accept(submission, min(_LONGEST_WAIT, max(0.0, math.floor(seconds - 1))), within=seconds)
        if record.status.final:
            return record
        return await self.wait(keys, record.part, until - time.monotonic())

    async def _accept(self, submission: Submission, wait: float, within: float | None = None) -> TurnRecord:
        extra = None if within is None else within - wait
        submission = await with_stored(self._client, submission)
        path = "/turns" if submission.replacement is None else "/regenerate"
        body, key = turn_body(submission, self._client.session_id), submission.idempotency_key
        return _record(await self._client.api("POST", path, json=body, key=key, wait=wait, within=extra))

    # --- wait and read --------------------------------------------------------------------------------------

    async def read(self, keys: SessionKeys, part: str) -> TurnRecord:
        """The record of a turn.

        Raises:
            TurnNotFound: it expired or was deleted.
        """
        return _record(await self._client.api("GET", _path(keys, part)))

    async def wait(
        self, keys: SessionKeys, part: str, timeout: float | None, *, waiting_counts: bool = True
    ) -> TurnRecord:
        """Wait for a turn's end.

        Args:
            timeout: seconds; None for no limit.
            waiting_counts: whether the timeout includes the time for which the turn waits for people.

        Raises:
            ResultTimeout: it did not end in time; it continues.
        """
        record: TurnRecord | None = None
        until = math.inf if timeout is None else time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            try:
                record = await self._poll(_path(keys, part), left)
            except RemoteTimeout:
                if time.monotonic() < until:  # the server did not respond; otherwise it is our own timeout
                    raise
                break
            if record.status.final:
                return record
            if record.status is TurnStatus.WAITING and not waiting_counts and timeout is not None:
                until = time.monotonic() + timeout
        turn = keys.public_id(part)
        raise ResultTimeout(timeout_message(turn, timeout or 0.0, record), turn_id=turn)

    async def _poll(self, path: str, left: float) -> TurnRecord:
        """Wait for a turn's end for as long as one request may take, and no longer than `left`."""
        whole = math.floor(min(left, _LONGEST_WAIT))
        record = _record(
            await self._client.api("GET", path, wait=whole, within=min(self._client.server.timeout, left - whole))
        )
        if not whole and not record.status.final:
            await asyncio.sleep(_POLL)  # `Prefer: wait` only has whole seconds
        return record

    async def follow(self, keys: SessionKeys, part: str, after: str | None) -> AsyncGenerator[Event]:
        """All events of a turn after a cursor, as they come, up to the last one.

        Raises:
            StaleCursor, TurnNotFound; RemoteError: the stream could not be resumed within the session's timeout.
        """
        await self._client.require_gateway()
        async with aclosing(self._stream(keys, part, after).events()) as events:
            async for event in events:
                yield event

    async def attend(
        self, keys: SessionKeys, part: str, after: str | None, user_id: str | None = None
    ) -> AsyncGenerator[Event]:
        """`follow` as a reader whose absence cancels the turn. The gateway notices when this process has gone."""
        await self._client.require_gateway()
        async with aclosing(self._stream(keys, part, after, on_disconnect="cancel").events()) as events:
            async for event in events:
                yield event

    async def has_events(self, keys: SessionKeys, part: str, after: str | None) -> bool:
        """Whether there are events after a cursor, or will be.

        Raises:
            TurnNotFound, StaleCursor, RemoteError.
        """
        await self._client.require_gateway()
        return await self._stream(keys, part, after).any()

    def _stream(self, keys: SessionKeys, part: str, after: str | None, **params: str) -> EventStream:
        path = _path(keys, part)
        url = self._client.server.address.api(f"{self._client.home}{path}/events").copy_merge_params(params)
        return EventStream(
            self._client.server, url, self._client.headers, after, alive=lambda: self._client.api("GET", path)
        )

    async def cancel(self, keys: SessionKeys, part: str, user_id: str | None = None) -> TurnStatus:
        """Cancel a turn; the status now. The gateway checks the user whom the session's requests name."""
        return _record(await self._client.api("POST", f"{_path(keys, part)}/cancel")).status

    async def pending_calls(self, keys: SessionKeys, part: str) -> list[PendingCall]:
        """The calls that a turn waits for."""
        answer = await self._client.api("GET", f"{_path(keys, part)}/approvals")
        with parsing("pending calls"):
            return [PendingCall(**call) for call in answer["approvals"]]

    async def answer_call(
        self, keys: SessionKeys, part: str, call_id: str, answer: CallAnswer, user_id: str | None = None
    ) -> None:
        """Answer a call that a turn waits for. Repeating the same answer has no effect.

        Raises:
            CallNotFound, CallAnswered, BadRequest, TurnNotFound: see `Turn.aapprove`.
        """
        path = f"{_path(keys, part)}/approvals/{segment(call_id)}"
        await self._client.api("POST", path, json=answer.model_dump(mode="json", exclude={"v"}, exclude_defaults=True))


def _path(keys: SessionKeys, part: str) -> str:
    """A turn's path after its session's; turns in lanes are operations."""
    return f"/{'operations' if keys.is_lane else 'turns'}/{segment(keys.public_id(part))}"


def _record(resource: Any) -> TurnRecord:
    with parsing("turn"):
        return turn_record(split_turn_id(resource["id"])[1], resource)
