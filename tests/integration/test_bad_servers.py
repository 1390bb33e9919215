"""Servers that cannot be used, and requests that cannot run: a clear error in time, and nothing changed."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker_config.settings import Settings
from sessions import Session
from sessions.errors import (
    BadRequest,
    PartitionMismatch,
    SessionBusy,
    SessionOwnerError,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
    UnknownAgent,
    UnknownModel,
    UnknownTool,
)
from tests.support.fleet import Fleet
from tests.support.servers import Server, free_port, running


def sid() -> str:
    return uuid.uuid4().hex


def session_at(url: str, **settings: object) -> Session:
    return Session(sid(), settings=Settings(redis_url=url, **settings))  # type: ignore[arg-type]


def keys_of(server: Server, session: Session) -> list[bytes]:
    with server.client() as client:
        return sorted(client.scan_iter(f"*{session.session_id}*", count=1000))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield int(listener.getsockname()[1])


def test_a_closed_port_is_told_at_once() -> None:
    """There is no server: StoreUnavailable within about two seconds, with the setting to check."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="REDIS_URL"):
        session_at(f"redis://127.0.0.1:{free_port()}/0").Agent("A").chat("hi")
    assert time.monotonic() - began < 3.5


def test_a_port_that_never_answers_is_told_in_time(silent_port: int) -> None:
    """It accepts and says nothing: StoreUnavailable within about two seconds, not after redis-py's many tries."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"did not answer within 2 s.*REDIS_URL"):
        session_at(f"redis://127.0.0.1:{silent_port}/0").Agent("A").chat("hi")
    assert time.monotonic() - began < 3.5


def test_a_broker_that_never_answers_holds_nobody_up(new_server: Server, silent_port: int) -> None:
    """The turn is accepted all the same, within seconds: its wake-up is only a hint."""
    session = session_at(new_server.url, broker_url=f"redis://127.0.0.1:{silent_port}/0")
    began = time.monotonic()
    turn = session.Agent("A").submit("hi")
    assert time.monotonic() - began < 5
    assert turn.status == "queued"


def test_a_server_that_evicts_is_refused(tmp_path: Path) -> None:
    """A real server with allkeys-lru is StoreUnsupported, and nothing is written to it."""
    with running(Server(tmp_path, options=("--maxmemory-policy", "allkeys-lru"))) as server:
        with pytest.raises(StoreUnsupported, match=r"allkeys-lru.*noeviction"):
            session_at(server.url).Agent("A").submit("hi")
        with server.client() as client:
            assert client.dbsize() == 0


def test_another_partition_count_is_refused(server: Server) -> None:
    """The count is fixed at birth: PartitionMismatch names both, and the setting to use."""
    session_at(server.url).Agent("A").submit("hi").cancel()
    with pytest.raises(
        PartitionMismatch, match=r"256 partitions, but the settings say 64.*SESSIONFLEET_PARTITIONS=256"
    ):
        session_at(server.url, partitions=64).Agent("A").submit("hi")


def test_a_store_that_is_nearly_full_refuses_new_turns(new_server: Server) -> None:
    """Beyond the high-water mark: StoreFull, and existing data stays as it is."""
    with new_server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))
    session = session_at(new_server.url)
    with pytest.raises(StoreFull, match="maxmemory"):
        session.Agent("A").submit("hi")
    assert keys_of(new_server, session) == []


def test_a_full_mailbox_refuses_the_next_turn(server: Server) -> None:
    """SessionBusy says how many wait; those that wait are untouched."""
    session = session_at(server.url, mailbox_limit=2)
    agent = session.Agent("A")
    turns = [agent.submit("SLEEP 30"), agent.submit("SLEEP 30")]
    before = keys_of(server, session)
    with pytest.raises(SessionBusy, match="2 turns waiting"):
        agent.submit("third")
    assert [k for k in keys_of(server, session) if b":turn:" in k and k.count(b":") < 6] == [
        k for k in before if b":turn:" in k and k.count(b":") < 6
    ]
    assert len(turns) == 2
    session.delete()
    assert keys_of(server, session) == []


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"tools": ["no_such_tool"]}, UnknownTool, r"'no_such_tool' \(known: .*charge"),
        ({"model": "acme:gpt"}, UnknownModel, "'acme:gpt'.*provider:model with one of .*openai"),
        ({"model": "opnai:gpt-5"}, UnknownModel, "did you mean 'openai:gpt-5'"),
        ({"model": "no_such_model"}, UnknownModel, "'no_such_model'.*provider:model.*registered names .*double"),
        ({"registered": True}, UnknownAgent, "'A'"),
    ],
    ids=["tool", "provider", "misspelt", "model", "agent"],
)
def test_what_no_worker_knows_is_refused(
    fleet: Fleet, options: dict[str, object], error: type[BadRequest], said: str
) -> None:
    """An unknown tool, model, provider or agent is refused on the way in; the message lists what there is."""
    session = fleet.session(sid())
    with pytest.raises(error, match=said):
        session.Agent("A", **options).submit("hi")  # type: ignore[arg-type]
    assert keys_of(fleet.server, session) == []


def test_bad_messages_leave_no_trace(fleet: Fleet) -> None:
    """A message that is refused leaves no key, not even of its session."""
    session = fleet.session(sid())
    for bad in ("", "x" * (1024 * 1024 + 1), 5):
        with pytest.raises(BadRequest):
            session.Agent("A").submit(bad)  # type: ignore[arg-type]
    assert keys_of(fleet.server, session) == []


def test_a_session_belongs_to_its_first_user(fleet: Fleet) -> None:
    """Another user can neither ask, read, nor delete: SessionOwnerError, a PermissionError."""
    name = sid()
    turn = fleet.session(name, user_id="alice").Agent("A").submit("SAY mine")
    assert turn.result(timeout=20) == "mine"
    before = keys_of(fleet.server, fleet.session(name))
    mallory = fleet.session(name, user_id="mallory")
    attempts: list[Callable[[], object]] = [
        lambda: mallory.Agent("A").chat("hi"),
        lambda: mallory.turn(turn.id),
        mallory.delete,
    ]
    for attempt in attempts:
        with pytest.raises(SessionOwnerError, match="another user") as caught:
            attempt()
        assert isinstance(caught.value, PermissionError)
    assert keys_of(fleet.server, mallory) == before
    assert fleet.session(name).turn(turn.id).result() == "mine"


def test_a_session_without_owner_is_claimed_by_its_first_named_user(fleet: Fleet) -> None:
    """Opened without a user it has no owner; the first user that names itself owns it from then on."""
    name = sid()
    fleet.session(name).Agent("A").chat("SAY 1")
    fleet.session(name, user_id="bob").Agent("A").chat("SAY 2")
    with pytest.raises(SessionOwnerError):
        fleet.session(name, user_id="eve").Agent("A").submit("SAY 3")
