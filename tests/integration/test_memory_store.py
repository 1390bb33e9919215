"""A session's memory through its methods, on a real store; from several processes at once."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker_config.settings import Settings
from sessions import Session
from sessions.errors import BadRequest, SessionExists, SessionOwnerError, StateConflict
from tests.support.fleet import keys_without_ttl
from tests.support.local_search import search_here
from tests.support.servers import Server
from tests.support.waiting import wait_until


@pytest.fixture
def settings(server: Server) -> Settings:
    return Settings(redis_url=server.url, tenant=f"t{uuid.uuid4().hex}")


@pytest.fixture
def open_session(settings: Settings) -> Any:
    search_here(settings)

    def make(session_id: str | None = None, user_id: str | None = None, **options: Any) -> Session:
        return Session(session_id or uuid.uuid4().hex, user_id, settings=settings, **options)

    return make


def texts(found: Any) -> list[str]:
    return [memory["text"] for memory in found]


def test_a_memory_is_told_with_all_it_has(open_session: Any) -> None:
    """By its id, in a list and in a search: text, kind, metadata, scope and time; a search adds the score."""
    session = open_session(user_id="ann")
    memory_id = session.add_memory("likes green tea", "short", metadata={"topic": "drinks"}, source="chat")
    told = session.get_memory(memory_id)
    assert datetime.now(UTC) - told["created_at"] < timedelta(minutes=1)
    assert told["updated_at"] == told["created_at"]
    assert {key: value for key, value in told.items() if key not in ("created_at", "updated_at")} == {
        "id": memory_id,
        "text": "likes green tea",
        "type": "short",
        "metadata": {"topic": "drinks", "source": "chat"},
        "scope": "user",
        "version": 1,
    }
    assert list(session.list_memory()) == [told]
    [found] = session.search_memory("tea", min_score=0.9)
    assert {key: found[key] for key in told} == told
    assert found["score"] == 1.0
    assert session.search_memory("tea", filters={"topic": "food"}) == []
    assert session.search_memory("tea", "long") == []


def test_a_memory_is_changed_under_its_id(open_session: Any) -> None:
    """Text, kind and metadata, each alone; found by its new words; the version counts, and refuses what it overtook."""
    session = open_session(user_id="ann")
    memory_id = session.add_memory("likes green tea", metadata={"topic": "drinks"})
    first = session.get_memory(memory_id)
    changed = session.update_memory(memory_id, "likes black coffee", version=first["version"])
    assert changed == session.get_memory(memory_id)
    assert (changed["text"], changed["metadata"], changed["version"]) == ("likes black coffee", {"topic": "drinks"}, 2)
    assert changed["created_at"] == first["created_at"] < changed["updated_at"]
    assert texts(session.search_memory("coffee")) == ["likes black coffee"]
    assert session.search_memory("green") == []
    with pytest.raises(StateConflict, match="version 2, not 1"):
        session.update_memory(memory_id, "likes milk", version=1)
    again = session.update_memory(memory_id, metadata={}, memory_type="short")
    assert (again["text"], again["metadata"], again["type"]) == ("likes black coffee", {}, "short")
    assert session.update_memory("no-such-memory", "x") is None
    assert open_session(user_id="eve").update_memory(memory_id, "x") is None
    for wrong in ({}, {"text": " "}, {"text": "x", "version": 0}, {"metadata": [1]}):
        with pytest.raises(BadRequest):
            session.update_memory(memory_id, **wrong)
    own = session.add_memory("meets Bob", scope="session")
    assert session.update_memory(own, "meets Eve")["scope"] == "session"


async def test_memories_are_changed_asynchronously(open_session: Any) -> None:
    """The async twin."""
    session = open_session(user_id="ann")
    memory_id = await session.aadd_memory("likes tea")
    assert (await session.aupdate_memory(memory_id, "likes milk"))["text"] == "likes milk"


def test_the_same_is_kept_once(open_session: Any) -> None:
    """In each scope; what was said again is as new as then."""
    session = open_session(user_id="ann")
    first = session.add_memory("Favourite drink is cola")
    session.add_memory("Favourite drink is now coffee")
    assert session.add_memory("favourite  drink is cola") == first
    assert session.add_memory("Favourite drink is cola", scope="session") != first
    assert len(session.list_memory()) == 2
    kept = session.get_memory(first)
    assert kept["updated_at"] > kept["created_at"]


def test_memory_is_the_user_s_where_there_is_one(open_session: Any) -> None:
    """Seen in all sessions of the user, by no other; without a user it is the session's; `scope` chooses."""
    first, second = open_session(user_id="ann"), open_session(user_id="ann")
    first.add_memory("tea at five")
    first.add_memory("tea in this session", scope="session")
    assert sorted(texts(first.search_memory("tea"))) == ["tea at five", "tea in this session"]
    assert texts(second.search_memory("tea")) == ["tea at five"]
    assert texts(first.search_memory("tea", scope="session")) == ["tea in this session"]
    assert texts(first.list_memory(scope="user")) == ["tea at five"]
    nobody, eve = open_session(), open_session(user_id="eve")
    nobody.add_memory("nobody's tea")
    assert texts(nobody.search_memory("tea")) == ["nobody's tea"]
    assert texts(eve.search_memory("tea")) == []
    with pytest.raises(BadRequest, match="pass user_id="):
        nobody.add_memory("x", scope="user")


