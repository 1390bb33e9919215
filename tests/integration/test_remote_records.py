"""State, records, memory and knowledge over HTTP: what the methods give is what they give locally."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessions import Progress, Session
from sessions.client import backend
from sessions.errors import (
    BadRequest,
    DocumentUnsupported,
    InvalidState,
    InvalidTurnId,
    SessionExists,
    SessionOwnerError,
    StateConflict,
    StateNotFoundError,
    TurnNotFound,
)
from sessions.local.deletion import LocalDeletion
from sessions.local.knowledge import LocalKnowledge
from sessions.local.lifecycle import LocalLifecycle
from sessions.local.listing import LocalListing
from sessions.local.memory import LocalMemory
from sessions.local.state import LocalState
from sessions.local.turns import LocalTurnLists
from sessions.remote.deletion import RemoteDeletion
from sessions.remote.knowledge import RemoteKnowledge
from sessions.remote.lifecycle import RemoteLifecycle
from sessions.remote.listing import RemoteListing
from sessions.remote.memory import RemoteMemory
from sessions.remote.state import RemoteState
from sessions.remote.turns import RemoteTurnLists
from tests.support.documents import make_pdf
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess

Pair = Callable[..., tuple[Session, Session]]


@pytest.fixture
def pair(gateway_process: GatewayProcess, fleet: Fleet) -> Pair:
    """Opens one session twice: behind the gateway, and on the fleet itself."""

    def open_both(**options: Any) -> tuple[Session, Session]:
        session_id = uuid.uuid4().hex
        remote = Session(session_id, agent_url=f"{gateway_process.url}/agent", **options)
        return remote, fleet.session(session_id, **options)

    return open_both


@pytest.mark.parametrize(
    ("port", "local", "remote"),
    [
        (backend.StateCalls, LocalState, RemoteState),
        (backend.LifecycleCalls, LocalLifecycle, RemoteLifecycle),
        (backend.MemoryCalls, LocalMemory, RemoteMemory),
        (backend.KnowledgeCalls, LocalKnowledge, RemoteKnowledge),
        (backend.ListingCalls, LocalListing, RemoteListing),
        (backend.DeletionCalls, LocalDeletion, RemoteDeletion),
        (backend.SessionTurnCalls, LocalTurnLists, RemoteTurnLists),
    ],
)
def test_both_sides_take_the_same(port: type, local: type, remote: type) -> None:
    """An option added on one side must be added on the other: mypy accepts more than the port has."""
    for name, _ in inspect.getmembers(port, inspect.isfunction):
        if not name.startswith("_"):
            taken = [list(inspect.signature(getattr(side, name)).parameters) for side in (port, local, remote)]
            assert taken[0] == taken[1] == taken[2], name


def test_whether_a_session_is_compacted_is_the_same_from_both_sides(pair: Pair) -> None:
    """Chosen when it is created, or later; `off` is a choice too."""
    remote, local = pair(compact="auto")
    assert remote.create()
    assert (remote.info().compact, local.info().compact) == ("auto", "auto")
    assert remote.update(compact="off").compact == "off"
    assert local.update(compact="auto").compact == "auto"
    assert remote.info().compact == "auto"


def test_state_is_the_same_from_both_sides(pair: Pair) -> None:
    """Set, read, several at once, count, swap, delete; keys of any characters; all scopes."""
    remote, local = pair(user_id=f"ann-{uuid.uuid4().hex}")
    remote.set_state("step", 1)
    remote.update_state({"cart": ["tea"], "a/b ü?#": {"x": None}})
    assert local.get_state() == remote.get_state() == {"step": 1, "cart": ["tea"], "a/b ü?#": {"x": None}}
    assert remote.get_state("a/b ü?#") == {"x": None}
    assert remote.get_state("missing", "default") == "default"
    assert (remote.increment_state("step", 2), remote.increment_state("n", default=10)) == (3, 11)
    remote.compare_and_set_state("step", 3, 4)
    with pytest.raises(StateConflict):
        remote.compare_and_set_state("step", 3, 5)
    remote.compare_and_set_state("new", None, 1)
    remote.delete_state("cart")
    remote.delete_state("cart")
    assert local.get_state() == {"step": 4, "n": 11, "new": 1, "a/b ü?#": {"x": None}}
    remote.set_state("user:language", "de")
    assert local.get_state("user:language") == "de"
    with pytest.raises(InvalidState):
        remote.set_state("x", object())
    with pytest.raises(InvalidState):
        remote.increment_state("a/b ü?#")


def test_half_a_surrogate_pair_is_kept_by_both_sides(pair: Pair) -> None:
    """State may hold it, as JSON may; it has no form in UTF-8, and reaches the gateway all the same."""
    remote, local = pair()
    remote.set_state("half", "é\ud800")
    assert local.get_state("half") == remote.get_state("half") == "é\ud800"


def test_a_name_of_dots_does_not_leave_its_place(pair: Pair) -> None:
    """To delete the value `..` by a path would be to delete the session: it is refused before it is sent."""
    remote, local = pair()
    remote.set_state("k", 1)
    for name in (".", ".."):
        for call in (remote.delete_state, remote.get_state, remote.delete_memory, remote.delete_knowledge):
            with pytest.raises(BadRequest, match="cannot be part of a URL"):
                call(name)
    remote.set_state("...", 2)
    assert local.get_state() == {"k": 1, "...": 2}
    assert remote.get_state("...") == 2
    remote.delete_state("...")
    assert local.get_state() == {"k": 1}


def test_checkpoints_go_back(pair: Pair) -> None:
    """Each numbered checkpoint restores its state; an unknown number is StateNotFoundError, as locally."""
    remote, local = pair()
    with pytest.raises(StateNotFoundError):
        remote.restore_state()
    first = remote.save_state({"step": 1})
    remote.set_state("step", 2)
    assert remote.restore_state() == {"step": 2}
    assert remote.restore_state(first) == {"step": 1} == local.get_state()
    for missing in (99, 0, -1, "x"):
        for session in (remote, local):
            with pytest.raises(StateNotFoundError):
                session.restore_state(missing)
    assert remote.checkpoints() == local.checkpoints()


def test_the_context_and_the_transcript_are_the_same(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are the same before the first turn and after several."""
    remote, local = pair(user_id="ann")
    assert remote.get_context() == local.get_context()
    agent = remote.Agent("Assistant", tools=["look_up"])
    agent.chat('CALL look_up({"query": "tea"})')
    agent.chat("I prefer window seats")
    assert remote.get_context() == local.get_context()
    assert remote.get_context("seat preferences") == local.get_context("seat preferences") != ""
    assert remote.history() == local.history()
    with monkeypatch.context() as small:
        small.setattr("sessions.remote.lifecycle._LARGEST_PAGE", 1)
        for order in ("oldest", "newest"):
            assert remote.history(2, order=order) == local.history(2, order=order)
            assert remote.history(10**6, order=order) == local.history(10**6, order=order)
    newest = remote.history(1, order="newest")
    assert newest == local.history(1, order="newest")
    assert remote.history(1, order="newest", cursor=newest.cursor) == local.history(1, order="newest", cursor=1)
    with pytest.raises(BadRequest):
        remote.history(0)
    assert (remote.is_expired(), remote.time_to_expiry()) == (False, None)


