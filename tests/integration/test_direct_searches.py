"""Searches without a turn: a process of the retrieval role answers them, and the lane does whatever it leaves."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.client import searches
from sessions.client.searches import DirectSearches
from sessions.errors import EmbeddingFailed, IndexUnavailable, ResultTimeout
from sessions.protocol.knowledge_requests import ReadKnowledge, Recall, SearchKnowledge
from sessions.protocol.lanes import SEARCH
from sessions.protocol.memory_requests import SearchMemory
from sessions.protocol.operation import OperationRequest
from sessions.store.channels import Channels
from sessions.store.keys import SessionKeys, wide_name
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.search_exchange import AnswerKind, ReceivedSearch, SearchExchange
from tests.support.fleet import Fleet
from tests.support.servers import Server
from tests.support.waiting import await_until
from workers.retrieval_role.runner import RetrievalRunner
from workers.retrieval_role.search_server import SearchServer

SECRET = "nightjar"
QUERY = SearchMemory(query=f"where is the {SECRET}?")
KEYS = SessionKeys.of("default", "s", 256).lane(SEARCH)


def sid() -> str:
    return f"direct-{uuid.uuid4().hex[:12]}"


class Processes:
    """A caller and processes that serve the role, in this process, with connections of their own on a real server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.asked: list[tuple[str, str]] = []
        self.announced: list[str] = []
        self._clients: list[tuple[Any, Channels]] = []

    async def open(self) -> Processes:
        catalog = SimpleNamespace(workers=self._workers)
        self.caller = DirectSearches(await self._exchange(), cast(Any, catalog))
        return self

    async def _workers(self) -> list[Any]:
        return [SimpleNamespace(searches=address) for address in ("", *self.announced)]  # "": of an older version

    async def _exchange(self) -> SearchExchange:
        client = async_store(self.settings)
        await client.initialize()
        self._clients.append((client, Channels(client)))
        channels = self._clients[-1][1]
        return SearchExchange(ScriptRunner(client), channels, KeyRing.of(self.settings), uuid.uuid4().hex)

    async def serving(self, search: Any) -> SearchServer:
        """A process that answers with what this coroutine function returns."""

        async def run(session: SessionKeys, spec: Any) -> Any:
            self.asked.append((session.ref, spec.kind))
            return await search()

        runner = cast(RetrievalRunner, SimpleNamespace(search=run))
        server = SearchServer(self.settings, await self._exchange(), runner, lambda: True)
        await server.start()
        self.announced.append(server.address)
        return server

    async def die(self) -> None:
        """The process that was made last is gone, without a word."""
        client, channels = self._clients.pop()
        await channels.close()
        await client.aclose()

    async def result(self, request: OperationRequest = QUERY, timeout: float = 30.0) -> Any:
        return await self.caller.result(KEYS, request, timeout)

    async def close(self) -> None:
        while self._clients:
            await self.die()


def overhear(server: SearchServer, lose: Iterable[AnswerKind] = ()) -> list[AnswerKind]:
    """The kinds of what a process says, some of which are lost on the way."""
    said: list[AnswerKind] = []
    answer, lost = server._exchange.answer, list(lose)

    async def overheard(search: ReceivedSearch, kind: AnswerKind, result: bytes = b"") -> None:
        said.append(kind)
        if kind not in lost:
            await answer(search, kind, result)

    server._exchange.answer = overheard  # type: ignore[method-assign]
    return said


@pytest.fixture
async def processes(server: Server) -> AsyncIterator[Processes]:
    made = await Processes(Settings(redis_url=server.url)).open()
    yield made
    await made.close()


async def found() -> Any:
    return [{"text": f"the {SECRET} sleeps"}]


async def nothing_yet() -> Any:
    await asyncio.Event().wait()


async def test_a_process_answers(processes: Processes) -> None:
    """With what it finds for the session, or user, whose search it is."""
    server = await processes.serving(found)
    assert await processes.result() == await found()
    of_user = SessionKeys.wide("shop/1", wide_name("user", "ann:b"), 256)
    assert await processes.caller.result(of_user.lane(SEARCH), QUERY, 30) == await found()
    assert processes.asked == [(KEYS.home.ref, "search_memory"), (of_user.ref, "search_memory")]
    assert (server.answered, server.running) == (2, 0)


