"""Runs operations of the retrieval role: from a held turn of a lane to what it came to.

What is done is in `workers.retrieval`; this says which of it an operation means, and gives it its lease's journal,
its events and its fields. A process that does not serve the queue `retrieval` makes none of the heavy parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from broker_config.settings import Settings
from sessions.errors import TurnConfigurationError, TurnFailed
from sessions.protocol.knowledge_requests import AddKnowledge, CopyKnowledge, Recall, RemoveKnowledge, SearchKnowledge
from sessions.protocol.memory_requests import EmbedMemory, KeepFacts, SearchMemory
from sessions.protocol.operation import OperationRequest, OperationSpec
from sessions.store.leases import LeaseStore
from sessions.store.sealing import KeyRing
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal, persist
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.parts import RetrievalParts

_ABOUT_KNOWLEDGE = (AddKnowledge, SearchKnowledge, RemoveKnowledge, CopyKnowledge)
_REQUESTS: dict[str, type[OperationRequest]] = {
    request.kind: request for request in (Recall, *_ABOUT_KNOWLEDGE, SearchMemory, EmbedMemory, KeepFacts)
}


class LeasedFields:
    """FencedFields of documents, sealed, and written under the lease."""

    def __init__(self, leases: LeaseStore, ring: KeyRing, held: HeldTurn) -> None:
        self._leases = leases
        self._ring = ring
        self._held = held

    async def write(self, kind: Literal["sources", "texts"], values: Mapping[str, str]) -> None:
        """Set or remove fields of the lane's `sources` or `texts`.

        Raises:
            LeaseLost: nothing was written.
        """
        held = self._held
        key = held.keys.texts if kind == "texts" else held.keys.sources
        sealed = {
            field: self._ring.seal(key, field, value.encode()) if value else b"" for field, value in values.items()
        }
        await persist(held, lambda: self._leases.note(held.keys, held.turn, kind, sealed))

    def check_held(self) -> None:
        """Refuse to go on once the lease is over by our clock, as after SIGSTOP: others may be at work.

        Raises:
            LeaseLost: it is.
        """
        self._held.check_held()


class RetrievalRunner:
    """One per worker process."""

    def __init__(self, settings: Settings, leases: LeaseStore, ring: KeyRing, parts: RetrievalParts) -> None:
        self._settings = settings
        self._leases = leases
        self._ring = ring
        self._parts = parts

    async def run(self, held: HeldTurn, spec: OperationSpec, journal: LeasedJournal) -> Any:
        """Do what an operation asks; returns its result, JSON.

        Raises:
            TurnFailed: it cannot be done. IndexUnavailable, EmbeddingUnavailable: not now. LeaseLost.
        """
        request = _read(spec)
        op = self._operating(held, journal)
        match request:
            case Recall():
                return await self._recall(op, request)
            case SearchMemory():
                return await (await self._parts.memory()).search(op, request)
            case KeepFacts():
                return await (await self._parts.memory()).keep(op, request)
            case EmbedMemory():
                return await (await self._parts.memory()).embed(op, request)
            case AddKnowledge():
                return await (await self._parts.knowledge()).add(op, request)
            case SearchKnowledge():
                return await (await self._parts.knowledge()).search(op, request)
            case RemoveKnowledge():
                return await (await self._parts.knowledge()).remove(op, request)
            case CopyKnowledge():
                return await (await self._parts.knowledge()).copy(op, request)
            case _:
                raise AssertionError(request.kind)

    async def undo(self, held: HeldTurn, spec: OperationSpec, journal: LeasedJournal) -> None:
        """Remove what an operation left behind that ended without success."""
        request = _read(spec)
        if isinstance(request, AddKnowledge | CopyKnowledge):
            await (await self._parts.knowledge()).undo(self._operating(held, journal), request)

    async def _recall(self, op: OperationContext, request: Recall) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if request.memory is not None:
            found["memories"] = await (await self._parts.memory()).search(op, request.memory)
        if request.knowledge is not None:
            found["passages"] = await (await self._parts.knowledge()).search(op, request.knowledge)
        return found

    def _operating(self, held: HeldTurn, journal: LeasedJournal) -> OperationContext:
        fields = LeasedFields(self._leases, self._ring, held)
        return OperationContext(held.keys, held.turn.part, journal, journal, fields, held.turn.first_started_ms)


def _read(spec: OperationSpec) -> OperationRequest:
    known = _REQUESTS.get(spec.kind)
    if known is None:
        raise TurnConfigurationError(f"this worker knows no operation {spec.kind!r}; is it older than the client?")
    try:
        return known.model_validate(spec.body)
    except ValidationError as error:
        raise TurnFailed(f"this worker cannot read the request; is it older than the client? {error}") from error
