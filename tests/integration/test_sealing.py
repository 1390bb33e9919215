"""Encrypted deployments: what reaches Redis and the index's folder, looked at from outside, on real workers.

The server's append-only file has every write since its start, also those of what is gone again: an operation's request
while it ran, its result, its journal, the wake-ups on the broker.
"""

from __future__ import annotations

import base64
import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions import Session
from sessions.client.operations import Operations
from sessions.errors import IdempotencyConflict, SealError, TurnCancelled, TurnConfigurationError
from sessions.protocol.knowledge_requests import AddKnowledge, RemoveKnowledge
from sessions.protocol.lanes import KNOWLEDGE
from sessions.store.channels import Channels
from sessions.store.events import Bell
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.turns import TurnStore
from sessions.store.wake_up import WakeUp
from tests.support.documents import make_pdf
from tests.support.fleet import Fleet, keys_without_ttl, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

SECRET = "Quetzalcoatlus"
OLD = f"old:{base64.b64encode(bytes(range(32))).decode()}"
NEW = f"new:{base64.b64encode(bytes(range(32, 64))).decode()}"


def sid() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


def holds(folder: Path, text: str) -> list[str]:
    """The files under a folder in which a text is, each with what stands around it."""
    found, wanted = [], text.lower().encode()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if (at := data.lower().find(wanted)) >= 0:
            found.append(f"{path.name}: {data[max(0, at - 200) : at + 100]!r}")
    return found


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which everything ever written is in the append-only file as it came."""
    options = ("--aof-use-rdb-preamble", "no", "--auto-aof-rewrite-percentage", "0")
    with running(Server(tmp_path_factory.mktemp("sealed"), options=options)) as started:
        yield started


@pytest.fixture(scope="module")
def sealed(own_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers with a key; one of them serves retrieval."""
    env = {"SESSIONFLEET_ENCRYPTION_KEYS": OLD}
    with running_fleet(tmp_path_factory.mktemp("fleet"), own_server, env, ("sealed1", "sealed2")) as fleet:
        yield fleet


@contextlib.contextmanager
def seen_with(fleet: Fleet, keys: str | None, session_id: str) -> Iterator[Session]:
    """The session as a client of the fleet sees it that has other keys."""
    session = Session(session_id, settings=Settings(redis_url=fleet.server.url, encryption_keys=keys))  # type: ignore[arg-type]
    yield session
    session.client.portal.call(session.client.aclose())


def texts_kept(fleet: Fleet, session: Session) -> int:
    with fleet.server.client() as client:
        return int(client.hlen(session.keys.lane(KNOWLEDGE).texts))


def use_all(fleet: Fleet) -> Session:
    """Memory and knowledge in all the ways there are; every text has the secret in it, the words of the turn do not."""
    session = fleet.session(sid())
    session.add_memory(f"The code word is {SECRET}", metadata={"said": SECRET})
    assert SECRET in session.search_memory(f"code word {SECRET}")[0]["text"]
    wait_until(lambda: vectors(fleet, session), description="the memory has a vector", timeout=30)
    session.add_knowledge(f"# About {SECRET}\n\nThe {SECRET} has wings.".encode(), name="notes.md")
    session.add_knowledge(f"Another text on the {SECRET} and its beak.")
    session.add_knowledge(make_pdf([f"The {SECRET} flies over page {n}." for n in range(3)]), name="a.pdf")
    found = session.search_knowledge(f"{SECRET} wings", limit=10)
    assert all(SECRET in item["text"] for item in found)
    assert f"About {SECRET}" in {item["heading"] for item in found}
    assert {item["source"] for item in session.list_knowledge()} >= {"notes.md", "a.pdf"}
    turn = session.Agent("A", memory=True, knowledge=True).submit("Which code word has wings?\nSAY well")
    assert turn.result(timeout=30) == "well"
    assert next(e.data for e in turn.events() if e.type == "retrieved")["memories"] == 1
    fork = session.fork()
    session.add_knowledge(f"The {SECRET} is extinct.".encode(), name="notes.md")
    assert any(f"The {SECRET} has wings." in item["text"] for item in fork.search_knowledge("wings"))
    assert fork.search_memory("code word")[0]["text"] == f"The code word is {SECRET}"
    fork.delete()
    return session


