"""Searches the transcript of a session, or of all sessions of a user.

    query -> index -> places of passages -> the history's own texts -> the best, each once

A hit counts only if its turn is in the history now. So what was deleted, replaced, or has expired is never shown,
however far the index is behind, and a session that belongs to another user by now shows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.client.scopes import orphaned
from sessions.errors import BackendError, CorruptRecord, EmbeddingUnavailable, SealError, SessionBusy
from sessions.protocol.lanes import SEARCH_TTL, TRANSCRIPT
from sessions.protocol.transcript_requests import IndexTranscript, SearchTranscript
from sessions.protocol.turn import Policy
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.session_info import SessionInfo
from sessions.store.session_records import SessionRecords
from workers.retrieval.index.names import transcript_collection
from workers.retrieval.ports import EmbeddingModel, Hit, IndexQuery, KnowledgeIndex, LexicalModel, Scope
from workers.retrieval.transcript.indexing import transcript_scope
from workers.retrieval.transcript.passages import Place
from workers.retrieval.transcript.progress import ProgressRecords

_log = get_logger(__name__)
_AHEAD: Final = 3  # several passages of one message may be hits, and some hits may not count


@dataclass(frozen=True, slots=True)
class _Found:
    """A hit with what the history has in its place."""

    hit: Hit
    place: Place
    shown: dict[str, Any]

    @property
    def message(self) -> tuple[str, str, int]:
        """The message that it is a passage of."""
        return self.hit.source, self.place.turn, self.place.message


class Relevance:
    """Whether passages have to do with a query: they are as close to it as memories must be, or have a word of it."""

    def __init__(self, query: str, embedding: EmbeddingModel, lexical: LexicalModel) -> None:
        self._floor = embedding.scale(query).floor
        self._words = set(lexical.query(query).indices)
        self._lexical = lexical

    def of(self, text: str, similarity: float | None) -> bool:
        """True without a similarity, since the passage was found by its words then."""
        if similarity is None or similarity >= self._floor:
            return True
        return not self._words.isdisjoint(self._lexical.document(text).indices)


class TranscriptSearch:
    """The operation that searches. One per process."""

    def __init__(
        self,
        settings: Settings,
        store: Any,
        records: SessionRecords,
        history: HistoryStore,
        progress: ProgressRecords,
        index: KnowledgeIndex,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
        operations: Operations,
    ) -> None:
        self._settings = settings
        self._store = store
        self._records = records
        self._history = history
        self._progress = progress
        self._index = index
        self._embedding = embedding
        self._lexical = lexical
        self._operations = operations

    async def search(self, session: SessionKeys, request: SearchTranscript) -> list[dict[str, Any]]:
        """The messages that match best, as dicts; of equally good ones, the newest first.

        Args:
            session: where to search; if the request names a user, only its tenant counts.
        """
        if request.user is None:
            scope = await self._scope_of(session)
            hits = [] if scope is None else await self._hits(request, scope, (session.session_id,))
        else:
            hits = await self._hits(request, transcript_scope(session.tenant, request.user, ""), None)
        found = await self._resolved(session.tenant, hits, request)
        return [one.shown for one in _best(found, request.limit)]

    async def _scope_of(self, session: SessionKeys) -> Scope | None:
        """Where the index has the session; None if it has nothing yet. What is missing is indexed in the background."""
        lane = session.lane(TRANSCRIPT)
        if await orphaned(self._store, lane):
            return None
        known, turns = await asyncio.gather(self._progress.read(lane), self._history.length(session, None))
        has = known.progress
        current = has is not None and has.collection == transcript_collection(self._embedding.info)
        if has is None or not current or has.turns < turns:
            await self._catch_up(session)
        return Scope(session.tenant, has.scope) if has is not None and current else None

    async def _catch_up(self, session: SessionKeys) -> None:
        """Have the index follow the history, unless that is on its way: an earlier try may have failed for good."""
        info = await self._records.info(session)
        if info is None or not info.searchable:
            return
        lane, timeout = session.lane(TRANSCRIPT), self._settings.ingest_timeout
        try:
            await self._operations.submit(
                lane, IndexTranscript(), timeout=timeout, result_ttl=SEARCH_TTL, policy=Policy.REJECT
            )
        except SessionBusy:
            return
        except BackendError as error:
            _log.warning("transcript_not_followed", session=session.ref, error=str(error))

    async def _hits(self, request: SearchTranscript, scope: Scope, sources: Sequence[str] | None) -> list[Hit]:
        query = IndexQuery(
            dense=await self._vector(request.query),
            sparse=self._lexical.query(request.query),
            scopes=(scope,),
            limit=request.limit * _AHEAD,
            sources=sources,
            metadata={} if request.role is None else {"role": request.role},
            since_ms=request.since_ms,
            until_ms=request.until_ms,
            words=self._lexical.words(request.query),
            scale=self._embedding.scale(request.query),
        )
        info = self._embedding.info
        return await self._index.search(transcript_collection(info), info, query)

    async def _vector(self, query: str) -> list[float] | None:
        """None if the model cannot answer now: a search by words is better than none."""
        try:
            return await self._embedding.embed_query(query)
        except EmbeddingUnavailable as error:
            _log.warning("messages_found_by_words_alone", error=str(error))
            return None

    # --- from places to messages --------------------------------------------------------------------------

    async def _resolved(self, tenant: str, hits: Sequence[Hit], request: SearchTranscript) -> list[_Found]:
        names = dict.fromkeys(hit.source for hit in hits)
        keys = {name: SessionKeys.of(tenant, name, self._settings.partitions) for name in names}
        infos = dict(
            zip(names, await asyncio.gather(*(self._info(keys[name], request) for name in names)), strict=True)
        )
        found = await asyncio.gather(*(self._found(hit, keys[hit.source], infos[hit.source]) for hit in hits))
        relevance = Relevance(request.query, self._embedding, self._lexical)
        return [one for one in found if one is not None and relevance.of(one.shown["text"], one.hit.similarity)]

    async def _info(self, keys: SessionKeys, request: SearchTranscript) -> SessionInfo | None:
        """The session, if its messages may be shown."""
        try:
            info = await self._records.info(keys)
        except (SealError, CorruptRecord) as error:
            _log.warning("session_not_searched", session=keys.ref, error=str(error))
            return None
        if info is None or not info.searchable or request.user not in (None, info.user_id):
            return None
        return info

    async def _found(self, hit: Hit, keys: SessionKeys, info: SessionInfo | None) -> _Found | None:
        if info is None:
            return None
        place = Place.of(dict(hit.payload))
        try:
            entry = await self._history.entry(keys, place.turn, place.position)
            read = None if entry is None else place.read(entry, keys)
        except (SealError, CorruptRecord) as error:
            _log.warning("turn_not_searched", session=keys.ref, turn=place.turn, error=str(error))
            return None
        if read is None or entry is None:
            return None
        message, text = read
        shown = {
            "session_id": keys.session_id,
            "title": info.title,
            "turn_id": message.turn_id,
            "role": message.role,
            "text": text,
            "agent": message.agent,
            "at_ms": entry.at_ms,
            "user_id": message.user_id,
            "score": hit.score,
            "similarity": hit.similarity,
        }
        return _Found(hit, place, shown)


def _best(found: Sequence[_Found], limit: int) -> list[_Found]:
    """The best passage of each message, the best first. Equal texts are equally good, and then the newest is first."""
    scores: dict[str, float] = {}
    for one in found:
        text = one.shown["text"]
        scores[text] = max(scores.get(text, 0.0), one.hit.score)
    even = [replace(one, shown={**one.shown, "score": scores[one.shown["text"]]}) for one in found]
    ranked = sorted(even, key=lambda one: (one.shown["score"], one.shown["at_ms"], one.place.turn), reverse=True)
    first: dict[tuple[str, str, int], _Found] = {}
    for one in ranked:
        first.setdefault(one.message, one)
    return list(first.values())[:limit]
