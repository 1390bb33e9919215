"""The archive on real workers: each committed turn once, through outages and kill -9; erased and restored."""

from __future__ import annotations

import base64
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions import Session
from sessions.archive.address import open_archive
from sessions.archive.records import ArchivedTurn
from sessions.errors import ArchiveUnavailable, TurnFailed
from sessions.protocol.lanes import ARCHIVE
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.postgres import running_postgres
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

KEYS = f"one:{base64.b64encode(bytes(range(32))).decode()}"


def sid() -> str:
    return f"a-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the archive; a file in its place makes the archive unreachable."""
    return tmp_path_factory.mktemp("archive") / "here"


@pytest.fixture(scope="module")
def archived(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """An encrypted fleet of two workers, with an archive of JSON lines."""
    env = {"SESSIONFLEET_ARCHIVE": f"jsonl:{place / 'turns.jsonl'}", "SESSIONFLEET_ENCRYPTION_KEYS": KEYS}
    with (
        running(Server(tmp_path_factory.mktemp("archive-server"))) as server,
        running_fleet(tmp_path_factory.mktemp("archived"), server, env, ("archived1", "archived2")) as fleet,
    ):
        yield fleet


def address_of(fleet: Fleet) -> str:
    assert fleet.settings.archive is not None
    return fleet.settings.archive.get_secret_value()


def turns_in(address: str, session: Session) -> list[ArchivedTurn]:
    archive = open_archive(address)
    try:
        return list(archive.turns(session.keys.tenant, session.session_id))
    finally:
        archive.close()


def wait_archived(address: str, session: Session, count: int) -> list[ArchivedTurn]:
    def look() -> list[ArchivedTurn] | None:
        try:
            found = turns_in(address, session)
        except ArchiveUnavailable:
            return None
        return found if len(found) >= count else None

    return wait_until(look, description=f"{count} turns of {session.session_id} are in the archive")


def waiting_requests(fleet: Fleet, session: Session) -> list[bytes]:
    """The requests of the session's turns that wait for the archive, as they are stored."""
    lane = session.keys.lane(ARCHIVE)
    with fleet.server.client() as client:
        parts = [raw.decode() for raw in client.lrange(lane.mailbox, 0, -1)]
        return [client.hget(lane.turn(part), "request") or b"" for part in parts]


def spoken(session: Session) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in session.history(1000)]


def test_each_committed_turn_is_archived(archived: Fleet) -> None:
    """Also one that failed after a tool had run, for its history has it, too."""
    session = archived.session(sid(), user_id="ann")
    session.Agent("Writer", instructions="write").chat("SAY one")
    with pytest.raises(TurnFailed):
        session.Agent("Writer").chat("FAIL 400 9")
    session.set_state("step", 2)
    session.Agent("Clerk").chat("SAY two")
    found = wait_archived(address_of(archived), session, len({m.turn_id for m in session.history()}))
    assert [(turn.agent, turn.user_id) for turn in found if turn.status == "succeeded"] == [
        ("Writer", "ann"),
        ("Clerk", "ann"),
    ]
    assert found[0].usage["requests"] == 1
    assert found[0].turn == next(iter(session.history())).turn_id.rpartition("~")[2]


def test_an_unreachable_archive_delays_nothing_and_loses_nothing(archived: Fleet, place: Path) -> None:
    """Turns continue meanwhile, even those of a session that expires before the archive is back."""
    session, short = archived.session(sid()), archived.session(sid(), ttl=1)
    agent = session.Agent()
    agent.chat("SAY zero")
    wait_archived(address_of(archived), session, 1)
    place.rename(place.with_name("away"))
    place.write_text("in the way")
    try:
        for number in range(5):
            assert agent.chat(f"SAY {number}", timeout=30) == str(number)
        short.Agent().chat("SAY soon gone")
        wait_until(short.is_expired, description="the session has expired")
        requests = waiting_requests(archived, session)
        assert len(requests) >= 4
        assert not any(b"SAY" in request for request in requests)
    finally:
        place.unlink()
        place.with_name("away").rename(place)
    assert [turn.count for turn in wait_archived(address_of(archived), session, 6)] == [2] * 6
    assert len(wait_archived(address_of(archived), short, 1)) == 1


def test_deleting_erases_the_archive(archived: Fleet) -> None:
    """A session with all of its turns, and a single exchange; nothing names the session any more, in neither place."""
    session, other = archived.session(sid(), user_id="ann"), archived.session(sid())
    agent = session.Agent()
    ids = [agent.submit(f"SAY {number}") for number in range(3)]
    for turn in ids:
        turn.result()
    other.Agent().chat("SAY stays")
    address = address_of(archived)
    wait_archived(address, session, 3)
    wait_archived(address, other, 1)
    session.delete_turn(ids[1].id)
    wait_until(lambda: len(turns_in(address, session)) == 2, description="one turn is erased")
    session.delete()
    wait_until(lambda: not turns_in(address, session), description="all turns are erased")
    assert len(turns_in(address, other)) == 1
    assert session.session_id not in (Path(address.removeprefix("jsonl:"))).read_text()
    session.Agent().chat("SAY again")  # a new session of that id
    assert [turn.count for turn in wait_archived(address, session, 1)] == [2]
    session.delete()


