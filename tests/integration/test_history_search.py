"""Searches in transcripts, on two real workers: what is found, for whom, and what is no longer found."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions import FoundMessage, Session
from sessions.adapters.openai_agents import FleetSession
from sessions.client.operations import Operations
from sessions.errors import BadRequest, NoWorkerAlive, SessionOwnerError
from sessions.protocol.lanes import TRANSCRIPT
from sessions.store.channels import Channels
from sessions.store.events import Bell
from sessions.store.resealing import Resealing
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.turns import TurnStore
from sessions.store.wake_up import WakeUp
from tests.integration.test_sealing import NEW, OLD
from tests.support.fleet import Fleet, running_fleet
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem
from tests.support.real_qdrant import embedded_only
from tests.support.servers import Server
from tests.support.transcripts import settled, texts
from tests.support.waiting import await_until
from workers.retrieval_role.lane_janitor import LaneJanitor

Open = Callable[..., Session]


def new_id() -> str:
    return f"find-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["local", "remote"])
def opened(request: pytest.FixtureRequest, fleet: Fleet, gateway_process: GatewayProcess) -> Open:
    """Opens sessions, from within the fleet or through a gateway."""

    def make(session_id: str, user_id: str | None = None, **options: bool) -> Session:
        if request.param == "local":
            return fleet.session(session_id, user_id=user_id, **options)
        url = f"{gateway_process.url}/agent"
        return Session(session_id, user_id, agent_url=url, timeout=40, **options)  # type: ignore[arg-type]

    return make


def everywhere(session: Session, query: str, user_id: str | None, **options: object) -> list[FoundMessage]:
    """A search in all sessions of a user, where this session is."""
    where = {"agent_url": session.agent_url, "timeout": 40} if session.is_remote else {"settings": session.settings}
    return Session.search(query, user_id, **where, **options)  # type: ignore[arg-type]


def test_messages_are_found_by_words_and_by_meaning(opened: Open, fleet: Fleet) -> None:
    """What was said and what was answered, with where it is; and only what has to do with the query."""
    session = opened(new_id(), "ann", searchable=True)
    session.chat("I would like to go to the mountains\nSAY I can book a hotel in the Alps")
    session.chat("My invoice is KX-4021\nSAY I will pay it")
    settled(fleet, session)
    first = session.search_history("invoice KX-4021")[0]
    assert first.text.startswith("My invoice is KX-4021")
    turns = [message.turn_id for message in session.history()]
    assert (first.session_id, first.turn_id, first.role) == (session.session_id, turns[2], "user")
    assert (first.title, first.agent) == (
        "I would like to go to the mountains SAY I can book a hotel in the Alps",
        "Assistant",
    )
    assert first.at == session.history().messages[2].at
    assert first.score > 0
    assert first.similarity is not None
    assert texts(session.search_history("Where can I sleep?", role="assistant", limit=1)) == [
        "I can book a hotel in the Alps"
    ]
    assert {message.role for message in session.search_history("hotel in the Alps")} == {"user", "assistant"}
    assert session.search_history("photosynthesis of algae") == []
    assert session.info().searchable
    assert session.delete()["passages"] == 4


def test_results_are_limited_to_a_time(opened: Open, fleet: Fleet) -> None:
    """`since` includes, `until` does not. Of equal texts the newest comes first."""
    session = opened(new_id(), searchable=True)
    for _ in range(3):
        session.chat("SAY the train leaves at nine")
    settled(fleet, session)
    times = [message.at for message in session.history() if message.role == "assistant"]

    def found(**options: datetime | int) -> list[datetime]:
        hits = session.search_history("When does the train leave?", role="assistant", **options)  # type: ignore[arg-type]
        return [hit.at for hit in hits]

    assert found() == times[::-1]
    assert found(limit=1) == times[2:]
    assert found(since=times[1]) == [times[2], times[1]]
    assert found(until=times[1]) == [times[0]]
    assert found(since=times[1], until=times[2]) == [times[1]]
    assert found(since=datetime.now(UTC) + timedelta(days=1)) == []
    session.delete()


def test_a_search_is_checked(opened: Open) -> None:
    """A session must be searchable, which is said; one that does not exist has nothing."""
    session = opened(new_id())
    assert session.search_history("hello") == []
    session.chat("SAY hello")
    assert not session.info().searchable
    with pytest.raises(BadRequest, match=r"update\(searchable=True\)"):
        session.search_history("hello")
    for options in ({"limit": 101}, {"limit": 0}, {"role": "tool"}, {"since": datetime(2026, 1, 1)}):
        with pytest.raises(BadRequest, match=next(iter(options))):
            session.search_history("hello", **options)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="query"):
        session.search_history(" ")
    with pytest.raises(BadRequest, match="user"):
        everywhere(session, "hello", None)
    with pytest.raises(BadRequest, match="searchable"):
        opened(new_id(), searchable="yes")  # type: ignore[arg-type]


def test_all_sessions_of_a_user_are_searched(opened: Open, fleet: Fleet) -> None:
    """Those the user owns and that are searchable: not another user's, not another tenant's, not shared ones."""
    ann, bob = f"ann-{uuid.uuid4().hex}", f"bob-{uuid.uuid4().hex}"
    mine = [opened(new_id(), ann, searchable=True) for _ in range(3)]
    theirs, plain = opened(new_id(), bob, searchable=True), opened(new_id(), ann)
    foreign = fleet.session(new_id(), user_id=ann, tenant="rival", searchable=True)
    for number, session in enumerate([*mine, theirs, plain, foreign]):
        session.chat(f"SAY the parcel number {number} has arrived")
    settled(fleet, *mine, theirs)
    found = everywhere(mine[0], "parcel", ann, role="assistant")
    assert {message.session_id for message in found} == {session.session_id for session in mine}
    assert [m.session_id for m in everywhere(mine[0], "parcel", bob, role="assistant")] == [theirs.session_id]
    assert len(everywhere(mine[0], "parcel", ann, limit=2)) == 2

    theirs.share(ann)
    assert len(opened(theirs.session_id, ann).search_history("parcel", role="assistant")) == 1
    assert theirs.session_id not in {m.session_id for m in everywhere(mine[0], "parcel", ann)}
    with pytest.raises(SessionOwnerError):
        opened(mine[0].session_id, bob).search_history("parcel")
    assert mine[0].delete()["passages"] == 2
    found = everywhere(mine[0], "parcel", ann, role="assistant")
    assert {message.session_id for message in found} == {session.session_id for session in mine[1:]}
    for session in (*mine[1:], theirs, foreign):
        session.delete()


def test_a_session_becomes_searchable_later(opened: Open, fleet: Fleet) -> None:
    """With all of its history; and ceases to be, which empties the index. Its next message leaves it as it is."""
    session = opened(new_id(), "ann")
    for number in range(20):  # more than a page
        session.Agent("A").submit(f"SAY the box {number} is green")
    session.chat("SAY the last box is blue")
    assert session.update(searchable=True).searchable
    settled(fleet, session)
    assert len(session.search_history("green box", role="assistant", limit=100)) == 21
    opened(session.session_id, "ann").chat("SAY one more box")
    settled(fleet, session)
    assert "one more box" in texts(session.search_history("box", limit=100))
    assert not session.update(searchable=False).searchable
    with pytest.raises(BadRequest, match="not searchable"):
        session.search_history("box")
    settled(fleet, session)
    opened(session.session_id, "ann", searchable=True).chat("SAY and now a crate")  # as an option, too
    settled(fleet, session)
    assert len(session.search_history("box", role="assistant", limit=100)) == 23
    assert session.delete()["passages"] == 46


def test_what_leaves_the_history_leaves_the_results(opened: Open, fleet: Fleet) -> None:
    """Turns that are replaced or deleted: at once, and soon from the index as well. What comes after them stays."""
    session = opened(new_id(), "ann", searchable=True)
    for word in ("apple", "pear", "plum", "cherry"):
        session.chat(f"SAY {word} pie")
    settled(fleet, session)
    turns = list(dict.fromkeys(message.turn_id for message in session.history()))

    def pies() -> set[str]:
        return set(texts(session.search_history("pie", role="assistant", limit=100)))

    assert pies() == {"apple pie", "pear pie", "plum pie", "cherry pie"}
    session.delete_turn(turns[1])
    assert pies() == {"apple pie", "plum pie", "cherry pie"}
    session.regenerate(message="SAY quince pie")
    assert "cherry pie" not in pies()
    settled(fleet, session)
    assert pies() == {"apple pie", "plum pie", "quince pie"}
    session.regenerate(turns[0], message="SAY fig pie")
    session.chat("SAY date pie")
    settled(fleet, session)
    assert pies() == {"fig pie", "date pie"}
    session.delete_turn(session.history().messages[-1].turn_id)
    session.chat("SAY nut pie")
    settled(fleet, session)
    assert pies() == {"fig pie", "nut pie"}
    assert session.delete()["passages"] == 4, "the index has nothing else"


def test_a_copy_is_searchable_as_its_original_is(opened: Open, fleet: Fleet) -> None:
    """Its history is indexed again under its own name; deleting one leaves the other."""
    session = opened(new_id(), "ann", searchable=True)
    session.chat("SAY the key is under the mat")
    copy = session.fork(new_id())
    settled(fleet, session, copy)
    assert copy.info().searchable
    session.delete()
    assert texts(copy.search_history("Where is the key?", role="assistant")) == ["the key is under the mat"]
    assert copy.delete()["passages"] == 2


def test_a_session_without_a_user_is_claimed(opened: Open, fleet: Fleet) -> None:
    """From then on, it is found among the sessions of its owner."""
    ann, session = f"ann-{uuid.uuid4().hex}", opened(new_id(), searchable=True)
    session.chat("SAY the umbrella is in the hall")
    settled(fleet, session)
    assert len(session.search_history("umbrella", role="assistant")) == 1
    assert everywhere(session, "umbrella", ann) == []
    opened(session.session_id, ann).chat("SAY thanks")
    settled(fleet, session)
    assert texts(everywhere(session, "umbrella", ann, role="assistant")) == ["the umbrella is in the hall"]
    assert len(session.search_history("umbrella", role="assistant")) == 1
    assert session.delete()["passages"] == 4


def test_a_deployment_may_search_everything(fleet: Fleet) -> None:
    """With the setting on, a session about which nobody has decided is searchable; lanes and refusals are not."""
    fleet_of_all = fleet.settings.model_copy(update={"history_search": "on"})
    chosen, refused, made = (Session(new_id(), "ann", settings=fleet_of_all) for _ in range(3))
    refused.searchable = False
    chosen.chat("SAY hello")
    refused.chat("SAY hello")
    Session(refused.session_id, "ann", settings=fleet_of_all).chat("SAY hello again")
    made.create()
    assert [session.info().searchable for session in (chosen, refused, made)] == [True, False, True]
    settled(fleet, chosen)
    assert len(chosen.search_history("hello")) == 2
    with fleet.server.client() as client:
        lanes = [chosen.keys.lane(name) for name in ("search", TRANSCRIPT)]
        assert not any(client.hexists(lane.meta, "searchable") for lane in lanes)
    for session in (chosen, refused, made):
        session.delete()


async def test_an_expired_session_leaves_nothing(fleet: Fleet) -> None:
    """Redis forgets it by itself, retrieval workers empty the index; whoever takes its id finds none of it."""
    before = fleet.session(new_id(), user_id="ann", searchable=True)
    await before.achat("SAY the worker loads its model")  # which may take longer than the next session lives
    await before.asearch_history("model")
    session = fleet.session(new_id(), user_id="ann", ttl=3, searchable=True)
    await session.achat("SAY the safe opens with 1234")
    lane, store = session.keys.lane(TRANSCRIPT), async_store(fleet.settings)

    async def wake(wake_up: WakeUp) -> bool:
        return await fleet.client.portal.acall(fleet.client.connection.dispatcher.wake(wake_up))

    operations = Operations(
        TurnStore(ScriptRunner(store), store, fleet.settings), Bell(Channels(store), "janitor"), wake
    )
    janitor = LaneJanitor(fleet.settings, store, operations, lambda: True)

    async def gone(key: str) -> bool:
        return not await store.exists(key)

    async def there(key: str) -> bool:
        return bool(await store.exists(key))

    await await_until(lambda: there(lane.sources), description="it is indexed")
    await await_until(lambda: gone(session.keys.meta), description="it has expired")
    assert await Session.asearch("safe", "ann", settings=fleet.settings) == []
    heir = fleet.session(session.session_id, user_id="bob", searchable=True)
    await heir.acreate()
    assert await heir.asearch_history("safe") == []
    await janitor.look()
    await await_until(lambda: gone(lane.sources), description="the index has nothing of it")
    assert await janitor.look() == 0
    await heir.achat("SAY the safe is empty")
    await asyncio.to_thread(settled, fleet, heir)
    assert (await heir.adelete())["passages"] == 2
    await store.aclose()


@pytest.fixture
def sealed(new_server: Server, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with encryption."""
    env = {"SESSIONFLEET_ENCRYPTION_KEYS": f"{OLD},{NEW}"}
    with running_fleet(tmp_path / "sealed", new_server, env) as fleet:
        yield fleet


