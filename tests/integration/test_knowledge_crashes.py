"""An operation on knowledge is killed after each of its steps, one by one, and resumes, or never does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import TurnFailed
from sessions.protocol.knowledge_requests import CopyKnowledge, RemoveKnowledge
from tests.support.crashing import Bench, completes
from tests.support.knowledge import open_engine
from tests.support.servers import Server
from workers.engine.ports import LeaseLost
from workers.retrieval.knowledge import changes, document_loader
from workers.retrieval.ports import Document, KnowledgeIndex, Section

MOST_STEPS = 60
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect")


def document(word: str, parts: int = 5) -> str:
    """A text of this many chunks."""
    return "\n\n".join(f"{word} part {n}: " + " ".join(f"{word}{n}w{i}" for i in range(25)) for n in range(parts))


OLD, NEW, OTHER = document("old", 3), document("new"), document("other", 2)


async def _read(data: bytes, **_: Any) -> Document:
    """One page for each paragraph, without a process."""
    return Document("text", [Section(text, page=n) for n, text in enumerate(data.decode().split("\n\n"), 1)])


def as_found(source: str, text: str) -> list[tuple[str, str]]:
    """What of a document a search finds."""
    return sorted((source, part) for part in text.split("\n\n"))


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[KnowledgeIndex]:
    """Without a disk: it is asked thousands of times."""
    index = open_engine("in-memory", tmp_path)
    yield index
    await index.close()


@pytest.fixture
async def new_bench(
    server: Server, index: KnowledgeIndex, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], Bench]]:
    """Creates separate scopes; batches of two chunks, texts in the store, so that there is much to go wrong."""
    monkeypatch.setattr(document_loader, "read_document", _read)
    monkeypatch.setattr(changes, "_BATCH", 2)
    settings = Settings(redis_url=server.url, knowledge_texts="store")
    store = async_store(settings)
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench(settings, store, index))
        return made[-1]

    yield make
    for bench in made:
        await store.delete(bench.lane.sources, bench.lane.texts)
    await store.aclose()


async def expect_whole(bench: Bench) -> None:
    """The list, what is found, what the index holds and the texts in the store are one and the same."""
    listed, found = await bench.listed(), await bench.visible()
    assert {source: len([f for f in found if f[0] == source]) for source, _ in found} == listed
    assert all(text for _, text in found)
    assert await bench.texts() == sum(listed.values())
    assert await bench.chunks() == sum(listed.values()), "nothing invisible is left"
    fields = await bench.store.hkeys(bench.lane.sources)
    alike = {name for name in fields if name.startswith(b"#")}
    assert len(fields) - len(alike) == len(listed)
    assert len(alike) <= len(listed), "at most one digest for a document, and nothing that is unfinished"
    assert b"#unfinished" not in alike


@pytest.mark.parametrize("before", ["", OLD], ids=["new", "replaced"])
async def test_a_document_is_whole_after_a_crash_at_any_step(new_bench: Callable[[], Bench], before: str) -> None:
    """It resumes after its last batch, which alone may be embedded twice; nothing of it was visible before."""
    for fatal in range(MOST_STEPS):
        bench = new_bench()
        if before:
            await bench.add(before)
        bench.embedding.embedded.clear()
        bench.crash.disarm()
        bench.crash.after = fatal
        op, journal, _ = bench.operation()
        if await completes(bench.changes.add(op, bench.request(NEW))):
            break
        done, kept = list(bench.crash.done), [key for key in journal.steps if key.startswith("batch:")]
        if "publish" not in done:
            assert await bench.visible() == as_found("rules.txt", before if before else "")[: 3 if before else 0]
        paid = 2 * len(kept)  # of the batches that are journalled
        first = bench.embedding.embedded[:paid]
        bench.crash.disarm()
        receipt = await bench.changes.add(op, bench.request(NEW))
        assert receipt["status"] in ("replaced" if before else "added", "unchanged")
        assert [bench.embedding.embedded.count(text) for text in first] == [1] * len(first), f"behind {done}"
        assert await bench.visible() == as_found("rules.txt", NEW), f"behind {done}"
        await expect_whole(bench)
    else:
        pytest.fail("it never came to its end")
    assert fatal > 8


@pytest.mark.parametrize("before", ["", OLD], ids=["new", "replaced"])
@pytest.mark.parametrize("then", ["another", "the old one", "the new one", "nothing but undo"])
async def test_a_document_that_never_goes_on_leaves_nothing_behind(
    new_bench: Callable[[], Bench], before: str, then: str
) -> None:
    """Cancelled while no worker ran it, past its deadline, or a dead letter: the lane's next operation cleans up."""
    for fatal in range(MOST_STEPS):
        bench = new_bench()
        if before:
            await bench.add(before)
        bench.crash.disarm()
        bench.crash.after = fatal
        op, _, _ = bench.operation()
        if await completes(bench.changes.add(op, bench.request(NEW))):
            break
        done = list(bench.crash.done)
        bench.crash.disarm()
        if then == "another":
            await bench.add(OTHER, "other.txt")
        elif then == "the old one":
            await bench.add(OLD)
            assert await bench.visible() == as_found("rules.txt", OLD), f"behind {done}"
        elif then == "the new one":
            await bench.add(NEW)
            assert await bench.visible() == as_found("rules.txt", NEW), f"behind {done}"
        else:
            await bench.changes.undo(op, bench.request(NEW))
            assert await bench.visible() in ([], as_found("rules.txt", OLD), as_found("rules.txt", NEW))
        await expect_whole(bench)


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "never goes on"])
async def test_a_removal_is_whole_after_a_crash_at_any_step(new_bench: Callable[[], Bench], goes_on: bool) -> None:
    """It tells what existed, and the same content can be added again."""
    for fatal in range(MOST_STEPS):
        bench = new_bench()
        await bench.add(OLD)
        await bench.add(OTHER, "other.txt")
        bench.crash.disarm()
        bench.crash.after = fatal
        op, _, _ = bench.operation()
        request = RemoveKnowledge(scope=bench.scope)
        if await completes(bench.changes.remove(op, request)):
            break
        done = list(bench.crash.done)
        bench.crash.disarm()
        if goes_on:
            assert await bench.changes.remove(op, request) == {"sources": 2, "chunks": 5}, f"behind {done}"
            assert await bench.visible() == []
        await bench.add(OLD)
        assert set(as_found("rules.txt", OLD)) <= set(await bench.visible()), f"behind {done}"
        await expect_whole(bench)
    else:
        pytest.fail("it never came to its end")


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "never goes on"])
async def test_a_copy_is_whole_after_a_crash_at_any_step(new_bench: Callable[[], Bench], goes_on: bool) -> None:
    """What was copied stays, what was begun is completed or undone, and nothing is embedded again."""
    origin = new_bench()
    await origin.add(OLD)
    await origin.add(OTHER, "other.txt")
    for fatal in range(MOST_STEPS):
        bench = new_bench()
        bench.crash.after = fatal
        op, _, _ = bench.operation()
        request = CopyKnowledge(scope=bench.scope, origin=origin.scope)
        if await completes(bench.changes.copy(op, request)):
            break
        bench.crash.disarm()
        if goes_on:
            await bench.changes.copy(op, request)
            assert await bench.visible() == await origin.visible()
            assert bench.embedding.embedded == []
        else:
            await bench.add(NEW, "new.txt")
        await expect_whole(bench)
    else:
        pytest.fail("it never came to its end")


