"""Searches and documents: requests to the retrieval workers, in lanes of a session, user or base."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from sessions.client.admission import Admission
from sessions.client.admission_checks import start_hint
from sessions.client.connection import FleetConnection
from sessions.client.operations import operation_result
from sessions.client.scopes import session_name
from sessions.client.turns import Turns
from sessions.errors import NoWorkerAlive, ResultTimeout
from sessions.protocol.knowledge_requests import CopyKnowledge, RemoveKnowledge
from sessions.protocol.lanes import KNOWLEDGE, SEARCH, TRANSCRIPT
from sessions.protocol.operation import OperationRequest
from sessions.protocol.transcript_requests import ForgetTranscript
from sessions.protocol.turn import Policy
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.scripts import translated

_POLL_SECONDS: Final = 0.25


class Retrieval:
    """Runs searches, adds and removes documents. Its coroutines run on the portal's event loop only."""

    def __init__(self, connection: FleetConnection, admission: Admission, turns: Turns) -> None:
        self._connection = connection
        self._admission = admission
        self._turns = turns

    async def search(self, keys: SessionKeys, request: OperationRequest, *, timeout: float | None = None) -> Any:
        """Run a search, directly or in the session's search lane, and wait for its result.

        Args:
            timeout: seconds; None for SESSIONFLEET_RETRIEVAL_TIMEOUT.

        Raises:
            ResultTimeout: it did not end in time (NoWorkerAlive: no worker serves its queue). TurnFailed: it failed.
        """
        await self._connection.open()
        await self._admission.refuse_when_full()
        seconds = self._connection.settings.retrieval_timeout if timeout is None else timeout
        lane, part = keys.lane(SEARCH), new_turn_part()
        try:
            return await self._connection.operations.search(lane, request, seconds, part=part)
        except ResultTimeout as error:
            if "turn_id" not in error.detail:  # it was no turn
                raise
            raise await self._turns.timeout_error(lane, part, seconds) from None

    async def submit(
        self,
        lane: SessionKeys,
        request: OperationRequest,
        *,
        timeout: float,
        part: str | None = None,
        idempotency_key: str | None = None,
        webhook: str = "",
    ) -> str:
        """Submit an operation and return at once; returns its id within the lane.

        Raises:
            SessionBusy, IdempotencyConflict, BackendError: nothing was accepted.
        """
        await self._connection.open()
        await self._admission.refuse_when_full()
        return await self._connection.operations.submit(
            lane, request, timeout=timeout, part=part, idempotency_key=idempotency_key, webhook=webhook
        )

    async def run(self, lane: SessionKeys, request: OperationRequest, timeout: float) -> Any:
        """Submit an operation and wait for its result.

        Raises:
            As `submit`. ResultTimeout: it did not end in time. TurnFailed: it failed.
        """
        return await self._result(lane, await self.submit(lane, request, timeout=timeout), timeout)

    async def _result(self, lane: SessionKeys, part: str, timeout: float) -> Any:
        return operation_result(await self._turns.wait(lane, part, timeout), lane)

    async def has_documents(self, lane: SessionKeys) -> bool:
        """Whether any document was ever added in this lane. If not, callers need no worker."""
        await self._connection.open()
        with translated():
            return bool(await self._connection.stores.redis.exists(lane.meta))

    async def forget_documents(self, lane: SessionKeys, scope: str) -> dict[str, int]:
        """Remove all documents of a scope, and cancel those being added; returns the number of documents and chunks.

        Raises:
            NoWorkerAlive: no worker serves the queue, and nothing was changed. ResultTimeout, TurnFailed: they were not
                removed.
        """
        if not await self.has_documents(lane):
            return {"documents": 0, "chunks": 0}
        timeout = self._connection.settings.retrieval_timeout
        await self._await_worker(lane, timeout)
        request = RemoveKnowledge(scope=scope)
        part = await self._connection.operations.submit(lane, request, timeout=timeout, policy=Policy.ROLLBACK)
        removed = await self._result(lane, part, timeout)
        return {"documents": removed["sources"], "chunks": removed["chunks"]}

    async def has_transcript(self, keys: SessionKeys) -> bool:
        """Whether the index may have something of the session's transcript, or is about to."""
        await self._connection.open()
        lane = keys.lane(TRANSCRIPT)
        with translated():
            return bool(await self._connection.stores.redis.exists(lane.sources, lane.lease))

    async def await_worker_for_transcript(self, keys: SessionKeys) -> None:
        """If the index has something of the session, wait for a worker that can remove it.

        Raises:
            NoWorkerAlive: no worker serves the queue, and nothing was changed.
        """
        if await self.has_transcript(keys):
            await self._await_worker(keys.lane(TRANSCRIPT), self._connection.settings.retrieval_timeout)

    async def forget_transcript(self, keys: SessionKeys) -> int:
        """Remove a deleted session from the index; returns the number of passages.

        Raises:
            NoWorkerAlive, ResultTimeout, TurnFailed: they were not removed yet; retrieval workers will do it.
        """
        if not await self.has_transcript(keys):
            return 0
        lane, timeout = keys.lane(TRANSCRIPT), self._connection.settings.retrieval_timeout
        request = ForgetTranscript()
        part = await self._connection.operations.submit(lane, request, timeout=timeout, policy=Policy.ROLLBACK)
        return int((await self._result(lane, part, timeout))["passages"])

    async def _await_worker(self, lane: SessionKeys, timeout: float) -> None:
        """Wait until a worker serves the lane (it may be starting), before anything in the lane is cancelled."""
        until = time.monotonic() + timeout
        while True:
            queue, serving = await self._connection.serving(lane)
            if serving:
                return
            if time.monotonic() > until:
                hint = f"nothing was changed; {start_hint(queue)}"
                raise NoWorkerAlive(f"no worker serves the queue {queue!r}, so the index cannot be changed: {hint}")
            await asyncio.sleep(_POLL_SECONDS)

    async def copy_documents(self, keys: SessionKeys, to: SessionKeys) -> None:
        """Copy a session's own documents, if it has any, to another session.

        Raises:
            ResultTimeout, NoWorkerAlive, TurnFailed: they could not be copied.
        """
        with translated():
            if not await self._connection.stores.redis.exists(keys.lane(KNOWLEDGE).sources):
                return
        settings = self._connection.settings
        request = CopyKnowledge(scope=session_name(to.session_id), origin=session_name(keys.session_id))
        lane = to.lane(KNOWLEDGE)
        part = await self._connection.operations.submit(lane, request, timeout=settings.ingest_timeout)
        await self._result(lane, part, settings.retrieval_timeout)