def test_a_backend_without_a_user_acts_as_the_owner(open_session: Any) -> None:
    """The user that a session was first used with, be it only to remember something; another one is refused."""
    ann = open_session(user_id="ann")
    ann.add_memory("ann's tea")
    backend = open_session(ann.session_id)
    assert texts(backend.search_memory("tea")) == ["ann's tea"]
    backend.add_memory("more tea")
    assert sorted(texts(open_session(user_id="ann").search_memory("tea"))) == ["ann's tea", "more tea"]
    eve = open_session(ann.session_id, "eve")
    for work in (
        lambda: eve.add_memory("x"),
        lambda: eve.add_memory("x", scope="session"),
        lambda: eve.search_memory("tea"),
        eve.list_memory,
        eve.clear_memory,
        lambda: eve.get_memory("x"),
        lambda: eve.delete_memory("x"),
    ):
        with pytest.raises(SessionOwnerError):
            work()


def test_clearing_reaches_one_scope(open_session: Any) -> None:
    """Of one kind, or all; the session's and other users' memories stay."""
    session, bob = open_session(user_id="ann"), open_session(user_id="bob")
    for number, kind in enumerate(("short", "long", "long")):
        session.add_memory(f"tea {number}", kind)
        session.add_memory(f"tea {number}", kind, scope="session")
    bob.add_memory("tea")
    assert session.clear_memory("short_term") == 1
    assert session.clear_memory() == 2
    assert (len(session.list_memory()), len(session.list_memory(scope="session")), len(bob.list_memory())) == (0, 3, 1)
    assert session.clear_memory("long", scope="session") == 2
    assert session.clear_memory("all", scope="session") == 1
    assert session.clear_memory(scope="session") == 0


def test_one_memory_is_forgotten_by_its_id(open_session: Any) -> None:
    """It is found in whichever scope it is; forgetting an unknown id returns False."""
    session = open_session(user_id="ann")
    ids = [session.add_memory("tea"), session.add_memory("tea", scope="session")]
    assert [session.delete_memory(memory_id) for memory_id in (*ids, ids[0], "no such id")] == [
        True,
        True,
        False,
        False,
    ]
    assert session.get_memory(ids[0]) is None
    assert session.search_memory("tea") == []


def test_pages_lead_through_all_memories(open_session: Any) -> None:
    """Newest first, each once, also when only one kind is wanted."""
    session = open_session()
    for n in range(12):
        session.add_memory(f"m{n}", "short" if n % 3 == 0 else "long")

    def walk(**options: Any) -> list[str]:
        seen, page = [], session.list_memory(**options)
        while True:
            seen += texts(page)
            if page.cursor is None:
                return seen
            page = session.list_memory(cursor=page.cursor, **options)

    assert walk(limit=5) == walk(limit=12) == [f"m{n}" for n in reversed(range(12))]
    assert walk(limit=3, memory_type="short") == ["m9", "m6", "m3", "m0"]


def test_the_async_twins_do_the_same(open_session: Any) -> None:
    """Every method has an async form with the same result."""
    session = open_session(user_id="ann")

    async def all_of_them() -> None:
        memory_id = await session.aadd_memory("green tea", metadata={"n": 1}, m=2)
        told = await session.aget_memory(memory_id)
        assert told["metadata"] == {"n": 1, "m": 2}
        assert texts(await session.asearch_memory("tea")) == ["green tea"]
        assert texts(await session.alist_memory()) == ["green tea"]
        assert await session.adelete_memory(memory_id)
        assert await session.aclear_memory() == 0

    asyncio.run(all_of_them())


def test_limits_are_those_of_the_settings(new_server: Server, tmp_path: Path) -> None:
    """SESSIONFLEET_MEMORY_TEXT_LIMIT_BYTES, counted in UTF-8, and SESSIONFLEET_MEMORY_LIMIT."""
    settings = Settings(redis_url=new_server.url, home=tmp_path, memory_text_limit_bytes=10, memory_limit=1)
    session = Session("limited", settings=settings)
    with pytest.raises(BadRequest, match=r"12 bytes, the limit is 10.*SESSIONFLEET_MEMORY_TEXT_LIMIT_BYTES"):
        session.add_memory("ä" * 6)
    session.add_memory("ä" * 5)
    with pytest.raises(BadRequest, match="the limit is 1 "):
        session.add_memory("another")