def test_a_session_is_made_forked_and_deleted(pair: Pair, fleet: Fleet) -> None:
    """A fork is also a remote session; the receipt says what was removed."""
    remote, local = pair(user_id="ann", ttl=3600)
    assert (remote.create(), remote.create()) == (True, False)
    assert 3500 < (remote.time_to_expiry() or 0) <= 3600
    agent = remote.Agent("Writer", instructions="x")
    first = agent.submit("SAY one")
    first.result(timeout=20)
    agent.chat("SAY two")
    remote.set_state("k", 1)
    fork = remote.fork(at=first.id)
    assert fork.is_remote
    assert [message.text for message in fork.history()] == ["SAY one", "one"]
    assert fork.get_state() == {"k": 1}
    assert fork.Agent("Writer").chat("SAY three") == "three"
    with pytest.raises(SessionExists):
        remote.fork(fork.session_id)
    with pytest.raises(TurnNotFound):
        remote.fork(at=f"{remote.session_id}~{'0' * 32}")
    receipt = remote.delete()
    assert receipt["turns"] == 2
    assert set(receipt) == set(fleet.session(fork.session_id).delete())
    assert local.get_context()["created_at"] is None


def test_an_agent_of_a_name_alone_is_the_sessions(pair: Pair) -> None:
    """Configured once, from either side; an unknown name is a plain agent, as locally."""
    remote, local = pair()
    local.Agent("Clerk", tools=["look_up"]).chat("SAY hi")
    assert remote.Agent("Clerk").chat('CALL look_up({"query": "tea"})') == "ok: tea found"
    assert remote.Agent("Somebody").chat("SAY hello") == "hello"


def test_memory_is_the_same_from_both_sides(pair: Pair) -> None:
    """Add, list, get, search, delete, clear; of the user and of the session; dicts with the same fields."""
    remote, local = pair(user_id=f"ann-{uuid.uuid4().hex}")
    seat = remote.add_memory("Ann prefers window seats", metadata={"topic": "travel"}, year=2026)
    remote.add_memory("The gate is B7", "short", scope="session")
    assert remote.get_memory(seat) == local.get_memory(seat)
    assert remote.get_memory("nothing") is None
    assert remote.update_memory(seat, metadata={"topic": "travel", "year": 2026}, version=1) == local.get_memory(seat)
    assert local.get_memory(seat)["version"] == 2
    with pytest.raises(StateConflict):
        remote.update_memory(seat, "Ann prefers aisle seats", version=1)
    assert remote.update_memory("nothing", "x") is None
    assert remote.list_memory() == local.list_memory()
    assert remote.list_memory(scope="session") == local.list_memory(scope="session")
    found = remote.search_memory("seat preferences", filters={"year": {"$gt": 2025}}, timeout=30)
    assert [memory["text"] for memory in found] == ["Ann prefers window seats"]
    assert set(found[0]) == set(local.search_memory("seat preferences")[0])
    assert remote.search_memory("gate", "long", scope="session") == []
    assert (remote.delete_memory(seat), remote.delete_memory(seat)) == (True, False)
    assert (remote.clear_memory(scope="session"), remote.clear_memory("all")) == (1, 0)
    with pytest.raises(BadRequest, match="memory_type"):
        remote.add_memory("x", "medium")
    with pytest.raises(SessionOwnerError):
        Session(remote.session_id, "bob", agent_url=remote.agent_url).list_memory()