def vectors(fleet: Fleet, session: Session) -> list[bytes]:
    with fleet.server.client() as client:
        return list(client.hvals(f"{session.keys.base}:memory:vectors"))


def test_no_text_reaches_redis_or_the_index(sealed: Fleet) -> None:
    """Not in any key, value or message, at any time, nor in a file of the index; what comes back is whole."""
    session = use_all(sealed)
    assert all(value.partition(b":")[2].startswith(b"\xffsf") for value in vectors(sealed, session))
    assert holds(sealed.server.folder, SECRET) == []
    assert holds(sealed.folder, SECRET) == [], "neither in the index nor in a log"
    assert holds(sealed.server.folder, "notes.md"), "this is where they would be: names are not sealed"
    assert holds(sealed.folder / "home", "notes.md")
    for key in (OLD, NEW):
        assert holds(sealed.folder, key.partition(":")[2]) == [], "no key in a log"
    session.delete()
    assert keys_without_ttl(sealed.server) == []


def test_without_keys_the_same_is_found(new_fleet: Callable[..., Fleet]) -> None:
    """So that the test above could fail: texts in Redis, and in the index."""
    fleet = new_fleet()
    fleet.start("open1")
    fleet.ready()
    use_all(fleet)
    assert holds(fleet.server.folder, SECRET)
    assert holds(fleet.folder / "home", SECRET)


def test_texts_go_with_their_documents(sealed: Fleet) -> None:
    """Replaced, removed, given up half-way, cleared: no text stays in Redis without its document."""
    session = sealed.session(sid())
    session.add_knowledge(b"One. " * 600, name="a.txt")
    session.add_knowledge(b"Two.", name="b.txt")
    chunks = {item["source"]: item["chunks"] for item in session.list_knowledge()}
    assert chunks["a.txt"] > 1
    assert texts_kept(sealed, session) == sum(chunks.values())
    session.add_knowledge(b"One, but short.", name="a.txt")
    assert texts_kept(sealed, session) == 2
    fork = session.fork()
    assert session.delete_knowledge("a.txt") == 1
    assert texts_kept(sealed, session) == 1

    book = make_pdf([" ".join(f"word{n}x{i} about matter {i}" for i in range(150)) for n in range(120)])
    operation = session.submit_knowledge(book, name="book.pdf")
    next(step for step in operation.progress() if step.stage == "embedding")
    assert texts_kept(sealed, session) > 1
    operation.cancel()
    with pytest.raises(TurnCancelled):
        operation.result(timeout=30)
    assert texts_kept(sealed, session) == 1

    session.clear_knowledge()
    assert texts_kept(sealed, session) == 0
    assert texts_kept(sealed, fork) == 2
    assert {item["text"] for item in fork.search_knowledge("one two", limit=5)} == {"One, but short.", "Two."}
    fork.delete()
    assert texts_kept(sealed, fork) == 0
    session.delete()


def test_a_value_that_was_moved_is_refused(sealed: Fleet) -> None:
    """Someone who can write to Redis gives another session a memory: nobody gets to read it."""
    one, two = sealed.session(sid()), sealed.session(sid())
    memory_id = one.add_memory("Ann likes tea")
    two.add_memory("Bob likes coffee")
    with sealed.server.client() as client:
        stolen = client.hget(f"{one.keys.base}:memory", memory_id)
        client.hset(f"{two.keys.base}:memory", memory_id, stolen)
    with pytest.raises(SealError, match=r"'old'.*moved"):
        two.list_memory()
    with pytest.raises(TurnConfigurationError, match=r"'old'.*moved"):
        two.search_memory("tea")
    assert one.search_memory("tea")[0]["text"] == "Ann likes tea"
    assert two.clear_memory() == 2, "it can be removed"
    one.delete()
    two.delete()


