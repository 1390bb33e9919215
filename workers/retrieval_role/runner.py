"""Runs operations of the retrieval role: from the held turn of a lane to the operation's result.

`workers.retrieval` does the work. This module chooses the method for an operation and gives it the journal, events and
fields that it writes under the lease. A process that does not serve the queue `retrieval` loads no model and no index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from broker_config.settings import Settings
from sessions.errors import TurnConfigurationError, TurnFailed
from sessions.protocol.knowledge_requests import (
    AddKnowledge,
    CopyKnowledge,
    ReadKnowledge,
    Recall,
    RemoveKnowledge,
    SearchKnowledge,
)
from sessions.protocol.memory_requests import EmbedMemory, KeepFacts, SearchMemory
from sessions.protocol.operation import OperationRequest, OperationSpec
from sessions.protocol.transcript_requests import ForgetTranscript, IndexTranscript, SearchTranscript
from sessions.store.keys import SessionKeys
from sessions.store.leases import LeaseStore
from sessions.store.sealing import KeyRing
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal, persist
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.parts import RetrievalParts

_ABOUT_KNOWLEDGE = (AddKnowledge, SearchKnowledge, ReadKnowledge, RemoveKnowledge, CopyKnowledge)
_ABOUT_MEMORY = (SearchMemory, EmbedMemory, KeepFacts)
_ABOUT_TRANSCRIPTS = (SearchTranscript, IndexTranscript, ForgetTranscript)
_REQUESTS: dict[str, type[OperationRequest]] = {
    request.kind: request for request in (Recall, *_ABOUT_KNOWLEDGE, *_ABOUT_MEMORY, *_ABOUT_TRANSCRIPTS)
}


class LeasedFields:
    """The `FencedFields` of a lane, encrypted and written under the lease."""

    def __init__(self, leases: LeaseStore, keyring: KeyRing, held: HeldTurn) -> None:
        self._leases = leases
        self._keyring = keyring
        self._held = held

    async def write(self, kind: Literal["sources", "texts"], values: Mapping[str, str]) -> None:
        """Set or remove fields of the lane's `sources` or `texts`.

        Raises:
            LeaseLost: nothing was written.
        """
        held = self._held
        key = held.keys.texts if kind == "texts" else held.keys.sources
        encrypted = {
            field: self._keyring.seal(key, field, value.encode()) if value else b"" for field, value in values.items()
        }
        await persist(held, lambda: self._leases.note(held.keys, held.turn, kind, encrypted))

    def check_held(self) -> None:
        """Check that the lease has not expired by this process's clock. After a SIGSTOP, another worker may be at work.

        Raises:
            LeaseLost: it has.
        """
        self._held.check_held()


class RetrievalRunner:
    """Runs operations. One per worker process."""

    def __init__(self, settings: Settings, leases: LeaseStore, keyring: KeyRing, parts: RetrievalParts) -> None:
        self._settings = settings
        self._leases = leases
        self._keyring = keyring
        self._parts = parts

    async def run(self, held: HeldTurn, spec: OperationSpec, journal: LeasedJournal) -> Any:
        """Run an operation; returns its result as a JSON value.

        Raises:
            TurnFailed: it cannot be done.
            IndexUnavailable, EmbeddingUnavailable: it cannot be done now.
            LeaseLost: the lease was lost.
        """
        request = _read(spec)
        if request.direct:
            return await self._search(held.keys.home, request)
        op = self._context(held, journal)
        if isinstance(request, _ABOUT_MEMORY):
            return await self._on_memory(op, request)
        if isinstance(request, _ABOUT_TRANSCRIPTS):
            return await self._on_transcripts(op, request)
        return await self._on_knowledge(op, request)

    async def search(self, session: SessionKeys, spec: OperationSpec) -> Any:
        """Run a search for which there is no turn; returns its result as a JSON value.

        Args:
            session: the session, or user, in whose lane it would be otherwise.

        Raises:
            As `run`. TurnConfigurationError: it is not a search that can be done without a turn.
        """
        request = _read(spec)
        if not request.direct:
            raise TurnConfigurationError(f"the operation {spec.kind!r} needs a turn")
        return await self._search(session, request)

    async def _search(self, session: SessionKeys, request: OperationRequest) -> Any:
        match request:
            case Recall():
                return await self._recall(session, request)
            case SearchMemory():
                return await (await self._parts.memory()).search(session, request)
            case SearchKnowledge():
                return await (await self._parts.knowledge()).search.search(session.tenant, request)
            case SearchTranscript():
                return await (await self._parts.transcript()).search.search(session, request)
            case _:
                raise AssertionError(request.kind)

    async def _on_memory(self, op: OperationContext, request: OperationRequest) -> Any:
        memory = await self._parts.memory()
        match request:
            case KeepFacts():
                return await memory.keep(op, request)
            case EmbedMemory():
                return await memory.embed(op, request)
            case _:
                raise AssertionError(request.kind)

    async def _on_knowledge(self, op: OperationContext, request: OperationRequest) -> Any:
        knowledge = await self._parts.knowledge()
        match request:
            case AddKnowledge():
                return await knowledge.changes.add(op, request)
            case ReadKnowledge():
                return await knowledge.search.read(op, request)
            case RemoveKnowledge():
                return await knowledge.changes.remove(op, request)
            case CopyKnowledge():
                return await knowledge.changes.copy(op, request)
            case _:
                raise AssertionError(request.kind)

    async def _on_transcripts(self, op: OperationContext, request: OperationRequest) -> Any:
        transcript = await self._parts.transcript()
        match request:
            case IndexTranscript():
                return await transcript.index.update(op, request)
            case ForgetTranscript():
                return await transcript.index.forget(op, request)
            case _:
                raise AssertionError(request.kind)

    async def undo(self, held: HeldTurn, spec: OperationSpec, journal: LeasedJournal) -> None:
        """Remove what an unsuccessful operation has left in the index."""
        request = _read(spec)
        if isinstance(request, AddKnowledge | CopyKnowledge):
            await (await self._parts.knowledge()).changes.undo(self._context(held, journal), request)

    async def _recall(self, session: SessionKeys, request: Recall) -> dict[str, Any]:
        """Search memories and documents at the same time; both use one vector of the query (`QueryMemo`)."""
        memory = await self._parts.memory() if request.memory is not None else None
        knowledge = await self._parts.knowledge() if request.knowledge is not None else None
        searches: dict[str, asyncio.Task[list[dict[str, Any]]]] = {}
        if memory is not None and request.memory is not None:
            searches["memories"] = asyncio.create_task(memory.search(session, request.memory))
        if knowledge is not None and request.knowledge is not None:
            searches["passages"] = asyncio.create_task(knowledge.search.search(session.tenant, request.knowledge))
        try:
            return dict(zip(searches, await asyncio.gather(*searches.values()), strict=True))
        finally:
            for task in searches.values():  # after an error of one, or if this operation was cancelled
                task.cancel()

    def _context(self, held: HeldTurn, journal: LeasedJournal) -> OperationContext:
        fields = LeasedFields(self._leases, self._keyring, held)
        return OperationContext(held.keys, held.turn.part, journal, journal, fields, held.turn.first_started_ms)


def _read(spec: OperationSpec) -> OperationRequest:
    known = _REQUESTS.get(spec.kind)
    if known is None:
        raise TurnConfigurationError(f"this worker has no operation {spec.kind!r}; is it older than the client?")
    try:
        return known.model_validate(spec.body)
    except ValidationError as error:
        raise TurnFailed(f"this worker cannot read the request; is it older than the client? {error}") from error