@embedded_only
def test_with_encryption_no_text_leaves_the_store(sealed: Fleet) -> None:
    """The index has vectors, places and names; results come from the sealed history. Its own record is sealed, too."""
    session = sealed.session(new_id(), user_id="ann", searchable=True)
    session.chat("My password is xylophone\nSAY I have forgotten the xylophone already")
    settled(sealed, session)
    assert len(session.search_history("xylophone")) == 2
    assert len(Session.search("xylophone", "ann", settings=sealed.settings)) == 2
    files = [path for path in (sealed.folder / "home" / "knowledge").rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    assert session.session_id.encode() in written
    assert b"xylophone" not in written
    with sealed.server.client() as client:
        lane = session.keys.lane(TRANSCRIPT)
        assert all(value.startswith(b"\xffsf") for value in client.hgetall(lane.sources).values())
    session.delete_turn(session.history().messages[0].turn_id)
    settled(sealed, session)
    assert session.search_history("xylophone") == []
    session.chat("SAY it was a glockenspiel")
    settled(sealed, session)
    both = Settings(redis_url=sealed.server.url, encryption_keys=f"{NEW},{OLD}")  # type: ignore[arg-type]
    assert asyncio.run(reseal(both, session)) > 0
    with sealed.server.client() as client:
        record = client.hget(session.keys.lane(TRANSCRIPT).sources, "#indexed")
        assert KeyRing.of(both).current(record)
    assert session.delete()["passages"] == 2


def test_nothing_is_deleted_by_halves(new_server: Server, tmp_path: Path) -> None:
    """Without a worker that can empty the index, a searchable session stays whole; so does a search wait in vain."""
    workers = {role: {"SESSIONFLEET_ROLE": role} for role in ("turns", "retrieval")}
    env = {"SESSIONFLEET_RETRIEVAL_TIMEOUT": "1.5"}
    with running_fleet(tmp_path / "fleet", new_server, env, workers) as fleet:
        session = fleet.session(new_id(), user_id="ann", searchable=True)
        session.chat("SAY hello")
        settled(fleet, session)
        fleet.workers[1].terminate()
        session.chat("SAY hello again")
        with pytest.raises(NoWorkerAlive):
            session.search_history("hello")
        with pytest.raises(NoWorkerAlive, match="nothing was changed"):
            session.delete()
        assert len(session.history()) == 4
        fresh = fleet.session(new_id(), user_id="ann", searchable=True)
        fresh.chat("SAY the index has nothing of this")
        assert fresh.delete()["passages"] == 0
        fleet.start("again", SESSIONFLEET_ROLE="retrieval")
        fleet.ready()
        settled(fleet, session)
        assert len(session.search_history("hello", role="assistant")) == 2
        assert session.delete()["passages"] == 4


def test_the_rest_api_searches(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """One session, or all of the user's; what is missing or cannot be is a problem document."""
    user, session_id = {"X-User-ID": f"u-{uuid.uuid4().hex}"}, new_id()
    with gateway_process.client() as http:
        body = {"message": "SAY the ferry leaves at ten", "searchable": True}
        sent = http.post(f"/v1/sessions/{session_id}/turns", json=body, headers={**user, "Prefer": "wait=40"})
        turn = good(sent, 200)
        settled(fleet, fleet.session(session_id))
        asked = {"query": "ferry", "role": "assistant", "since": "2026-01-01T00:00:00Z", "limit": 3}
        for path in (f"/v1/sessions/{session_id}/messages/search", "/v1/messages/search"):
            found = good(http.post(path, json=asked, headers=user))["messages"]
            assert [(m["session_id"], m["turn_id"], m["text"]) for m in found] == [
                (session_id, turn["id"], "the ferry leaves at ten")
            ]
            problem(http.post(path, json={**asked, "limit": 101}, headers=user), 422)
            problem(http.post(path, json={**asked, "since": "2026-01-01T00:00:00"}, headers=user), 422)
            problem(http.post(path, json={}, headers=user), 422)
        problem(http.post("/v1/messages/search", json=asked), 422, "BadRequest")
        others = {"X-User-ID": "somebody-else"}
        problem(http.post(f"/v1/sessions/{session_id}/messages/search", json=asked, headers=others), 403)
        patched = http.patch(f"/v1/sessions/{session_id}", json={"searchable": False}, headers=user)
        assert good(patched)["searchable"] is False
        problem(http.post(f"/v1/sessions/{session_id}/messages/search", json=asked, headers=user), 409, "NotSearchable")
        made = http.post("/v1/sessions", json={"session_id": new_id(), "searchable": True}, headers=user)
        assert good(made, 201)["searchable"] is True
        settled(fleet, fleet.session(session_id))
        assert good(http.delete(f"/v1/sessions/{session_id}", headers=user))["passages"] == 0


async def reseal(settings: Settings, session: Session) -> int:
    """Re-encrypt a session with the first key; returns how many values were."""
    store = async_store(settings)
    resealing = Resealing(ScriptRunner(store), store, KeyRing.of(settings), settings.partitions)
    done = await resealing.run(session.keys)
    await store.aclose()
    assert not done.closed
    return done.values


async def test_what_another_library_writes_is_found(fleet: Fleet) -> None:
    """Its session object adds to the last turn, takes items back, and clears the session: the index follows."""
    session = fleet.session(new_id(), user_id="ann")
    theirs = FleetSession(session.session_id, user_id="ann", settings=fleet.settings)

    async def said(*roles: str) -> None:
        await theirs.add_items([{"role": role, "content": f"{role} speaks of the lighthouse {role}"} for role in roles])  # type: ignore[misc]

    async def found() -> list[str]:
        await asyncio.to_thread(settled, fleet, session)
        return sorted(message.role for message in await session.asearch_history("lighthouse", limit=100))

    await said("user")
    await session.aupdate(searchable=True)
    assert await found() == ["user"]
    await said("assistant")
    assert await found() == ["assistant", "user"]
    for _ in range(3):
        await said("user", "assistant")
    await theirs.pop_item()
    assert await found() == ["assistant"] * 3 + ["user"] * 4
    await session.achat("SAY the lighthouse is dark")
    assert len(await found()) == 9
    await theirs.clear_session()
    assert await found() == []
    await said("user")
    assert await found() == ["user"]
    assert (await session.adelete())["passages"] == 1
