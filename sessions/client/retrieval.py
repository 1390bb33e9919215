"""Searches and documents: requests to the retrieval workers, in lanes next to a session's turns."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from sessions.client.admission import Admission
from sessions.client.admission_checks import start_hint
from sessions.client.connection import FleetConnection
from sessions.client.operations import output_of
from sessions.client.scopes import session_name
from sessions.client.turns import Turns
from sessions.errors import NoWorkerAlive, ResultTimeout
from sessions.protocol.knowledge_requests import CopyKnowledge, RemoveKnowledge
from sessions.protocol.lanes import KNOWLEDGE, SEARCH
from sessions.protocol.operation import OperationRequest
from sessions.protocol.turn import Policy
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.scripts import translated

_LOOK_AGAIN: Final = 0.25


class Retrieval:
    """Has searches run and documents added or removed. Its coroutines run on the portal's loop and nowhere else."""

    def __init__(self, connection: FleetConnection, admission: Admission, turns: Turns) -> None:
        self._connection = connection
        self._admission = admission
        self._turns = turns

    async def search(self, keys: SessionKeys, request: OperationRequest, *, timeout: float | None = None) -> Any:
        """Run a search in the session's search lane, and wait for what it finds.

        Args:
            timeout: seconds; SESSIONFLEET_RETRIEVAL_TIMEOUT when None.

        Raises:
            ResultTimeout: it took too long (NoWorkerAlive: no worker could run it). TurnFailed: it cannot be done.
        """
        await self._connection.open()
        await self._admission.refuse_when_full()
        patience = self._connection.settings.retrieval_timeout if timeout is None else timeout
        lane, part = keys.lane(SEARCH), new_turn_part()
        try:
            record = await self._connection.operations.search(lane, request, patience, part=part)
        except ResultTimeout:
            raise await self._turns.too_late(lane, part, patience) from None
        return output_of(record, lane)

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
        """Have an operation accepted that may take long; returns its id within the lane.

        Raises:
            SessionBusy, IdempotencyConflict, BackendError: nothing was accepted.
        """
        await self._connection.open()
        await self._admission.refuse_when_full()
        return await self._connection.operations.submit(
            lane, request, timeout=timeout, part=part, idempotency_key=idempotency_key, webhook=webhook
        )

    async def run(self, lane: SessionKeys, request: OperationRequest, timeout: float) -> Any:
        """Have an operation accepted and wait for what it returns.

        Raises:
            As `submit`. ResultTimeout: it did not end in time. TurnFailed: it could not be done.
        """
        part = await self.submit(lane, request, timeout=timeout)
        return output_of(await self._turns.wait(lane, part, timeout), lane)

    async def has_documents(self, lane: SessionKeys) -> bool:
        """Whether anything was ever added in this lane: if not, no worker is needed to say so."""
        await self._connection.open()
        with translated():
            return bool(await self._connection.stores.redis.exists(lane.meta))

    async def forget_documents(self, lane: SessionKeys, scope: str) -> dict[str, int]:
        """Remove all documents of a scope, and end what is being added to it; how many, with how many chunks.

        Raises:
            NoWorkerAlive: no worker could, and nothing was changed. ResultTimeout, TurnFailed: they were not removed.
        """
        if not await self.has_documents(lane):
            return {"documents": 0, "chunks": 0}
        patience = self._connection.settings.retrieval_timeout
        await self._await_worker(lane, patience)
        request = RemoveKnowledge(scope=scope)
        part = await self._connection.operations.submit(lane, request, timeout=patience, policy=Policy.ROLLBACK)
        removed = output_of(await self._turns.wait(lane, part, patience), lane)
        return {"documents": removed["sources"], "chunks": removed["chunks"]}

    async def _await_worker(self, lane: SessionKeys, patience: float) -> None:
        """Wait until a worker serves the lane (it may be starting), before anything is ended for its sake."""
        until = time.monotonic() + patience
        while True:
            queue, serving = await self._connection.serving(lane)
            if serving:
                return
            if time.monotonic() > until:
                hint = f"nothing was changed; {start_hint(queue)}"
                raise NoWorkerAlive(f"no worker serves the queue {queue!r}, so no document can be removed: {hint}")
            await asyncio.sleep(_LOOK_AGAIN)

    async def copy_documents(self, keys: SessionKeys, to: SessionKeys) -> None:
        """Give a session a copy of another session's own documents, if it has any.

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
        output_of(await self._turns.wait(lane, part, settings.retrieval_timeout), lane)
