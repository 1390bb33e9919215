"""Keeps the index of a session's transcript up to date with its history.

    history -> the turns after the last indexed one -> passages -> vectors -> index -> record how far

The history is the truth: the index is derived from it, and can be at any point behind it. Positions in the history only
change when turns leave it. Those that another turn replaced are found in the branches; what left it otherwise is noted
in the lane (`progress`). Ids of points are derived from turn and passage, so that writing a turn twice is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.client.scopes import orphaned, session_name, user_name
from sessions.errors import BackendError, EmbeddingFailed, SessionBusy, TurnNotFound
from sessions.protocol.lanes import SEARCH_TTL
from sessions.protocol.transcript_requests import ForgetTranscript, IndexTranscript
from sessions.store.history import HistoryEntry
from sessions.store.history_store import HistoryStore, StoredBranch
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from workers.retrieval.index.names import transcript_collection
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import EmbeddingModel, IndexPoint, KnowledgeIndex, LexicalModel, Scope, Vector
from workers.retrieval.transcript.passages import Passage, Place, passages_of
from workers.retrieval.transcript.progress import Known, Progress, ProgressRecords

_log = get_logger(__name__)
_PAGE: Final = 16
_EMBED_BATCH: Final = 16
_TURNS_AT_ONCE: Final = 64
_NAMESPACE: Final = uuid.UUID("0c7b6a56-6e0f-5d4e-8f0d-6f2d3b9a1e55")


def transcript_scope(tenant: str, owner: str | None, session_id: str) -> Scope:
    """Whose a transcript is in the index: its owner's, so that one search covers all sessions of a user."""
    return Scope(tenant, f"turns:{session_name(session_id) if owner is None else user_name(owner)}")


@dataclass(frozen=True, slots=True)
class _Session:
    """A session as its record has it."""

    scope: Scope
    searchable: bool
    version: int