def test_clients_and_workers_must_have_the_same_keys(sealed: Fleet) -> None:
    """One without keys, and one with a key that the workers lack: each error says which key is missing where."""
    with seen_with(sealed, None, sid()) as bare:
        bare.add_memory("Ann likes tea")
        with pytest.raises(SealError, match=r"'old'.*SESSIONFLEET_ENCRYPTION_KEYS.*not set"):
            bare.search_memory("tea")
    session = sealed.session(bare.session_id)
    assert session.search_memory("tea")[0]["text"] == "Ann likes tea", "what was stored before there were keys is read"
    session.delete()
    with seen_with(sealed, NEW, sid()) as other:
        other.add_memory("Ann likes tea")
        with pytest.raises(TurnConfigurationError, match=r"'new'.*SESSIONFLEET_ENCRYPTION_KEYS.*it has old"):
            other.search_memory("tea")
        other.delete()


def test_keys_rotate(new_fleet: Callable[..., Fleet]) -> None:
    """Workers and clients that have both keys read what the old one sealed, and seal with the new one."""
    fleet = new_fleet(SESSIONFLEET_ENCRYPTION_KEYS=OLD)
    before = fleet.start("before")
    fleet.ready()
    session = fleet.session(sid())
    session.add_memory("Ann likes tea")
    session.add_knowledge(b"The budget is 40 euros.", name="budget.txt")
    before.terminate()

    both = f"{NEW},{OLD}"
    fleet.start("after", SESSIONFLEET_ENCRYPTION_KEYS=both)
    fleet.ready()
    with seen_with(fleet, both, session.session_id) as rotated:
        _use_rotated(fleet, rotated)
    with pytest.raises(SealError, match="'new'"):
        session.list_memory()


def _use_rotated(fleet: Fleet, rotated: Session) -> None:
    assert rotated.search_memory("tea")[0]["text"] == "Ann likes tea"
    assert rotated.search_knowledge("budget")[0]["text"] == "The budget is 40 euros."
    copy = rotated.add_knowledge(b"The budget is 40 euros.", name="copy.txt")
    assert copy["status"] == "duplicate", "contents are known by the digests of both keys"  # type: ignore[call-overload]
    again = rotated.add_knowledge(b"The budget is 40 euros.", name="budget.txt")
    assert again["status"] == "replaced", "added again, a document is sealed anew"  # type: ignore[call-overload]
    rotated.add_memory("Ann has a dog")
    with fleet.server.client() as client:
        lane = rotated.keys.lane(KNOWLEDGE)
        kept = [client.hvals(key) for key in (lane.texts, lane.sources, f"{rotated.keys.base}:memory")]
        assert [sorted(value[5:8] for value in values) for values in kept] == [
            [b"new"] * 2, [b"new"] * 3, [b"new", b"old"],
        ]  # fmt: skip


async def test_an_operation_is_known_again_under_another_key(own_server: Server) -> None:
    """Its idempotency key holds across a rotation: the same request is the first one, another is a conflict."""

    async def submit(keys: str | None, source: str) -> str:
        settings = Settings(redis_url=own_server.url, encryption_keys=keys)  # type: ignore[arg-type]
        client = async_store(settings)
        operations = Operations(
            TurnStore(ScriptRunner(client), client, settings), Bell(Channels(client), "x"), _not_woken
        )
        request = AddKnowledge(scope="base:b", source=source, origin="text", text="tea")
        try:
            return await operations.submit(lane, request, timeout=60, idempotency_key="once")
        finally:
            await client.aclose()

    lane = SessionKeys.of("default", sid(), 256).lane(KNOWLEDGE)
    first = await submit(OLD, "a")
    assert await submit(OLD, "a") == first
    assert await submit(f"{NEW},{OLD}", "a") == first
    with pytest.raises(IdempotencyConflict):
        await submit(f"{NEW},{OLD}", "b")
    with own_server.client() as client:
        for key in client.scan_iter(f"{lane.base}*"):
            client.delete(key)
        client.zrem(f"{lane.partition}:wakeups", lane.ref)


async def _not_woken(_wake_up: WakeUp) -> bool:
    return True


def test_a_request_that_cannot_be_read_is_not_repeated_in_the_error() -> None:
    """Errors are stored and logged as they are."""
    with pytest.raises(ValueError, match="RemoveKnowledge") as caught:
        RemoveKnowledge.model_validate({"scope": ["Quetzalcoatlus"]})
    assert SECRET not in str(caught.value)