async def test_many_searches_at_once_get_their_own_answers(processes: Processes) -> None:
    """From both processes; each answer goes to the search that it belongs to."""
    numbers = iter(range(40))

    async def next_number() -> Any:
        return next(numbers)

    servers = [await processes.serving(next_number) for _ in range(2)]
    assert sorted(await asyncio.gather(*(processes.result() for _ in range(40)))) == list(range(40))
    assert all(server.answered for server in servers)


async def test_without_a_process_that_listens_there_is_no_answer(processes: Processes) -> None:
    """Nobody announces that it takes searches; or it has died since: both are known at once."""
    assert await processes.result() is None
    await processes.serving(found)
    await processes.die()
    assert await processes.result() is None
    await processes.serving(found)
    assert await processes.result() == await found(), "the next one is asked"


async def test_what_needs_a_turn_is_not_sent(processes: Processes) -> None:
    """Pages of an export are large; other operations change something."""
    await processes.serving(found)
    page = ReadKnowledge(scope="base:b", collection="c", source="s")
    assert await processes.result(page) is None
    assert processes.asked == []


async def test_a_process_that_dies_meanwhile_is_noticed(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the caller's patience ends."""
    monkeypatch.setattr(searches, "_PATIENCE", 300.0)
    monkeypatch.setattr(searches, "_LOOKS", 600)
    await processes.serving(nothing_yet)
    waiting = asyncio.create_task(processes.result(timeout=900))
    await await_until(lambda: asyncio.sleep(0, processes.asked), description="the search runs")
    await processes.die()
    assert await asyncio.wait_for(waiting, 60) is None


async def test_a_process_that_is_silent_is_not_waited_for(processes: Processes) -> None:
    """It may be stopped, or cut off."""
    server = await processes.serving(nothing_yet)
    said = overhear(server, lose=AnswerKind)
    assert await processes.result(timeout=0.5) is None
    assert set(said) == {AnswerKind.WORKING}, "what it says is lost"


async def test_a_process_that_works_is_waited_for(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the search takes longer than a silence may; nobody else does it meanwhile."""
    monkeypatch.setattr(searches, "_PATIENCE", 0.2)
    may_end = asyncio.Event()

    async def slowly() -> Any:
        await may_end.wait()
        return ["at last"]

    said = overhear(await processes.serving(slowly))
    waiting = asyncio.create_task(processes.result())
    await await_until(lambda: asyncio.sleep(0, len(said) > 2 * searches._LOOKS), description="it has said so often")
    may_end.set()
    assert await waiting == ["at last"]
    assert len(processes.asked) == 1


async def test_a_search_ends_with_its_time(processes: Processes) -> None:
    """The caller is told, and the process stops searching."""
    server = await processes.serving(nothing_yet)
    with pytest.raises(ResultTimeout, match="working on it"):
        await processes.result(timeout=0.5)
    await await_until(lambda: asyncio.sleep(0, not server.running), description="the search was ended")
    assert server.answered == 0


async def test_a_lost_answer_is_noticed(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's connection was broken for a moment: the process has the search no more when it is asked."""
    monkeypatch.setattr(searches, "_PATIENCE", 0.5)
    said = overhear(await processes.serving(found), lose=[AnswerKind.RESULT])
    assert await processes.result() is None
    assert said[0] is AnswerKind.RESULT
    assert AnswerKind.LEFT in said


@pytest.mark.parametrize("error", [IndexUnavailable("down"), EmbeddingFailed("refused"), KeyError("broken")])
async def test_a_search_that_fails_is_left_to_the_lane(processes: Processes, error: Exception) -> None:
    """The lane tries again what may pass, and says what does not."""

    async def fails() -> Any:
        raise error

    await processes.serving(fails)
    assert await processes.result() is None
    assert len(processes.asked) == 1


async def test_a_result_that_is_too_large_is_left_to_the_lane(server: Server) -> None:
    """The lane refuses it, or keeps it in a record: a large message could cost the caller its connection."""
    processes = await Processes(Settings(redis_url=server.url, result_limit_bytes=1024)).open()
    try:

        async def large() -> Any:
            return ["x" * 1024]

        await processes.serving(large)
        assert await processes.result() is None
    finally:
        await processes.close()


async def test_a_process_that_stops_answers_what_it_has(processes: Processes) -> None:
    """New searches are sent back at once, and it is announced no more."""
    may_end = asyncio.Event()

    async def later() -> Any:
        await may_end.wait()
        return ["at last"]

    server = await processes.serving(later)
    first = asyncio.create_task(processes.result())
    await await_until(lambda: asyncio.sleep(0, processes.asked), description="the search runs")
    server.stop_taking()
    assert await processes.result() is None
    assert server.address == ""
    may_end.set()
    await server.close()
    assert await first == ["at last"]
    assert len(processes.asked) == 1


async def test_a_process_takes_no_more_searches_than_it_has_slots(server: Server) -> None:
    """Further ones wait in the lane."""
    processes = await Processes(Settings(redis_url=server.url, concurrency=1)).open()
    try:
        await processes.serving(nothing_yet)
        first = asyncio.create_task(processes.result())
        await await_until(lambda: asyncio.sleep(0, processes.asked), description="the search runs")
        assert await processes.result() is None
        assert len(processes.asked) == 1
        first.cancel()
    finally:
        await processes.close()


async def test_a_process_listens_again_after_its_connection_broke(processes: Processes, server: Server) -> None:
    """Until then, searches go through the lane."""
    await processes.serving(found)
    assert await processes.result() == await found()
    with server.client() as client:
        ours = [each["id"] for each in client.client_list(_type="pubsub") if each["name"] == "sessionfleet"]
        assert [client.client_kill_filter(_id=one) for one in ours] == [1, 1]
    await await_until(processes.result, description="searches are answered again")


# --- with encryption --------------------------------------------------------------------------------------------


@contextmanager
def overheard(server: Server) -> Iterator[list[str]]:
    """The commands that the server gets."""
    commands: list[str] = []
    with server.client() as client, client.monitor() as monitor, server.client() as other:

        def listen() -> None:
            for command in monitor.listen():
                commands.append(command["command"])
                if "that was all" in command["command"]:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        yield commands
        other.echo("that was all")
        thread.join()


@pytest.mark.parametrize("keys", [None, "one:" + "A" * 43 + "="])
async def test_query_and_passages_cannot_be_read_on_the_way(server: Server, keys: str | None) -> None:
    """With keys, nothing of them is in any command."""
    processes = await Processes(Settings(redis_url=server.url, encryption_keys=keys)).open()  # type: ignore[arg-type]
    try:
        await processes.serving(found)
        with overheard(server) as commands:
            assert await processes.result() == await found()
    finally:
        await processes.close()
    sent = [command for command in commands if command.startswith("SPUBLISH") and "{direct-" in command]
    assert len(sent) == 2, commands
    assert [SECRET in command for command in sent] == [keys is None] * 2


async def test_what_cannot_be_decrypted_is_no_answer(server: Server) -> None:
    """A process with another key neither reads the search nor breaks."""
    caller = await Processes(Settings(redis_url=server.url, encryption_keys="one:" + "A" * 43 + "=")).open()  # type: ignore[arg-type]
    other = await Processes(Settings(redis_url=server.url, encryption_keys="two:" + "B" * 43 + "=")).open()  # type: ignore[arg-type]
    try:
        process = await other.serving(found)
        caller.announced = other.announced
        assert await caller.result() is None
        assert (other.asked, process.running) == ([], 0)
    finally:
        await caller.close()
        await other.close()


# --- with workers -----------------------------------------------------------------------------------------------


def test_direct_searches_find_what_the_lane_finds(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memories, passages and what a turn recalls; directly there is no turn, and with workers of older versions there
    is one."""
    session = fleet.session(sid(), user_id=sid(), knowledge=True)
    session.add_memory("The user prefers green tea")
    session.add_knowledge(b"Tea is served at four.", name="tea.txt", timeout=60)
    lane, connection = session.keys.lane(SEARCH), fleet.client.connection
    both = Recall(
        memory=SearchMemory(query="tea", user=session.user_id),
        knowledge=SearchKnowledge(query="tea", scopes=(f"session:{session.session_id}",)),
    )

    def search() -> list[Any]:
        recalled = fleet.client.portal.call(connection.operations.search(lane, both, 30))
        return [session.search_memory("tea"), session.search_knowledge("tea"), recalled]

    with fleet.server.client() as client:
        direct = search()
        assert all(direct)
        assert session.Agent("A", memory=True, model="offline").chat("What tea does the user prefer?")
        assert not client.exists(lane.meta), "there was no turn"
        workers = [info.model_copy(update={"searches": ""}) for info in fleet.registered()]

        async def older(**_: Any) -> list[Any]:
            return workers

        monkeypatch.setattr(connection.stores.catalog, "workers", older)
        assert search() == direct
        assert client.zcard(lane.turns) == 3