class TranscriptIndexing:
    """The operations that change the index. One per process."""

    def __init__(
        self,
        settings: Settings,
        store: Any,
        scripts: ScriptRunner,
        history: HistoryStore,
        progress: ProgressRecords,
        index: KnowledgeIndex,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
        operations: Operations,
    ) -> None:
        self._settings = settings
        self._store = store
        self._scripts = scripts
        self._history = history
        self._progress = progress
        self._index = index
        self._embedding = embedding
        self._lexical = lexical
        self._operations = operations

    async def update(self, op: OperationContext, _: IndexTranscript) -> dict[str, int]:
        """Bring the index up to date, in bounded steps that another worker can continue. Returns how many turns it did.

        Raises:
            IndexUnavailable, EmbeddingUnavailable: index or model cannot answer now.
            LeaseLost: another worker may do it now.
        """
        if await orphaned(self._store, op.keys):
            await self._empty(op)
        done = 0
        while done < _TURNS_AT_ONCE:
            session = await self._session(op.keys.home)
            if not session.searchable:
                await self._empty(op)
                return {"turns": done}
            progress = await self._without_departed(op, session, await self._begun(op, session))
            if progress is None:
                continue
            entries = await self._history.entries(op.keys.home, None, progress.turns, progress.turns + _PAGE - 1)
            if await self._changed(op.keys.home, session):
                continue  # turns have left the history meanwhile, so these may not be the ones that come next
            if not entries:
                return {"turns": done}
            await self._add(op, session.scope, progress, entries)
            done += len(entries)
        await self._hand_on(op)
        return {"turns": done}

    async def forget(self, op: OperationContext, request: ForgetTranscript) -> dict[str, int]:
        """Remove the session from the index. Returns how many passages there were."""
        if request.outlived and not await orphaned(self._store, op.keys):
            return {"passages": 0}
        return {"passages": await self._empty(op)}

    # --- steps ------------------------------------------------------------------------------------------

    async def _session(self, keys: SessionKeys) -> _Session:
        owner, searchable, version = await self._scripts.read(
            "HMGET", keys.meta, "owner", "searchable", "history_version"
        )
        scope = transcript_scope(keys.tenant, owner.decode() if owner else None, keys.session_id)
        return _Session(scope, searchable == b"1", int(version or 0))

    async def _begun(self, op: OperationContext, session: _Session) -> Known:
        """The record; a new one if the index has nothing of the session yet, or has it for another owner or model."""
        wanted = Progress(session.scope.name, transcript_collection(self._embedding.info))
        known = await self._progress.read(op.keys)
        if (has := known.progress) is not None and (has.scope, has.collection) == (wanted.scope, wanted.collection):
            return known
        await self._empty(op)
        branches = await self._history.listed(op.keys.home)
        wanted = replace(wanted, branch=branches[-1].id if branches else "")
        await self._progress.write(op.fields, wanted)  # before the index is written, so that it is found and removed
        return Known(wanted)

    async def _empty(self, op: OperationContext) -> int:
        known = await self._progress.read(op.keys)
        if known.progress is None:
            if known.notes:
                await self._progress.write(op.fields, None, known.notes)
            return 0
        op.fields.check_held()
        scope = Scope(op.keys.tenant, known.progress.scope)
        removed = await self._index.remove(known.progress.collection, scope, source=op.keys.home.session_id)
        await self._progress.write(op.fields, None, known.notes)
        return removed

    async def _changed(self, keys: SessionKeys, session: _Session) -> bool:
        return (await self._session(keys)).version != session.version

    async def _without_departed(self, op: OperationContext, session: _Session, known: Known) -> Progress | None:
        """Remove the turns that have left the history. Returns how far the index is then, or rather a bit less.

        None if the history has changed meanwhile, or the index must begin again: look again.
        """
        progress = known.progress
        assert progress is not None, "`_begun` has made it"  # noqa: S101
        branches = await self._history.listed(op.keys.home)
        seen = next((place for place, each in enumerate(branches, 1) if each.id == progress.branch), 0)
        if not (fresh := branches[seen:]) and not known.notes:
            return progress
        # Each deleted turn has moved those after it forward by one.
        places = (progress.turns, *known.cuts, *(branch.at for branch in fresh))
        kept = max(0, min(places) - len(known.gone))
        cut_off = progress.since(kept) if known.cuts else ()
        if cut_off is None:
            await self._empty(op)
            return None
        await self._remove(op, progress, [*known.gone, *cut_off, *await self._replaced(op.keys.home, fresh)])
        if await self._changed(op.keys.home, session):
            return None
        # Then it is uncertain at which positions the last ones were.
        done = replace(progress, turns=kept, recent=()) if known.gone else progress.shortened(kept)
        done = replace(done, branch=branches[-1].id if branches else done.branch)
        await self._progress.write(op.fields, done, known.notes)
        return done

    async def _replaced(self, keys: SessionKeys, branches: Sequence[StoredBranch]) -> list[str]:
        """The turns that left the history with these branches."""
        turns: list[str] = []
        for branch in branches:
            with contextlib.suppress(TurnNotFound):  # all of its turns were deleted just now
                last = branch.at + branch.turns - 1
                turns += [entry.turn for entry in await self._history.entries(keys, branch.id, branch.at, last)]
        return turns

    async def _remove(self, op: OperationContext, progress: Progress, turns: Sequence[str]) -> None:
        for turn in turns:
            op.fields.check_held()
            scope = Scope(op.keys.tenant, progress.scope)
            await self._index.remove(progress.collection, scope, source=op.keys.home.session_id, revision=turn)

    async def _add(
        self, op: OperationContext, scope: Scope, progress: Progress, entries: Sequence[HistoryEntry]
    ) -> None:
        """Index turns, and record how far the index is after each batch of passages."""
        session = op.keys.home
        limit = self._embedding.limit()
        parsed = await asyncio.to_thread(lambda: [(entry, passages_of(entry, session, limit)) for entry in entries])
        waiting: list[IndexPoint] = []
        for number, (entry, passages) in enumerate(parsed, 1):
            for batch in _batches(passages):
                waiting += await self._points(op, scope, progress.turns, entry, batch)
            progress = progress.extended(entry.turn)
            if len(waiting) >= _EMBED_BATCH or number == len(parsed):
                op.fields.check_held()
                await self._index.write(progress.collection, self._embedding.info, waiting, published=True)
                waiting = []
                await self._progress.write(op.fields, progress)

    async def _points(
        self, op: OperationContext, scope: Scope, position: int, entry: HistoryEntry, passages: Sequence[Passage]
    ) -> list[IndexPoint]:
        op.fields.check_held()
        vectors = await self._vectors([passage.text for passage in passages])
        return [
            IndexPoint(
                id=str(uuid.uuid5(_NAMESPACE, f"{op.keys.ref}\0{entry.turn}\0{passage.message}\0{passage.number}")),
                scope=scope,
                source=op.keys.home.session_id,
                revision=entry.turn,
                dense=vector,
                sparse=self._lexical.document(passage.text),
                payload=Place(entry.turn, position, passage.message, passage.role, passage.start, passage.end).dump(),
                at_ms=entry.at_ms,
            )
            for passage, vector in zip(passages, vectors, strict=True)
            if vector is not None
        ]

    async def _vectors(self, texts: Sequence[str]) -> list[Vector | None]:
        """The vectors of texts; None for a text that the model refuses, which then cannot be found."""
        try:
            return [*await self._embedding.embed_documents(texts)]
        except EmbeddingFailed as error:
            if len(texts) == 1:
                _log.warning("passage_not_indexed", error=str(error))
                return [None]
        return [vector for text in texts for vector in await self._vectors([text])]

    async def _hand_on(self, op: OperationContext) -> None:
        """Continue in another operation, so that searches of other sessions get their turn between the two."""
        try:
            await self._operations.submit(
                op.keys,
                IndexTranscript(),
                timeout=self._settings.ingest_timeout,
                idempotency_key=f"after:{op.part}",
                result_ttl=SEARCH_TTL,
            )
        except (SessionBusy, BackendError) as error:  # what waits in the lane, or the next turn, continues
            _log.info("transcript_continued_later", session=op.keys.home.ref, why=str(error))


def _batches(passages: Sequence[Passage]) -> Iterator[Sequence[Passage]]:
    for start in range(0, len(passages), _EMBED_BATCH):
        yield passages[start : start + _EMBED_BATCH]
