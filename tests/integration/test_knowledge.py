"""Knowledge through the fleet: two worker processes, one of which owns the embedded index, and a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from broker_config.redis_clients import async_store
from sessions import EventType, Session
from sessions.api.operation import Progress
from sessions.client.operations import Operations
from sessions.errors import (
    BadRequest,
    DocumentEncrypted,
    DocumentUnsupported,
    InvalidTurnId,
    SessionOwnerError,
    TurnCancelled,
)
from sessions.protocol.lanes import KNOWLEDGE
from sessions.store.channels import Channels
from sessions.store.events import Bell
from sessions.store.scripts import ScriptRunner
from sessions.store.turns import TurnStore
from sessions.store.wake_up import WakeUp
from tests.support.documents import make_docx, make_encrypted_pdf, make_pdf
from tests.support.fleet import Fleet, keys_without_ttl
from tests.support.real_qdrant import embedded_only
from tests.support.waiting import wait_until
from workers.retrieval_role.lane_janitor import LaneJanitor

HOLIDAYS = "Each employee has 28 days of paid holiday in a year, to be taken before the end of March."
PARKING = "Cars are parked in the garage under the northern building; bicycles by the canteen."
EXPENSES = "Travel costs are refunded within two weeks when the receipts are handed in on form E-117."


def sid() -> str:
    return f"k-{uuid.uuid4().hex[:12]}"


def texts(found: list[dict[str, Any]]) -> str:
    return "\n".join(item["text"] for item in found)


@pytest.fixture
def session(fleet: Fleet) -> Iterator[Session]:
    """A separate session, which leaves nothing behind."""
    session = fleet.session(sid())
    yield session
    session.delete()


def test_a_paper_and_a_finding_are_found(session: Session, tmp_path: Path) -> None:
    """A file is read in this process and its pages are found by meaning; a text is a text; results are dicts."""
    paper = tmp_path / "research_paper.pdf"
    paper.write_bytes(make_pdf([HOLIDAYS, PARKING, EXPENSES]))
    added = session.add_knowledge(str(paper))
    assert isinstance(added, dict)
    assert (added["source"], added["status"], added["kind"], added["pages"]) == (
        "research_paper.pdf",
        "added",
        "pdf",
        3,
    )
    session.add_knowledge("Important finding: AI improves efficiency by 40%")

    best = session.search_knowledge("efficiency improvements")[0]
    assert best["text"] == "Important finding: AI improves efficiency by 40%", "its case is kept"
    assert {"text", "score", "source", "chunk", "metadata"} <= best.keys()
    best = session.search_knowledge("how much vacation do I get?")[0]
    assert "28 days" in best["text"]
    assert (best["source"], best["page"]) == ("research_paper.pdf", 1)
    assert session.search_knowledge("E-117", limit=1)[0]["page"] == 3
    assert session.search_knowledge("purple elephants on mars") == [], "nothing of it has to do with them"
    assert len(session.search_knowledge("purple elephants on mars", limit=3, min_score=0)) == 3
    assert session.search_knowledge("how much vacation do I get?", min_score=0.99) == []
    assert 0.15 <= best["score"] <= 1


def test_nothing_is_found_where_nothing_was_added(session: Session) -> None:
    """Searching, listing, clearing and deleting are no errors in an empty session."""
    assert session.search_knowledge("anything") == []
    assert session.list_knowledge() == []
    assert session.clear_knowledge() == 0
    assert session.delete_knowledge("nothing.pdf") == 0


def test_the_same_content_under_two_names_is_two_documents(session: Session) -> None:
    """Each is listed, filtered and removed on its own; the text is embedded once, and found once."""
    first, again, other = (
        session.add_knowledge(HOLIDAYS.encode(), name=name, metadata={"of": name[0]})
        for name in ("holidays.txt", "holidays.txt", "copy.txt")
    )
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert isinstance(other, dict)
    assert [(r["status"], r["source"], r["embedded"], r["same_as"]) for r in (first, again, other)] == [
        ("added", "holidays.txt", 1, None), ("unchanged", "holidays.txt", 0, None),
        ("duplicate", "copy.txt", 0, "holidays.txt"),
    ]  # fmt: skip
    assert [item["source"] for item in session.list_knowledge()] == ["copy.txt", "holidays.txt"]
    assert [f["source"] for f in session.search_knowledge("paid holiday", filters={"of": "c"})] == ["copy.txt"]
    assert [f["source"] for f in session.search_knowledge("paid holiday", sources=["copy.txt"])] == ["copy.txt"]
    (found,) = session.search_knowledge("paid holiday", limit=10)
    assert {found["source"], *(place["source"] for place in found["also_in"])} == {"copy.txt", "holidays.txt"}
    told = session.Agent("A", model="offline", knowledge=True).chat('CALL search_knowledge({"query": "paid holiday"})')
    assert "; also in " in told
    assert told.count("28 days") == 1
    session.add_knowledge(PARKING.encode(), name="holidays.txt")
    assert [f["source"] for f in session.search_knowledge("paid holiday", limit=1)] == ["copy.txt"]
    assert session.delete_knowledge("copy.txt") == 1
    assert texts(session.search_knowledge("paid holiday", limit=10)) == PARKING


def test_changed_content_replaces_the_old(session: Session) -> None:
    """The old chunks are no longer found."""
    session.add_knowledge(HOLIDAYS.encode(), name="rules.txt")
    assert session.add_knowledge(PARKING.encode(), name="rules.txt")["status"] == "replaced"  # type: ignore[call-overload]
    found = session.search_knowledge("holiday and parking", limit=10)
    assert texts(found) == PARKING
    assert [item["chunks"] for item in session.list_knowledge()] == [1]


def test_documents_are_listed_and_removed(session: Session) -> None:
    """One is removed by its name, then all; removed documents are not found."""
    for name, text in (("a.txt", HOLIDAYS), ("b.md", f"# Cars\n\n{PARKING}"), ("c.txt", EXPENSES)):
        session.add_knowledge(text.encode(), name=name, metadata={"of": name[0]})
    listed = session.list_knowledge()
    assert [(item["source"], item["kind"], item["metadata"]) for item in listed] == [
        ("a.txt", "text", {"of": "a"}), ("b.md", "markdown", {"of": "b"}), ("c.txt", "text", {"of": "c"}),
    ]  # fmt: skip
    assert [f["source"] for f in session.search_knowledge("parked cars", filters={"of": ["a", "c"]}, min_score=0)] != []
    assert all(f["source"] != "b.md" for f in session.search_knowledge("parked cars", filters={"of": ["a", "c"]}))
    assert {f["source"] for f in session.search_knowledge("cars", sources=["b.md"])} == {"b.md"}
    assert session.search_knowledge("cars", sources=["b.md"])[0]["heading"] == "Cars"
    assert session.delete_knowledge("b.md") == 1
    assert all(f["source"] != "b.md" for f in session.search_knowledge("parked cars", limit=10))
    assert session.clear_knowledge() == 2
    assert session.search_knowledge("holiday") == []


def test_bad_documents_are_said_and_the_others_go_on(session: Session, tmp_path: Path) -> None:
    """Each bad document has its own error in the result; a single one raises it."""
    given: list[object] = [
        tmp_path / "missing.pdf",
        _file(tmp_path, "locked.pdf", make_encrypted_pdf([HOLIDAYS], password="s3cret")),
        _file(tmp_path, "cut.pdf", make_pdf([HOLIDAYS])[:200]),
        _file(tmp_path, "scanned.pdf", make_pdf([""])),
        _file(tmp_path, "picture.pdf", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        _file(tmp_path, "report.docx", make_docx(["# Travel", EXPENSES])),
    ]
    receipts = session.add_knowledge(given)
    assert [r.get("type", "-") for r in receipts] == [  # type: ignore[union-attr]
        "FileNotFoundError", "DocumentEncrypted", "DocumentCorrupt", "DocumentEmpty", "DocumentUnsupported", "-",
    ]  # fmt: skip
    assert "E-117" in session.search_knowledge("refund of travel costs")[0]["text"]
    with pytest.raises(DocumentEncrypted, match="without a password"):
        session.add_knowledge(given[1])
    with pytest.raises(DocumentUnsupported, match="SESSIONFLEET_KNOWLEDGE_URLS"):
        session.add_knowledge("http://127.0.0.1:1/a.pdf")


def test_knowledge_stays_within_its_scope(fleet: Fleet) -> None:
    """Two sessions that name one collection, two users, and a base that many sessions attach to."""
    collection = f"shared-{uuid.uuid4().hex[:8]}"
    config = {"vector_store": {"provider": "qdrant", "config": {"collection_name": collection}}}
    ann = fleet.session(sid(), user_id=f"ann-{collection}", knowledge=config)
    bob = fleet.session(sid(), user_id=f"bob-{collection}", knowledge=config)
    ann.add_knowledge(HOLIDAYS)
    bob.add_knowledge(PARKING)
    assert texts(ann.search_knowledge("holiday or parking", limit=10)) == HOLIDAYS
    assert texts(bob.search_knowledge("holiday or parking", limit=10)) == PARKING

    ann.add_knowledge(EXPENSES, scope="user")
    later = fleet.session(sid(), user_id=ann.user_id, knowledge=config)
    assert texts(later.search_knowledge("receipts")) == EXPENSES, "a user's knowledge is in all sessions of the user"
    assert EXPENSES not in texts(bob.search_knowledge("receipts", limit=10))

    base = f"handbook-{collection}"
    editor, reader = fleet.session(sid(), knowledge=base), fleet.session(sid(), knowledge=base)
    editor.add_knowledge(HOLIDAYS.encode(), name="holidays.txt")
    assert [item["source"] for item in reader.list_knowledge()] == ["holidays.txt"]
    assert texts(reader.search_knowledge("vacation")) == HOLIDAYS
    assert fleet.session(sid()).search_knowledge("vacation") == []

    with pytest.raises(SessionOwnerError):
        fleet.session(ann.session_id, user_id="mallory").search_knowledge("holiday")
    with pytest.raises(BadRequest, match="user_id="):
        fleet.session(sid()).add_knowledge(HOLIDAYS, scope="user")
    for made in (ann, bob, later, editor, reader):
        made.clear_knowledge()
        made.delete()
    ann.clear_knowledge(scope="user")


def test_an_agent_uses_the_sessions_knowledge(fleet: Fleet) -> None:
    """Passages reach the prompt with their source; a tool searches for more."""
    session = fleet.session(sid(), knowledge=True)
    session.add_knowledge(HOLIDAYS.encode(), name="holidays.txt")
    agent = session.Agent("Research Assistant", model="offline")
    turn = agent.submit("How many days of holiday are paid?")
    assert "28 days" in turn.result(timeout=30)
    events = list(turn.events())
    assert [e.data for e in events if e.type is EventType.RETRIEVED] == [{"memories": 0, "chunks": 1}]
    thanked = agent.submit("Thanks!")
    thanked.result(timeout=30)
    told = [e.data for e in thanked.events() if e.type is EventType.RETRIEVED]
    assert told == [{"memories": 0, "chunks": 0}], "nothing is looked up for it"
    searched = agent.chat('CALL search_knowledge({"query": "paid holiday"})')
    assert "[holidays.txt]" in searched
    assert "28 days" in searched
    assert "28 days" not in fleet.session(sid()).Agent("A", model="offline").chat("How many days of holiday are paid?")
    session.delete()


def test_a_long_document_holds_nothing_up(fleet: Fleet) -> None:
    """A turn, a search and another document's turn go on beside it; its progress is seen; cancel leaves nothing."""
    session = fleet.session(sid())
    session.add_knowledge(PARKING)
    book = make_pdf([f"Page {n}. " + " ".join(f"word{n}x{i} about matter {i}" for i in range(150)) for n in range(120)])
    operation = session.submit_knowledge(book, name="book.pdf")
    steps = operation.progress()
    first = next(step for step in steps if step.stage == "embedding")
    assert 0 < first.done < first.total
    assert session.Agent("A").chat("SAY meanwhile", timeout=30) == "meanwhile"
    assert texts(session.search_knowledge("where do cars go", limit=10)) == PARKING, "nothing of it is visible yet"
    assert session.operation(operation.id).status.value == "running"
    with pytest.raises(InvalidTurnId, match="not in one of the scopes"):
        fleet.session(sid()).operation(operation.id)
    operation.cancel()
    with pytest.raises(TurnCancelled):
        operation.result(timeout=30)
    assert [item["source"] for item in session.list_knowledge()] != ["book.pdf"]
    assert session.delete()["chunks"] == 1


