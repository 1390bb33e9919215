"""Documents with equal texts, in the real store and an index without a disk: what they share, and what is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from tests.support.crashing import Bench
from tests.support.knowledge import open_engine
from tests.support.servers import Server
from workers.retrieval.knowledge import changes, document_loader
from workers.retrieval.ports import Document, Section

KEEP = "Contracts are kept for ten years. " * 4
NEW = "A new rule about the garage and its keys. " * 4
RULES = "The notice period is three months for every contract of this kind. " * 2 + "\n\n" + KEEP
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect")


async def _read(data: bytes, **_: Any) -> Document:
    """One page for each paragraph, without a process."""
    return Document("text", [Section(text, page=n) for n, text in enumerate(data.decode().split("\n\n"), 1)])


@pytest.fixture
async def bench(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A scope of its own."""
    monkeypatch.setattr(document_loader, "read_document", _read)
    settings = Settings(redis_url=server.url)
    store, index = async_store(settings), open_engine("in-memory", tmp_path)
    bench = Bench(settings, store, index)
    yield bench
    await index.close()
    await store.delete(bench.lane.sources, bench.lane.texts)
    await store.aclose()


async def test_copies_do_not_fill_the_results(bench: Bench) -> None:
    """Sixty copies of the best passage are one result; the next ones are other texts."""
    for number in range(60):
        await bench.add("The notice period is three months.", f"copy{number}.txt")
    await bench.add("A period is also a mark at the end of a sentence.", "grammar.txt")
    await bench.add("Notice the colours of the leaves.", "leaves.txt")
    found = await bench.search("notice period", limit=3)
    assert len({passage["text"] for passage in found}) == 3
    best = found[0]
    assert {best["source"], *(place["source"] for place in best["also_in"])} == {f"copy{n}.txt" for n in range(60)}
    assert len(bench.embedding.embedded) == 3


async def test_a_changed_document_embeds_what_was_changed(bench: Bench) -> None:
    """So does one with other metadata only, which has no new text."""
    await bench.add(RULES)
    receipt = await bench.add(f"{RULES}\n\n{NEW}")
    assert (receipt["status"], receipt["chunks"], receipt["embedded"]) == ("replaced", 3, 1)
    receipt = await bench.add(f"{RULES}\n\n{NEW}", metadata={"year": 2026})
    assert (receipt["status"], receipt["chunks"], receipt["embedded"]) == ("replaced", 3, 0)
    assert len(await bench.search("rule", limit=10, filters={"year": 2026}, min_score=0)) == 3


async def test_equal_texts_under_other_headings_are_other_passages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """'Remove the two red locks' is about another printer under another heading."""

    async def read(data: bytes, **_: Any) -> Document:
        return Document("text", [Section(data.decode().partition(":")[2], heading=data.decode().partition(":")[0])])

    monkeypatch.setattr(document_loader, "read_document", read)
    await bench.add("Kestrel 300:Remove the two red locks.", "a.md")
    await bench.add("Kestrel 400:Remove the two red locks.", "b.md")
    found = await bench.search("red locks", limit=10)
    assert sorted((passage["source"], passage["also_in"]) for passage in found) == [("a.md", []), ("b.md", [])]


async def test_documents_of_an_earlier_version_are_embedded_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes into the model may have changed with the way in which documents are read: no old vector is taken."""
    with monkeypatch.context() as older:
        older.setattr(changes, "_CHUNKING", "0:old")
        await bench.add(RULES, "a.txt")
    copy = await bench.add(RULES, "b.txt")
    assert (copy["status"], copy["same_as"], copy["embedded"]) == ("duplicate", "a.txt", 2)
    again = await bench.add(RULES, "a.txt")
    assert (again["status"], again["same_as"], again["embedded"]) == ("replaced", "b.txt", 0)


async def test_a_list_of_an_earlier_version_is_understood(bench: Bench) -> None:
    """It noted one document for each content, as its plain name; a single one still is noted so."""
    await bench.add(RULES, "a.txt")
    (digest,) = [name for name in await bench.store.hkeys(bench.lane.sources) if name.startswith(b"#")]
    assert await bench.store.hget(bench.lane.sources, digest) == b"a.txt"
    assert (await bench.add(RULES, "b.txt"))["same_as"] == "a.txt"
    await bench.remove("a.txt")
    assert await bench.store.hget(bench.lane.sources, digest) == b"b.txt"
    await bench.remove("b.txt")
    assert await bench.store.hkeys(bench.lane.sources) == []
