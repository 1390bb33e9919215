"""Operations on knowledge that crash at a chosen step. As after kill -9, only the store and the index remain."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from broker_config.settings import Settings
from sessions.client.scopes import lane_of, session_name
from sessions.protocol.knowledge_requests import AddKnowledge, RemoveKnowledge, SearchKnowledge
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.sealing import KeyRing
from tests.support.retrieval_doubles import WordEmbedding, WordLexical
from workers.engine.ports import EventDraft, LeaseLost
from workers.retrieval.index.names import default_collection
from workers.retrieval.knowledge.operations import KnowledgeOperations
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import IndexPoint, IndexQuery, KnowledgeIndex, Scope


class Killed(BaseException):
    """The simulated end of the process; no cleanup runs."""


class CrashPoint:
    """Counts the changes of store and index, and simulates a crash after `after` of them; None: never."""

    def __init__(self) -> None:
        self.after: int | None = None
        self.done: list[str] = []

    def disarm(self) -> None:
        """Crash no more, and start counting again."""
        self.after, self.done = None, []

    def check(self) -> None:
        """Crash if the count is reached."""
        if self.after is not None and len(self.done) >= self.after:
            raise Killed

    async def run(self, name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        """Make a change, and crash immediately after it if the count is reached."""
        self.check()
        result = await effect()
        self.done.append(name)
        self.check()
        return result


class CrashingIndex:
    """A KnowledgeIndex whose changes are counted."""

    def __init__(self, index: KnowledgeIndex, crash: CrashPoint) -> None:
        self._index = index
        self._crash = crash

    async def write(self, collection: str, model: Any, points: Sequence[IndexPoint]) -> None:
        await self._crash.run("write", lambda: self._index.write(collection, model, points))

    async def publish(self, collection: str, scope: Scope, source: str, revision: str) -> None:
        await self._crash.run("publish", lambda: self._index.publish(collection, scope, source, revision))

    async def remove(self, collection: str, scope: Scope, **which: Any) -> int:
        removed: int = await self._crash.run("remove", lambda: self._index.remove(collection, scope, **which))
        return removed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)


class CrashingJournal:
    """A journal and event sink that survive the simulated crash, like those in the store."""

    def __init__(self, crash: CrashPoint) -> None:
        self._crash = crash
        self.steps: dict[str, bytes] = {}

    def lookup(self, key: str) -> bytes | None:
        return self.steps.get(key)

    async def record(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        async def write() -> None:
            self.steps[key] = value

        await self._crash.run(key, write)

    async def emit(self, events: Sequence[EventDraft]) -> None:
        self._crash.check()


class CrashingFields:
    """`FencedFields` in the real store. `lost` simulates a lease that has expired."""

    def __init__(self, store: Any, lane: SessionKeys, crash: CrashPoint) -> None:
        self._store = store
        self._lane = lane
        self._crash = crash
        self.lost = False

    def check_held(self) -> None:
        if self.lost:
            raise LeaseLost

    async def write(self, kind: str, values: Mapping[str, str]) -> None:
        self.check_held()

        async def write() -> None:
            key = self._lane.sources if kind == "sources" else self._lane.texts
            for name, value in values.items():
                await (self._store.hset(key, name, value) if value else self._store.hdel(key, name))

        await self._crash.run(f"note {kind}", write)


class Bench:
    """Operations on the documents of one scope, and what they leave behind."""

    def __init__(self, settings: Settings, store: Any, index: KnowledgeIndex) -> None:
        self.crash = CrashPoint()
        self.settings = settings
        self.store = store
        self.embedding = WordEmbedding()
        self.lexical = WordLexical()
        self.start(index)
        self.scope = session_name(f"crash-{uuid.uuid4().hex[:8]}")
        self.lane = lane_of(settings.tenant, self.scope, settings.partitions)
        self.collection = default_collection(self.embedding.info)

    def start(self, index: KnowledgeIndex) -> None:
        """Begin as a new process: nothing is known but what store and index have."""
        crashing: Any = CrashingIndex(index, self.crash)
        self.index = index
        models = self.embedding, self.lexical
        self.knowledge = KnowledgeOperations(self.settings, self.store, KeyRing({}), crashing, *models)
        self.changes = self.knowledge.changes

    def operation(self) -> tuple[OperationContext, CrashingJournal, CrashingFields]:
        """A new operation in the lane. Keep it to resume it after a crash."""
        journal = CrashingJournal(self.crash)
        fields = CrashingFields(self.store, self.lane, self.crash)
        return OperationContext(self.lane, new_turn_part(), journal, journal, fields, 1), journal, fields  # type: ignore[arg-type]

    def request(self, text: str, source: str = "rules.txt", metadata: Mapping[str, Any] | None = None) -> AddKnowledge:
        """A request to add a text."""
        return AddKnowledge(scope=self.scope, source=source, origin="text", text=text, metadata=dict(metadata or {}))

    async def add(
        self, text: str, source: str = "rules.txt", metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Add a text, in a new operation."""
        return await self.changes.add(self.operation()[0], self.request(text, source, metadata))

    async def remove(self, source: str) -> dict[str, int]:
        """Remove a document, in a new operation."""
        return await self.changes.remove(self.operation()[0], RemoveKnowledge(scope=self.scope, source=source))

    async def search(self, query: str, **which: Any) -> list[dict[str, Any]]:
        """Search the scope."""
        wanted = SearchKnowledge(query=query, scopes=(self.scope,), **which)
        return await self.knowledge.search.search(self.lane.tenant, wanted)

    async def visible(self) -> list[tuple[str, str]]:
        """Source and text of every chunk that a search can find, sorted."""
        scope = Scope(self.lane.tenant, self.scope)
        query = IndexQuery([1.0] * self.embedding.info.dimension, None, [scope], limit=100)
        hits = await self.index.search(self.collection, self.embedding.info, query)
        full = await self.knowledge.search._with_texts(self.lane.tenant, hits)
        return sorted((hit.source, hit.payload["text"]) for hit in full)

    async def listed(self) -> dict[str, int]:
        """The documents of the catalog, with their numbers of chunks."""
        return {e.source: e.chunks async for e in self.changes._catalog.entries(self.lane)}

    async def chunks(self) -> int:
        """How many chunks the index has, visible or not. Removes them, so call it last."""
        return await self.index.remove(self.collection, Scope(self.lane.tenant, self.scope))

    async def texts(self) -> int:
        """How many chunk texts the store has."""
        return int(await self.store.hlen(self.lane.texts))


async def completes(work: Awaitable[Any]) -> bool:
    """Whether the work completed, rather than crashed."""
    try:
        await work
    except Killed:
        return False
    return True