def test_progress_is_told_as_it_goes(session: Session) -> None:
    """By a callback on the caller's thread, and as an async iterator."""
    seen: list[Progress] = []
    pdf = make_pdf([f"{HOLIDAYS} {n}" * 4 for n in range(40)])
    receipt = session.add_knowledge(pdf, name="a.pdf", progress=seen.append)
    assert seen[0].stage == "reading"
    assert (seen[-1].stage, seen[-1].done) == ("embedding", receipt["chunks"])  # type: ignore[call-overload]

    async def follow() -> list[int]:
        operation = await session.asubmit_knowledge(pdf + b"\n", name="b.pdf")
        done = [step.done async for step in operation.aprogress() if step.stage == "embedding"]
        assert (await operation.aresult())["status"] == "added"
        return done

    done = asyncio.run(follow())
    assert done == sorted(done)
    assert len(done) > 1


def test_deleting_a_session_leaves_no_key_and_no_point(fleet: Fleet) -> None:
    """Documents, the list of them, uploads, lanes: all of it; the receipt says how much."""
    session = fleet.session(sid())
    session.Agent("A").chat("SAY hello")
    added = session.add_knowledge(make_pdf([HOLIDAYS * 4, PARKING * 4]), name="a.pdf")
    session.search_knowledge("holiday")
    receipt = session.delete()
    assert (receipt["documents"], receipt["chunks"], receipt["turns"]) == (1, added["chunks"], 1)  # type: ignore[call-overload]
    assert receipt["chunks"] > 1
    with fleet.server.client() as client:
        left = list(client.scan_iter(f"*{session.session_id}*", count=1000))
        assert [key for key in left if b":op:" not in key] == [], "replies of operations stay for a minute"
        lanes = b" ".join(ref for key in client.scan_iter("*:lanes") for ref in client.smembers(key))
    assert session.session_id.encode() not in lanes
    again = fleet.session(session.session_id)
    assert again.search_knowledge("holiday") == []
    again.delete()
    assert keys_without_ttl(fleet.server) == []