def test_what_cannot_be_remembered_is_refused(open_session: Any) -> None:
    """With the argument, its value and what to give instead; nothing is stored, and no session begins."""
    session = open_session(user_id="ann")
    refused: list[tuple[str, Any]] = [
        ("non-empty", lambda: session.add_memory("  ")),
        ("non-empty", lambda: session.add_memory(b"bytes")),
        ("surrogate pair", lambda: session.add_memory("\ud800")),
        ("limit is 32768", lambda: session.add_memory("x" * 40_000)),
        ("'short' or 'long'", lambda: session.add_memory("x", "all")),
        ("is not JSON", lambda: session.add_memory("x", metadata={"at": datetime.now(UTC)})),
        ("is not JSON", lambda: session.add_memory("x", score=float("nan"))),
        ("dict", lambda: session.add_memory("x", metadata=["a"])),
        ("limit is 8192", lambda: session.add_memory("x", metadata={"a": "x" * 9_000})),
        ("scope 'app'", lambda: session.add_memory("x", scope="app")),
        ("non-empty", lambda: session.search_memory("")),
        ("limit 0", lambda: session.search_memory("x", limit=0)),
        ("limit True", lambda: session.list_memory(True)),
        ("min_score 2", lambda: session.search_memory("x", min_score=2)),
        ("filters", lambda: session.search_memory("x", filters="a")),
        ("None for both", lambda: session.search_memory("x", "medium")),
        ("scope 1", lambda: session.search_memory("x", scope=1)),
        ("memory id", lambda: session.get_memory(3)),
    ]
    for match, work in refused:
        with pytest.raises(BadRequest, match=match):
            work()
    assert len(session.list_memory()) == 0
    assert session.delete()["keys"] == 0


def test_a_fork_takes_the_session_s_memories_along(open_session: Any) -> None:
    """Both have them afterwards, and share nothing; the user's stay the user's; a refused fork leaves nothing."""
    session = open_session(user_id="ann")
    session.add_memory("tea in this session", scope="session")
    session.add_memory("ann's tea")
    assert len(session.search_memory("tea")) == 2
    forked = session.fork()
    twin = open_session(forked.session_id, "ann")
    assert texts(twin.list_memory(scope="session")) == ["tea in this session"]
    twin.add_memory("only here", scope="session")
    session.clear_memory(scope="session")
    assert sorted(texts(twin.search_memory("tea"))) == ["ann's tea", "tea in this session"]
    assert len(twin.list_memory(scope="session")) == 2
    with pytest.raises(SessionExists):
        twin.fork(twin.session_id)
    assert twin.delete()["memories"] == 2


def test_deleting_and_expiring_leave_no_key(open_session: Any, settings: Settings, server: Server) -> None:
    """Of the session; and none of a user whose memory was cleared."""
    gone, expiring = open_session(user_id="ann"), open_session(ttl=1.5)
    for session in (gone, expiring):
        session.add_memory("tea", scope="session")
        assert texts(session.search_memory("tea")) == ["tea"]
    gone.add_memory("tea")
    assert gone.delete()["memories"] == 1
    wait_until(expiring.is_expired, description="the session expires")
    assert texts(expiring.search_memory("tea")) == []
    assert open_session(user_id="ann").clear_memory() == 1
    with server.client() as client:
        left = [key.decode() for key in client.scan_iter(f"*:{settings.tenant}:*", count=1000)]
        assert [key for key in left if ":op:" not in key and not key.endswith(":expired")] == []
    assert [key for key in keys_without_ttl(server) if f":{settings.tenant}:" in key] == []


def _write(url: str, tenant: str, session_id: str, number: int) -> None:
    session = Session(session_id, settings=Settings(redis_url=url, tenant=tenant))
    threads = [
        threading.Thread(target=lambda t=t: [session.add_memory(f"{number}-{t}-{n}") for n in range(10)])
        for t in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_many_writers_lose_nothing(open_session: Any, settings: Settings, server: Server) -> None:
    """Two processes of four threads each add ten memories per thread, while they are searched."""
    session = open_session()
    context = multiprocessing.get_context("spawn")
    arguments = (server.url, settings.tenant, session.session_id)
    writers = [context.Process(target=_write, args=(*arguments, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        session.search_memory("0-0-0", limit=100)
    wanted = {f"{p}-{t}-{n}" for p in range(2) for t in range(4) for n in range(10)}
    assert set(texts(session.list_memory(1000))) == wanted
    assert set(texts(session.search_memory("0 1 2 3 4 5 6 7 8 9", limit=100))) == wanted
