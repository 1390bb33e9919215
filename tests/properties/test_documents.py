"""The documents of a scope against a plain model: a dictionary of names, with what is found computed from it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.protocol.knowledge_requests import RemoveKnowledge
from tests.support.crashing import Bench, completes
from tests.support.knowledge import open_engine
from tests.support.servers import Server
from workers.retrieval.knowledge import document_loader
from workers.retrieval.ports import Document, KnowledgeIndex, Section

PARTS = [f"{word} " * 20 + "tea" for word in ("apple", "berry", "cedar")]
TEXT = st.sampled_from([PARTS[0], PARTS[1], "\n\n".join(PARTS), "\n\n".join((PARTS[0], *PARTS))])
NAME = st.sampled_from(["a.txt", "b.txt", "c.txt"])
METADATA = st.sampled_from([{}, {"of": "A"}, {"of": "B"}])
CRASH = st.none() | st.integers(0, 14)

Documents = dict[str, tuple[str, dict[str, Any]]]


async def _read(data: bytes, **_: Any) -> Document:
    """One page for each paragraph, without a process."""
    return Document("text", [Section(text, page=n) for n, text in enumerate(data.decode().split("\n\n"), 1)])


def _places(documents: Documents) -> dict[str, set[str]]:
    """The documents that have each part."""
    places: dict[str, set[str]] = defaultdict(set)
    for name, (text, _) in documents.items():
        for part in text.split("\n\n"):
            places[part].add(name)
    return dict(places)


class DocumentsMachine(RuleBasedStateMachine):
    """Documents are added, replaced, removed, searched and interrupted; a dictionary says what must be found."""

    runner: asyncio.Runner
    store: Any
    settings: Settings
    engine: str
    index: KnowledgeIndex | None = None

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.index = self.run(self._opened())
        self.bench = Bench(self.settings, self.store, self.index)
        self.documents: Documents = {}

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    async def _opened(self) -> KnowledgeIndex:
        return open_engine(self.engine, Path(self._folder.name))

    @rule(name=NAME, text=TEXT, metadata=METADATA, crash=CRASH, resumed=st.booleans())
    def add(self, name: str, text: str, metadata: dict[str, Any], crash: int | None, resumed: bool) -> None:
        """Possibly with a crash after some step, after which the operation is resumed or never is."""
        before = self.documents.get(name)
        alike = {other for other, (has, _) in self.documents.items() if has == text and other != name}
        op, _, _ = self.bench.operation()
        request = self.bench.request(text, name, metadata)
        embedded = len(self.bench.embedding.embedded)
        if crash is not None:
            self.bench.crash.after = crash
            interrupted = not self.run(completes(self.bench.changes.add(op, request)))
            self.restart()
            if interrupted and not resumed:
                self.run(self.bench.changes.undo(op, request))
                self._look_which(name, (text, metadata))
                return
        receipt = self.run(self.bench.changes.add(op, request))
        self.documents[name] = text, metadata
        assert receipt["source"] == name
        assert (receipt["same_as"] in alike) if alike else receipt["same_as"] is None
        if crash is None:
            status = "unchanged" if before == (text, metadata) else "replaced" if before else "added"
            assert receipt["status"] == ("duplicate" if status == "added" and alike else status)
            assert receipt["embedded"] == len(self.bench.embedding.embedded) - embedded
        if alike or (before and before[0] == text):
            assert len(self.bench.embedding.embedded) == embedded, "a text that was there is not embedded again"

    @rule(names=st.permutations(["a.txt", "b.txt", "c.txt"]), text=TEXT, metadata=METADATA, replaced=st.booleans())
    def copy(self, names: list[str], text: str, metadata: dict[str, Any], replaced: bool) -> None:
        """By chance alone three documents seldom meet with one text, of which the first goes."""
        first, second, third = names
        self.add(first, text, metadata, None, False)
        self.add(second, text, {}, None, False)
        if replaced:
            self.add(first, f"{PARTS[2]}\n\n{PARTS[1]}", metadata, None, False)
        else:
            self.remove(first, None, False)
        self.add(third, text, {}, None, False)

    def _look_which(self, name: str, new: tuple[str, dict[str, Any]]) -> None:
        """An interrupted change of a document was undone or completed; the catalog says which."""
        entries = {entry.source: entry.metadata for entry in self.run(self._entries())}
        found = self.run(self.bench.search("tea", limit=100, sources=(name,)))
        if name in entries and _places({name: new}).keys() == {passage["text"] for passage in found}:
            self.documents[name] = new[0], entries[name]
        assert (name in entries) == (name in self.documents)

    async def _entries(self) -> list[Any]:
        return [entry async for entry in self.bench.changes._catalog.entries(self.bench.lane)]

    @rule(name=NAME, crash=CRASH, resumed=st.booleans())
    def remove(self, name: str, crash: int | None, resumed: bool) -> None:
        """Possibly with a crash after some step; what was begun is completed by the next operation at the latest."""
        op, _, _ = self.bench.operation()
        request = RemoveKnowledge(scope=self.bench.scope, source=name)
        if crash is not None:
            self.bench.crash.after = crash
            interrupted = not self.run(completes(self.bench.changes.remove(op, request)))
            begun = self.bench.crash.done.count("note sources") > 0
            self.restart()
            if interrupted and not resumed:
                if begun:
                    self.documents.pop(name, None)
                self.run(self.bench.remove("no such document"))  # the lane's next operation
                return
        removed = self.run(self.bench.changes.remove(op, request))
        if crash is None:
            text, _ = self.documents.get(name, ("", {}))
            assert removed["chunks"] == (len(text.split("\n\n")) if text else 0)
        self.documents.pop(name, None)

    @rule()
    def restart(self) -> None:
        """As after kill -9: store and index are read anew."""
        assert self.index is not None
        self.bench.crash.disarm()
        if self.engine == "embedded":
            self.run(self.index.close())
            self.index = self.run(self._opened())
        self.bench.start(self.index)

    @rule(names=st.none() | st.sets(NAME, min_size=1), of=st.sampled_from([None, "A", "B"]))
    def search(self, names: set[str] | None, of: str | None) -> None:
        """Each text is found once, with all documents that have it and match."""
        found = self.run(
            self.bench.search(
                "tea",
                limit=100,
                sources=None if names is None else tuple(names),
                filters={} if of is None else {"of": of},
            )
        )
        wanted = {
            name: (text, metadata)
            for name, (text, metadata) in self.documents.items()
            if (names is None or name in names) and of in (None, metadata.get("of"))
        }
        assert len({passage["text"] for passage in found}) == len(found)
        assert {
            passage["text"]: {place["source"] for place in (passage, *passage["also_in"])} for passage in found
        } == _places(wanted)
        for passage in found:
            for place in (passage, *passage["also_in"]):
                assert place["metadata"] == self.documents[place["source"]][1]

    @invariant()
    def the_list_and_the_search_show_what_was_added(self) -> None:
        entries = self.run(self._entries())
        assert {e.source: (e.chunks, e.metadata) for e in entries} == {
            name: (len(text.split("\n\n")), metadata) for name, (text, metadata) in self.documents.items()
        }
        self.search(None, None)

    def teardown(self) -> None:
        """Removing everything leaves no chunk, no text and no field."""
        assert self.index is not None
        for name in list(self.documents):
            self.run(self.bench.remove(name))
        assert self.run(self.bench.texts()) == 0
        assert self.run(self.store.hlen(self.bench.lane.sources)) == 0
        assert self.run(self.bench.chunks()) == 0
        self.run(self.index.close())
        self._folder.cleanup()


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("engine", "texts"), [("embedded", "index"), ("in-memory", "store")])
def test_documents_are_kept_as_a_dictionary_would(
    server: Server, monkeypatch: pytest.MonkeyPatch, engine: str, texts: str
) -> None:
    """Equal contents under several names stay documents of their own, whatever is replaced, removed or killed."""
    monkeypatch.setattr(document_loader, "read_document", _read)
    configured = Settings(redis_url=server.url, knowledge_texts=texts)  # type: ignore[arg-type]
    with asyncio.Runner() as runner:
        store = runner.run(_connected(configured))
        parts = {"runner": runner, "store": store, "settings": configured, "engine": engine}
        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                type("Machine", (DocumentsMachine,), parts),
                settings=settings(
                    max_examples=int(os.environ.get("SF_PROPERTY_EXAMPLES", "10")),
                    stateful_step_count=8,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    derandomize="SF_PROPERTY_EXAMPLES" not in os.environ,
                ),
            )
        finally:
            runner.run(store.aclose())


async def _connected(configured: Settings) -> Any:
    return async_store(configured)
