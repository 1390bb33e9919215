"""Workers of the retrieval role that are killed, stopped or cut off, while documents are on their way in."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessions import EventType, Session
from sessions.api.operation import Operation
from sessions.errors import RetrievalUnavailable, TurnCancelled, TurnDeadLettered, TurnDeadlineExceeded
from sessions.protocol.lanes import KNOWLEDGE, SEARCH
from sessions.store.keys import split_turn_id
from tests.support.fleet import Fleet, Worker
from tests.support.openai_server import OpenAIServer
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

LEASE = 1.5
_names = (f"w{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIServer]:
    """Computes the vectors, and records what is paid for."""
    server = OpenAIServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def crew(provider: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of one home whose workers may be killed; `pair` restores it."""
    with running(Server(tmp_path_factory.mktemp("server"), options=("--appendfsync", "always"))) as server:
        env = {
            "SESSIONFLEET_LEASE": str(LEASE), "SESSIONFLEET_MAX_ATTEMPTS": "2", "SESSIONFLEET_MODEL_BACKOFF": "0.2",
            "SESSIONFLEET_MODEL_RETRIES": "2", "SESSIONFLEET_EMBEDDING_MODEL": "openai:fake", "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": provider.url, "SESSIONFLEET_CONCURRENCY": "20",
        }  # fmt: skip
        fleet = Fleet(tmp_path_factory.mktemp("crew"), server, env)
        fleet.settings = fleet.settings.model_copy(update={"lease": LEASE})
        yield fleet
        fleet.close()


def pair(fleet: Fleet) -> tuple[Worker, Worker]:
    """Two workers of role `all`: the one that owns the index, and the other."""
    while sum(worker.alive for worker in fleet.workers) < 2:
        fleet.start(next(_names))
    fleet.ready(2)
    owner = serving(fleet)
    return owner, next(worker for worker in fleet.workers if worker.alive and worker is not owner)


def serving(fleet: Fleet) -> Worker:
    """The running worker that serves retrieval."""

    def look() -> list[Worker]:
        pids = {info.pid for info in fleet.registered() if "retrieval" in info.queues}
        return [worker for worker in fleet.workers if worker.alive and worker.pid in pids]

    return wait_until(look, description="a worker serves retrieval")[0]


def book(name: str, parts: int = 40, **said: str) -> bytes:
    """A document of this many chunks; `p17="HANG x"` is in part 17."""
    paragraphs = [
        f"{name} part {n} {said.get(f'p{n}', '')} " + " ".join(f"{name}{n}w{i}" for i in range(80))
        for n in range(parts)
    ]
    return "\n\n".join(paragraphs).encode()


def paid(provider: OpenAIServer, name: str) -> Counter[str]:
    """How often each text of a document was embedded."""
    return Counter(text for texts in provider.embedded for text in texts if f"{name} part" in text)


def hangs(provider: OpenAIServer, word: str) -> None:
    """Wait until the provider has got this text and does not answer."""
    wait_until(lambda: word in provider.hung, description=f"the provider hangs at {word}")


def found(session: Session) -> Counter[str]:
    """The chunks that can be found, each with how often it is."""
    return Counter(hit["text"] for hit in session.search_knowledge("which part", limit=100))


def new_session(fleet: Fleet) -> tuple[Session, str]:
    """A session, and a word for its documents."""
    name = f"n{uuid.uuid4().hex[:8]}"
    return fleet.session(f"r-{name}"), name


def leaves_nothing(fleet: Fleet, session: Session, operation: Operation) -> None:
    """No text, no upload and nothing unfinished is in the store, and no chunk, visible or not, in the index."""
    lane, part = session.keys.lane(KNOWLEDGE), split_turn_id(operation.id)[1]
    with fleet.server.client() as client:
        assert client.exists(lane.upload(part), lane.texts, lane.sources) == 0
    assert found(session) == {}
    assert session.list_knowledge() == []


def test_a_document_goes_on_where_its_killed_worker_was(crew: Fleet, provider: OpenAIServer) -> None:
    """The other worker takes the index over; no journalled batch is paid twice, and each chunk exists once."""
    owner, other = pair(crew)
    session, name = new_session(crew)
    operation = session.submit_knowledge(book(name, p20=f"HANG {name}"), name="book.txt")
    hangs(provider, name)
    before = paid(provider, name)
    owner.kill()
    receipt = operation.result(timeout=60)
    assert (receipt["status"], operation.attempt) == ("added", 2)
    assert serving(crew) is other
    again = [text for text, times in (paid(provider, name)).items() if times > 1]
    assert 0 < len(again) <= 16, "the batch that hung, and no other"
    assert len(before) > 16, "there was one before it"
    chunks = found(session)
    assert (len(chunks), set(chunks.values())) == (receipt["chunks"], {1})
    assert crew.session(session.session_id).delete()["chunks"] == receipt["chunks"]


