"""A KnowledgeIndex against a plain model: a dictionary of chunks, searched by looking at each."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.knowledge import ENGINES, LEXICAL, MODEL, chunk, open_engine, vector
from workers.retrieval.ports import IndexPoint, IndexQuery, KnowledgeIndex, Scope

COLLECTION = f"properties-{os.getpid()}"
WORDS = ["tea", "coffee", "milk", "water"]
_examples = itertools.count()

TENANTS = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["user:x", "base:x"])
SOURCES = st.sampled_from(["one", "two"])
REVISIONS = st.sampled_from(["r1", "r2"])
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
METADATA = st.fixed_dictionaries({}, optional={"k": st.sampled_from([1, True, "1", ["x", "y"]]), "l": st.just(0.5)})
FILTERS = st.sampled_from([{}, {}, {"k": 1}, {"k": True}, {"k": ["1", "y"]}, {"l": 0.5}, {"l": 0.5, "k": "x"}])

Query = tuple[set[str], str, dict[str, Any], list[str] | None, str]
QUERIES = st.tuples(
    st.sets(NAMES, min_size=1),
    TEXT,
    FILTERS,
    st.none() | st.lists(SOURCES, max_size=2),
    st.sampled_from(["both", "dense", "terms"]),
)


def _kind(value: Any) -> tuple[type, Any]:
    return type(value), value  # for Python, True == 1


def _matches(point: IndexPoint, filters: dict[str, Any]) -> bool:
    def values(value: Any) -> set[tuple[type, Any]]:
        return {_kind(each) for each in (value if isinstance(value, list) else [value])}

    has = point.payload["metadata"]
    return all(key in has and values(has[key]) & values(value) for key, value in filters.items())


class KnowledgeMachine(RuleBasedStateMachine):
    """Writes, publishes, removals and searches in scopes of two tenants; every call is also made on a dictionary."""

    index: KnowledgeIndex
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.example = next(_examples)
        self.chunks: dict[str, IndexPoint] = {}
        self.published: set[str] = set()
        self.scopes: set[Scope] = set()

    def scope(self, tenant: str, name: str) -> Scope:
        """Tenants of this example only: nothing is left over from the last one."""
        scope = Scope(f"{tenant}{os.getpid()}-{self.example}", name)
        self.scopes.add(scope)
        return scope

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    def of(self, scope: Scope, source: str | None = None, revision: str | None = None) -> list[str]:
        return [
            id_
            for id_, point in self.chunks.items()
            if point.scope == scope and source in (None, point.source) and revision in (None, point.revision)
        ]

    @initialize()
    def start_with_another_tenants_chunk(self) -> None:
        """The collection exists, and is never empty."""
        self.run(self.index.write(COLLECTION, MODEL, [chunk(self.scope("c", "user:x"), "tea coffee milk water")]))
        self.run(self.index.publish(COLLECTION, self.scope("c", "user:x"), "notes", "r1"))
        self.scopes.clear()

    @rule(tenant=TENANTS, name=NAMES, source=SOURCES, revision=REVISIONS, texts=st.lists(TEXT, max_size=3),
          metadata=METADATA)  # fmt: skip
    def write(
        self, tenant: str, name: str, source: str, revision: str, texts: list[str], metadata: dict[str, Any]
    ) -> None:
        scope = self.scope(tenant, name)
        points = [
            chunk(scope, text, source=source, revision=revision, number=number, metadata=metadata)
            for number, text in enumerate(texts)
        ]
        self.run(self.index.write(COLLECTION, MODEL, points))
        self.chunks |= {point.id: point for point in points}

    @rule(tenant=TENANTS, name=NAMES, source=SOURCES, revision=REVISIONS, text=TEXT, metadata=METADATA, query=QUERIES)
    def add_and_search(
        self, tenant: str, name: str, source: str, revision: str, text: str, metadata: dict[str, Any], query: Query
    ) -> None:
        """By chance alone a publish seldom meets what was written, and a search what was published."""
        self.write(tenant, name, source, revision, [text], metadata)
        self.publish(tenant, name, source, revision)
        self.search(tenant, query)

    @rule(tenant=TENANTS, name=NAMES, source=SOURCES, revision=REVISIONS)
    def publish(self, tenant: str, name: str, source: str, revision: str) -> None:
        scope = self.scope(tenant, name)
        self.run(self.index.publish(COLLECTION, scope, source, revision))
        if new := self.of(scope, source, revision):
            others = set(self.of(scope, source)) - set(new)
            self._forget(others & self.published)  # what is being written belongs to an operation that comes later
            self.published |= set(new)

    @rule(tenant=TENANTS, name=NAMES, source=st.none() | SOURCES, revision=st.none() | REVISIONS)
    def remove(self, tenant: str, name: str, source: str | None, revision: str | None) -> None:
        scope = self.scope(tenant, name)
        doomed = self.of(scope, source, revision)
        assert self.run(self.index.remove(COLLECTION, scope, source=source, revision=revision)) == len(doomed)
        self._forget(set(doomed))

    def _forget(self, ids: set[str]) -> None:
        self.published -= ids
        self.chunks = {id_: point for id_, point in self.chunks.items() if id_ not in ids}

    @rule(tenant=TENANTS, query=QUERIES)
    def search(self, tenant: str, query: Query) -> None:
        """Exactly the chunks that may be found: by vectors all, by terms those that have one."""
        names, text, filters, sources, halves = query
        scopes = [self.scope(tenant, name) for name in sorted(names)]
        dense = None if halves == "terms" else vector(text)
        terms = None if halves == "dense" else LEXICAL.query(text)
        asked = IndexQuery(dense, terms, scopes, limit=100, sources=sources, metadata=filters)
        hits = self.run(self.index.search(COLLECTION, MODEL, asked))
        expected = {
            id_: point
            for id_, point in self.chunks.items()
            if id_ in self.published
            and point.scope in scopes
            and (sources is None or point.source in sources)
            and _matches(point, filters)
            and (dense is not None or set(text.split()) & set(point.payload["text"].split()))
        }
        assert len(hits) == len({hit.id for hit in hits})
        assert {hit.id: (hit.scope, hit.payload) for hit in hits} == {
            id_: (point.scope, point.payload) for id_, point in expected.items()
        }

    @invariant()
    def every_scope_shows_what_was_published_there(self) -> None:
        for scope in self.scopes:
            query = IndexQuery(vector("tea"), LEXICAL.query("tea"), [scope], limit=100)
            found = {hit.id for hit in self.run(self.index.search(COLLECTION, MODEL, query))}
            assert found == {id_ for id_ in self.of(scope) if id_ in self.published}

    def teardown(self) -> None:
        """Removing each scope leaves nothing, and touches no other."""
        for scope in self.scopes:
            expected = {id_ for id_ in self.of(scope) if id_ in self.published}
            assert self.run(self.index.count(COLLECTION, scope)) == len(expected)
            assert self.run(_ids(self.index, scope)) == expected
            assert self.run(self.index.remove(COLLECTION, scope)) == len(self.of(scope))
            assert self.run(self.index.remove(COLLECTION, scope)) == 0
        other = Scope(f"c{os.getpid()}-{self.example}", "user:x")
        assert self.run(self.index.remove(COLLECTION, other)) == 1


async def _ids(index: KnowledgeIndex, scope: Scope) -> set[str]:
    return {point.id async for page in index.scroll(COLLECTION, scope) for point in page}


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_index_finds_what_a_dictionary_would(engine: str) -> None:
    """No search returns another scope's chunk, a publish replaces, a removal leaves nothing."""
    examples = int(os.environ.get("SF_PROPERTY_EXAMPLES", "25"))
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:

        async def opened() -> KnowledgeIndex:
            return open_engine(engine, Path(folder))

        index = runner.run(opened())
        machine = type("Machine", (KnowledgeMachine,), {"index": index, "runner": runner})
        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=20,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    derandomize="SF_PROPERTY_EXAMPLES" not in os.environ,
                ),
            )
        finally:
            runner.run(index.close())