def test_documents_are_read_here_and_uploaded(pair: Pair, tmp_path: Path) -> None:
    """A path of this machine, bytes and a text; with progress; found by both sides; removed again."""
    remote, local = pair(knowledge=True)
    path = tmp_path / "policy.pdf"
    path.write_bytes(make_pdf(["Trains are booked in second class.", "Form E-117 is for travel."]))
    told: list[Progress] = []
    added = remote.add_knowledge(str(path), metadata={"year": 2026}, progress=told.append, timeout=60)
    assert isinstance(added, dict)
    assert (added["source"], added["status"], added["pages"]) == ("policy.pdf", "added", 2)
    assert told
    results = remote.add_knowledge([b"Coffee is free.", "Tea is free, too.", tmp_path / "none.pdf"], timeout=60)
    assert [r["status"] for r in results] == ["added", "added", "failed"]
    assert remote.list_knowledge() == local.list_knowledge()
    found = remote.search_knowledge("which form is for travel?", 1, {"year": 2026})
    assert "E-117" in found[0]["text"]
    assert found == local.search_knowledge("which form is for travel?", 1, {"year": 2026})
    assert remote.search_knowledge("which form is for travel?", min_score=0.99) == []
    assert remote.delete_knowledge("policy.pdf") == added["chunks"]
    assert remote.delete_knowledge("policy.pdf") == 0
    assert remote.clear_knowledge() == 2
    with pytest.raises(DocumentUnsupported):
        remote.add_knowledge(b"MZ\x00\x01\x02", name="x.exe", timeout=60)
    with pytest.raises(FileNotFoundError):
        remote.add_knowledge("no_such.pdf")


def test_a_document_is_followed_by_its_operation(pair: Pair) -> None:
    """From any process, by its id; the same key is the same operation."""
    remote, local = pair(user_id=f"ann-{uuid.uuid4().hex}")
    operation = remote.submit_knowledge(b"Coffee is free.", name="c.txt", scope="user", idempotency_key="k")
    assert (
        remote.submit_knowledge(b"Coffee is free.", name="c.txt", scope="user", idempotency_key="k").id == operation.id
    )
    again = remote.operation(operation.id)
    assert again.result(timeout=60) == operation.result(timeout=60)
    assert [event.type for event in again.events()] == [event.type for event in local.operation(operation.id).events()]
    with pytest.raises(InvalidTurnId):
        remote.operation(f"{uuid.uuid4().hex}~knowledge~{'0' * 32}")
    remote.clear_knowledge(scope="user")


def test_a_base_is_shared_by_sessions(pair: Pair) -> None:
    """`knowledge="..."`: what is added goes there, and another session's search and agents find it."""
    base = f"base-{uuid.uuid4().hex}"
    remote, _ = pair(knowledge=base)
    remote.add_knowledge("The canteen opens at noon.", timeout=60)
    other, _ = pair(knowledge=base)
    assert "noon" in other.search_knowledge("when does the canteen open?")[0]["text"]
    events = list(other.Agent("A").submit("When does the canteen open?").events())
    assert [event.data["chunks"] for event in events if event.type == "retrieved"] == [1]
    assert remote.clear_knowledge() == 1
    own, _ = pair(knowledge={"vector_store": {"provider": "qdrant", "config": {"collection_name": "x"}}})
    with pytest.raises(BadRequest, match="not supported by gateways yet"):
        own.search_knowledge("x")


async def test_the_async_twins_do_the_same(pair: Pair) -> None:
    """The async methods run on the caller's loop."""
    remote, local = pair()
    await remote.aset_state("k", 1)
    assert await remote.aincrement_state("k") == 2
    assert await remote.aget_context() == await local.aget_context()
    assert (await remote.aadd_knowledge("Coffee is free.", timeout=60))["status"] == "added"  # type: ignore[call-overload]
    assert await remote.aclear_knowledge() == 1
    assert (await (await remote.afork()).aget_state()) == {"k": 2}


def test_users_of_any_name_are_told_apart(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """`Jörg 林` is the same user over HTTP and locally."""
    session_id = uuid.uuid4().hex
    Session(session_id, "Jörg 林", agent_url=f"{gateway_process.url}/agent").set_state("k", 1)
    assert fleet.session(session_id, user_id="Jörg 林").get_state() == {"k": 1}