def test_nothing_is_visible_before_all_is_there(crew: Fleet, provider: OpenAIServer) -> None:
    """A search while a replacement is half written, and its worker dead, finds the old document whole."""
    owner, _ = pair(crew)
    session, name = new_session(crew)
    session.add_knowledge(book(f"{name}old", 3), name="book.txt")
    old = found(session)
    operation = session.submit_knowledge(book(name, p20=f"HANG {name}"), name="book.txt")
    hangs(provider, name)
    assert found(session) == old
    owner.kill()
    serving(crew)
    operation.result(timeout=60)
    chunks = found(session)
    assert not set(chunks) & set(old)
    assert set(chunks.values()) == {1}
    session.delete()


def test_a_search_outlives_its_worker(crew: Fleet, provider: OpenAIServer) -> None:
    """kill -9 in the middle of one that was sent directly: the lane has the other worker answer it, within its time."""
    owner, _ = pair(crew)
    session, name = new_session(crew)
    session.add_knowledge(book(name, 2), name="book.txt")
    with ThreadPoolExecutor(1) as threads:
        search = threads.submit(session.search_knowledge, f"which part? HANG {name}", timeout=90)
        hangs(provider, name)
        assert f"operation=search_knowledge session={session.keys.ref}" not in owner.log, "there is no turn"
        owner.kill()
        assert {hit["source"] for hit in search.result()} == {"book.txt"}
    with crew.server.client() as client:
        assert client.exists(session.keys.lane(SEARCH).meta), "the lane answered"
    session.delete()


def test_a_worker_that_was_stopped_goes_on_when_it_wakes(crew: Fleet, provider: OpenAIServer) -> None:
    """SIGSTOP for longer than its lease: it resumes from its journal, and each chunk exists once."""
    owner, _ = pair(crew)
    session, name = new_session(crew)
    operation = session.submit_knowledge(book(name, p20=f"HANG {name}"), name="book.txt")
    hangs(provider, name)
    owner.signal(signal.SIGSTOP)
    with crew.server.client() as client:
        lane = session.keys.lane(KNOWLEDGE)
        wait_until(lambda: not client.exists(f"{lane.base}:lease"), description="the lease has ended")
    owner.signal(signal.SIGCONT)
    provider.let_go.add(name)  # its request would time out after a minute; what follows is the same
    receipt = operation.result(timeout=60)
    assert receipt["status"] == "added"
    assert sum(times - 1 for times in paid(provider, name).values()) <= 16
    assert set(found(session).values()) == {1}
    assert session.delete()["chunks"] == receipt["chunks"]


def test_a_document_that_kills_its_workers_is_set_aside(crew: Fleet, provider: OpenAIServer) -> None:
    """It is a dead letter; the next document of the lane is indexed, and what the first one wrote is gone."""
    pair(crew)
    session, name = new_session(crew)
    victims = [worker.pid for worker in crew.workers if worker.alive]
    provider.on_poison = lambda: os.kill(serving(crew).pid, signal.SIGKILL)
    poison = session.submit_knowledge(book(name, p20="POISON"), name="poison.txt")
    behind = session.submit_knowledge(book(f"{name}b", 3), name="good.txt")

    def dead() -> bool:
        for worker in crew.workers:  # they are children of this process
            assert worker.process is not None
            worker.process.poll()
        return not any(worker.alive and worker.pid in victims for worker in crew.workers)

    wait_until(dead, description="it has killed both workers", timeout=60)
    pair(crew)
    with pytest.raises(TurnDeadLettered):
        poison.result(timeout=60)
    receipt = behind.result(timeout=60)
    assert receipt["status"] == "added"
    assert {hit["source"] for hit in session.search_knowledge("which part", limit=100)} == {"good.txt"}
    assert [entry["source"] for entry in session.list_knowledge()] == ["good.txt"]
    lane = session.keys.lane(KNOWLEDGE)
    with crew.server.client() as client:
        assert not client.hexists(lane.sources, "#unfinished")
    session.delete()