async def test_what_the_index_lost_while_it_was_written_is_written_again(new_bench: Callable[[], Bench]) -> None:
    """An older Qdrant was restored: the journal knows batches that the index does not have."""
    bench = new_bench()
    bench.crash.after = 8
    op, journal, _ = bench.operation()
    assert not await completes(bench.changes.add(op, bench.request(NEW)))
    assert any(key.startswith("batch:") for key in journal.steps)
    assert await bench.chunks() > 0
    bench.crash.disarm()
    await bench.changes.add(op, bench.request(NEW))
    assert await bench.visible() == as_found("rules.txt", NEW)


@pytest.mark.parametrize("stage", ["write", "publish", "remove"])
async def test_a_worker_whose_lease_has_ended_leaves_the_index_alone(
    new_bench: Callable[[], Bench], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """It was stopped right before the index was to be changed: by its own clock it knows that it may not."""
    bench = new_bench()
    await bench.add(OLD, "old.txt")
    op, _, fields = bench.operation()
    reached: list[str] = []

    async def stopped(name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        result = await effect()
        reached.append(name)
        return result

    monkeypatch.setattr(bench.crash, "run", stopped)
    real = bench.embedding.embed_documents

    async def embed(texts: list[str]) -> list[list[float]]:
        fields.lost = stage == "write"
        return await real(texts)

    monkeypatch.setattr(bench.embedding, "embed_documents", embed)
    if stage == "publish":
        real_write = fields.write

        async def write(kind: str, values: dict[str, str]) -> None:
            await real_write(kind, values)
            fields.lost = any('"publish"' in value for value in values.values())

        monkeypatch.setattr(fields, "write", write)
    fields.lost = stage == "remove"
    removal = RemoveKnowledge(scope=bench.scope)
    work = bench.changes.remove(op, removal) if stage == "remove" else bench.changes.add(op, bench.request(NEW))
    with pytest.raises(LeaseLost):
        await work
    assert stage not in reached
    assert await bench.visible() == as_found("old.txt", OLD)


async def test_a_document_that_is_refused_half_way_leaves_nothing(new_bench: Callable[[], Bench]) -> None:
    """The embedding model refuses its last batch: what was written before is undone, texts included."""
    bench = new_bench()
    op, _, _ = bench.operation()
    refused = bench.request(f"{NEW}\n\nREFUSE " + "this " * 30)
    with pytest.raises(TurnFailed, match="refused"):
        await bench.changes.add(op, refused)
    assert await bench.texts() > 0
    await bench.changes.undo(op, refused)
    assert await bench.visible() == []
    await expect_whole(bench)