@embedded_only
def test_turn_workers_load_no_embedding_model(new_fleet: Callable[..., Fleet]) -> None:
    """One of the two processes has the model and the engine after this; the other has not."""
    fleet = new_fleet()
    for name in ("one", "two"):
        fleet.start(name, anew=True)
    fleet.ready()
    session = fleet.session(sid())
    session.add_knowledge(HOLIDAYS)
    assert "August" in session.Agent("A").chat("SAY August")
    heavy = ("onnxruntime", "qdrant_edge", "tokenizers", "numpy")

    def loaded(pid: int) -> bool:
        return any(name in mapped.path for mapped in psutil.Process(pid).memory_maps() for name in heavy)

    serving = [worker for worker in fleet.registered() if "retrieval" in worker.queues]
    others = [worker for worker in fleet.registered() if "retrieval" not in worker.queues]
    assert (len(serving), len(others)) == (1, 1)
    assert loaded(serving[0].pid)
    assert not loaded(others[0].pid)


async def test_an_expired_session_leaves_no_documents(fleet: Fleet) -> None:
    """Redis forgets the session by itself; retrieval workers remove what it left. Whoever takes its id sees none."""
    session = fleet.session(sid(), ttl=1)
    await session.aadd_knowledge(HOLIDAYS)
    lane, store = session.keys.lane(KNOWLEDGE), async_store(fleet.settings)
    scripts = ScriptRunner(store)

    async def wake(wake_up: WakeUp) -> bool:
        return await fleet.client.portal.acall(fleet.client.connection.dispatcher.wake(wake_up))

    operations = Operations(TurnStore(scripts, store, fleet.settings), Bell(Channels(store), "janitor"), wake)
    janitor = LaneJanitor(fleet.settings, store, operations, lambda: True)
    assert await store.exists(lane.sources)
    await until_gone(lambda: store.exists(session.keys.meta))
    heir = fleet.session(session.session_id, user_id="another")
    await heir.aset_state("mine", True)
    assert await heir.asearch_knowledge("holiday") == []
    assert await heir.alist_knowledge() == []
    # The workers have janitors of their own, which look every 30 seconds: one of them may have been here already.
    assert await janitor.look() == 1 or not await store.exists(lane.sources)
    await until_gone(lambda: store.exists(lane.sources))
    assert await janitor.look() == 0
    await heir.aadd_knowledge(PARKING)
    assert texts(await heir.asearch_knowledge("holiday or parking", limit=10)) == PARKING
    assert await store.ttl(lane.sources) == -1
    await heir.adelete()
    await store.aclose()


async def until_gone(exists: Callable[[], Awaitable[int]]) -> None:
    """Wait until a key is gone."""
    async with asyncio.timeout(20):
        while await exists():  # noqa: ASYNC110 - Redis notifies nobody
            await asyncio.sleep(0.05)


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_who_takes_an_expired_session_s_id_begins_anew(fleet: Fleet) -> None:
    """What the earlier one left is removed before the first document of the new one is added."""
    first = fleet.session(sid(), user_id="ann", ttl=1)
    first.add_knowledge(HOLIDAYS.encode(), name="a.txt")
    with fleet.server.client() as client:
        wait_until(lambda: not client.exists(first.keys.meta), description="the session expired", timeout=10)
    second = fleet.session(first.session_id, user_id="bob")
    assert second.add_knowledge(PARKING.encode(), name="b.txt")["status"] == "added"  # type: ignore[call-overload]
    assert [item["source"] for item in second.list_knowledge()] == ["b.txt"]
    assert texts(second.search_knowledge("holiday or parking", limit=10)) == PARKING
    assert second.delete()["documents"] == 1