@pytest.mark.parametrize("end", ["cancelled", "past its deadline", "cancelled when its worker was killed"])
def test_a_document_that_is_not_taken_in_leaves_nothing(crew: Fleet, provider: OpenAIServer, end: str) -> None:
    """No chunk, no upload, no text; if no worker ran it, as soon as something else happens in its lane."""
    owner, _ = pair(crew)
    session, name = new_session(crew)
    timeout = 4.0 if end == "past its deadline" else 60.0
    operation = session.submit_knowledge(book(name, p20=f"HANG {name}"), name="book.txt", timeout=timeout)
    hangs(provider, name)
    if end == "cancelled when its worker was killed":
        owner.kill()
        lane = session.keys.lane(KNOWLEDGE)
        with crew.server.client() as client:
            wait_until(lambda: not client.exists(f"{lane.base}:lease"), description="the lease has ended")
    if end != "past its deadline":
        operation.cancel()
    with pytest.raises(TurnDeadlineExceeded if end == "past its deadline" else TurnCancelled):
        operation.result(timeout=60)
    if end == "cancelled when its worker was killed":
        assert session.delete_knowledge("another.txt") == 0
    leaves_nothing(crew, session, operation)
    session.delete()


def test_a_store_that_is_killed_meanwhile_costs_nothing_but_time(crew: Fleet, provider: OpenAIServer) -> None:
    """It comes back with its data: the document continues, and no journalled batch is paid again."""
    pair(crew)
    session, name = new_session(crew)
    operation = session.submit_knowledge(book(name, 64), name="book.txt")
    wait_until(lambda: len(paid(provider, name)) > 16, description="a batch is written")
    crew.server.kill()
    crew.server.start()
    receipt = operation.result(timeout=60)
    assert receipt["status"] == "added"
    assert sum(times - 1 for times in paid(provider, name).values()) <= 16
    assert set(found(session).values()) == {1}
    assert operation.record().crashes == 0
    session.delete()


def test_a_provider_that_is_down_is_asked_again_and_then_the_document_fails(
    crew: Fleet, provider: OpenAIServer
) -> None:
    """In the order of the lane, with pauses; memory is searched by words meanwhile."""
    pair(crew)
    session, name = new_session(crew)
    session.add_knowledge(book(f"{name}a", 1), name="a.txt")
    session.add_memory("The cat is called Nimbus")
    provider.down = True
    try:
        operation = session.submit_knowledge(book(name, 3), name="book.txt")
        assert session.search_memory("Nimbus")[0]["text"] == "The cat is called Nimbus"
        with pytest.raises(RetrievalUnavailable, match="tried 3 times"):
            operation.result(timeout=60)
        with pytest.raises(RetrievalUnavailable):
            session.search_knowledge(f"a question about {name} that was never asked before")
    finally:
        provider.down = False
    assert [event.type for event in operation.events()].count(EventType.RETRYING) == 2
    assert session.add_knowledge(book(name, 3), name="book.txt")["status"] == "added"  # type: ignore[call-overload]
    session.delete()


def test_a_hundred_sessions_at_once_lose_and_mix_up_nothing(crew: Fleet, provider: OpenAIServer) -> None:
    """Each finds its own text and no other; their turns do not wait for their documents."""
    pair(crew)
    sessions = [new_session(crew) for _ in range(100)]

    async def one(session: Session, name: str) -> tuple[float, float]:
        operation = await session.asubmit_knowledge(f"The word of {name} is {name[::-1]}.", name=f"{name}.txt")
        turn = await session.Agent("A").asubmit("SAY meanwhile")
        searched = asyncio.create_task(session.asearch_knowledge("which word", timeout=90))
        assert await turn.aresult(timeout=90) == "meanwhile"
        turned = time.monotonic()
        assert (await operation.aresult(timeout=90))["status"] == "added"
        added = time.monotonic()
        assert {hit["source"] for hit in await searched} <= {f"{name}.txt"}
        hits = await session.asearch_knowledge("which word", timeout=90)
        assert [hit["text"] for hit in hits] == [f"The word of {name} is {name[::-1]}."]
        return turned, added

    async def all_of_them() -> list[tuple[float, float]]:
        return await asyncio.gather(*(one(*each) for each in sessions))

    times = asyncio.run(all_of_them())
    assert max(turned for turned, _ in times) < max(added for _, added in times)

    async def delete() -> list[dict[str, int]]:
        return await asyncio.gather(*(session.adelete() for session, _ in sessions))

    assert Counter(receipt["documents"] for receipt in asyncio.run(delete())) == {1: 100}