def test_tenants_are_apart_in_the_archive(archived: Fleet) -> None:
    """The same session id of two tenants: two sessions, of which one is erased."""
    session_id = sid()
    ours, theirs = archived.session(session_id), archived.session(session_id, tenant="second")
    ours.Agent().chat("SAY ours")
    theirs.Agent().chat("SAY theirs")
    address = address_of(archived)
    for session, text in ((ours, "ours"), (theirs, "theirs")):
        (turn,) = wait_archived(address, session, 1)
        assert turn.messages[-1]["parts"][0]["content"] == text
    ours.delete()
    wait_until(lambda: not turns_in(address, ours), description="our turn is erased")
    assert len(turns_in(address, theirs)) == 1


def test_a_turn_that_took_the_place_of_others_does_so_in_the_archive(archived: Fleet) -> None:
    """Both are on record; a restored session has the new one."""
    session = archived.session(sid())
    agent = session.Agent()
    for number in range(3):
        agent.chat(f"SAY {number}")
    session.regenerate(message="SAY two and a half")
    found = wait_archived(address_of(archived), session, 4)
    assert [turn.replaces_at for turn in found] == [None, None, None, 2]


def run(fleet: Fleet, server: Server, *arguments: str) -> Any:
    env = {**os.environ, **fleet.env, "REDIS_URL": server.url, "SESSIONFLEET_HOME": str(fleet.folder / "home")}
    command = [sys.executable, "-m", "sessions.cli.main", "sessions", "restore", "--json", *arguments]
    done = preloaded.run(command, env=env, cwd=ROOT, timeout=90)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_deployment_is_restored_into_an_empty_server(archived: Fleet, new_server: Server) -> None:
    """History, state, agents, owner and title; what exists is left alone, so it may be repeated."""
    session = archived.session(sid(), user_id="ann")
    agent = session.Agent("Writer", instructions="write")
    agent.chat("SAY one")
    agent.chat("SAY two")
    session.regenerate(message="SAY three")
    session.update(title="Travel", metadata={"tier": 1})
    session.set_state("step", 2)
    agent.chat("SAY four")
    wait_archived(address_of(archived), session, 4)
    restored = run(archived, new_server)
    assert session.session_id in restored["restored"]
    settings = archived.settings.model_copy(update={"redis_url": new_server.url})
    back = Session(session.session_id, settings=settings)
    assert spoken(back) == spoken(session)
    assert [m.turn_id for m in back.history()] == [m.turn_id for m in session.history()]
    assert back.get_state() == {"step": 2}
    info = back.info()
    assert (info.title, dict(info.metadata), info.user_id) == ("Travel", {"tier": 1}, "ann")
    assert back.get_context()["agents"] == session.get_context()["agents"]
    again = run(archived, new_server, "--session", session.session_id)
    assert (again["failed"], back.get_context()["turns"]) == ([], 3)


def test_two_workers_and_kill_9(tmp_path: Path, new_server: Server) -> None:
    """A worker that dies anywhere between commit and archive loses no turn and writes none twice; in SQLite."""
    address = f"sqlite:///{tmp_path / 'archive.db'}"
    env = {"SESSIONFLEET_ARCHIVE": address, "SESSIONFLEET_LEASE": "1"}
    with running_fleet(tmp_path / "fleet", new_server, env, ("killed1", "killed2")) as fleet:
        sessions = [fleet.session(sid()) for _ in range(6)]
        turns = [session.Agent().submit(f"SAY {number}") for number in range(5) for session in sessions]
        turns[6].result()
        fleet.workers[0].kill()
        for turn in turns:
            turn.result(timeout=60)
        fleet.start("killed3")
        for session in sessions:
            found = wait_archived(address, session, 5)
            texts = [turn.messages[-1]["parts"][0]["content"] for turn in found]
            assert texts == [str(number) for number in range(5)]
        with new_server.client() as client:
            wait_until(lambda: not list(client.scan_iter("sf:v1:*:outbox")), description="the outboxes are empty")


def test_postgres_is_stopped_and_comes_back(tmp_path: Path, new_server: Server) -> None:
    """Turns end while it is away, and are in it afterwards; a deployment is restored from it."""
    with running_postgres() as postgres:
        env = {"SESSIONFLEET_ARCHIVE": postgres.url}
        with running_fleet(tmp_path / "fleet", new_server, env, ("postgres1",)) as fleet:
            session = fleet.session(sid(), user_id="ann")
            agent = session.Agent()
            agent.chat("SAY one")
            wait_archived(postgres.url, session, 1)
            postgres.stop()
            assert agent.chat("SAY two", timeout=30) == "two"
            postgres.start()
            assert len(wait_archived(postgres.url, session, 2)) == 2
            with running(Server(tmp_path / "empty")) as empty:
                assert run(fleet, empty)["restored"] == [session.session_id]
                back = Session(session.session_id, settings=fleet.settings.model_copy(update={"redis_url": empty.url}))
                assert spoken(back) == spoken(session)


async def test_clearing_a_session_of_another_library_erases_its_turns(archived: Fleet) -> None:
    """What workers have archived of it; a turn after that is archived again."""
    pytest.importorskip("agents")
    from sessions.adapters.openai_agents import FleetSession

    library = FleetSession(sid(), settings=archived.settings)
    session, address = library.session, address_of(archived)
    await library.add_items([{"role": "user", "content": "SAY nothing"}])
    await session.Agent("Assistant").achat("SAY one", timeout=40)
    await session.aregenerate(timeout=40)
    wait_archived(address, session, 1)
    await library.clear_session()
    wait_until(lambda: not turns_in(address, session), description="the archived turns are erased")
    await session.Agent("Assistant").achat("SAY two", timeout=40)
    assert [len(turn.messages) for turn in wait_archived(address, session, 1)] == [2]
