"""Operations on knowledge that die at a step of one's choice, as kill -9 leaves them: the store, the index, no more."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from broker_config.settings import Settings
from sessions.client.scopes import lane_of, session_name
from sessions.protocol.knowledge_requests import AddKnowledge
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.sealing import KeyRing
from tests.support.retrieval_doubles import WordEmbedding, WordLexical
from workers.engine.ports import EventDraft, LeaseLost
from workers.retrieval.index.names import default_collection
from workers.retrieval.knowledge import Knowledge
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import IndexPoint, IndexQuery, KnowledgeIndex, Scope


class Killed(BaseException):
    """The process is gone; nothing in it cleans up."""


class Fate:
    """Counts what is done to store and index. After `fatal` of these the process is killed; None: never."""

    def __init__(self) -> None:
        self.fatal: int | None = None
        self.done: list[str] = []

    def spare(self) -> None:
        """Let what comes go well."""
        self.fatal, self.done = None, []

    def check(self) -> None:
        """Die, if it is time."""
        if self.fatal is not None and len(self.done) >= self.fatal:
            raise Killed

    async def does(self, name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        """Do something and die directly after it, if it is time."""
        self.check()
        result = await effect()
        self.done.append(name)
        self.check()
        return result


class FatedIndex:
    """A KnowledgeIndex whose changes are counted."""

    def __init__(self, index: KnowledgeIndex, fate: Fate) -> None:
        self._index = index
        self._fate = fate

    async def write(self, collection: str, model: Any, points: Sequence[IndexPoint]) -> None:
        await self._fate.does("write", lambda: self._index.write(collection, model, points))

    async def publish(self, collection: str, scope: Scope, source: str, revision: str) -> None:
        await self._fate.does("publish", lambda: self._index.publish(collection, scope, source, revision))

    async def remove(self, collection: str, scope: Scope, **which: Any) -> int:
        removed: int = await self._fate.does("remove", lambda: self._index.remove(collection, scope, **which))
        return removed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)


class FatedJournal:
    """A journal and a sink for events, as the store keeps them while the operation is open."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self.steps: dict[str, bytes] = {}

    def lookup(self, key: str) -> bytes | None:
        return self.steps.get(key)

    async def record(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        async def write() -> None:
            self.steps[key] = value

        await self._fate.does(key, write)

    async def emit(self, events: Sequence[EventDraft]) -> None:
        self._fate.check()


class FatedFields:
    """`FencedFields` in the real store. `lost` is the answer of a lease that has ended."""

    def __init__(self, store: Any, lane: SessionKeys, fate: Fate) -> None:
        self._store = store
        self._lane = lane
        self._fate = fate
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

        await self._fate.does(f"note {kind}", write)


class Bench:
    """A separate scope, and what is done to its documents."""

    def __init__(self, settings: Settings, store: Any, index: KnowledgeIndex) -> None:
        self.fate = Fate()
        self.store = store
        self.index = index
        self.embedding = WordEmbedding()
        fated: Any = FatedIndex(index, self.fate)
        self.knowledge = Knowledge(settings, store, KeyRing({}), fated, self.embedding, WordLexical())
        self.scope = session_name(f"crash-{uuid.uuid4().hex[:8]}")
        self.lane = lane_of(settings.tenant, self.scope, settings.partitions)
        self.collection = default_collection(self.embedding.info)

    def operation(self) -> tuple[OperationContext, FatedJournal, FatedFields]:
        """A new operation in the lane; keep it to continue it after a crash."""
        journal = FatedJournal(self.fate)
        fields = FatedFields(self.store, self.lane, self.fate)
        return OperationContext(self.lane, new_turn_part(), journal, journal, fields, 1), journal, fields  # type: ignore[arg-type]

    def request(self, text: str, source: str = "rules.txt") -> AddKnowledge:
        """To take a text in."""
        return AddKnowledge(scope=self.scope, source=source, origin="text", text=text)

    async def add(self, text: str, source: str = "rules.txt") -> dict[str, Any]:
        """Take a text in, whole."""
        return await self.knowledge.add(self.operation()[0], self.request(text, source))

    async def visible(self) -> list[tuple[str, str]]:
        """Source and text of all that a search can find, sorted."""
        scope = Scope(self.lane.tenant, self.scope)
        query = IndexQuery([1.0] * self.embedding.info.dimension, None, [scope], limit=100)
        hits = await self.index.search(self.collection, self.embedding.info, query)
        full = await self.knowledge._with_texts(self.lane.tenant, hits)
        return sorted((hit.source, hit.payload["text"]) for hit in full)

    async def listed(self) -> dict[str, int]:
        """The documents of the list, with how many chunks each has."""
        return {e.source: e.chunks async for e in self.knowledge._catalog.entries(self.lane)}

    async def chunks(self) -> int:
        """How many chunks there are, visible or not. Removes them: ask last."""
        return await self.index.remove(self.collection, Scope(self.lane.tenant, self.scope))

    async def texts(self) -> int:
        """How many texts of chunks the store has."""
        return int(await self.store.hlen(self.lane.texts))


async def survives(work: Awaitable[Any]) -> bool:
    """Whether it came to its end, or was killed on the way."""
    try:
        await work
    except Killed:
        return False
    return True
