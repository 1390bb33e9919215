"""What the broker forgets, doubles or refuses, and a store that is killed: nothing is lost, nothing happens twice."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable

import pytest
import redis

from broker_config.settings import Settings
from sessions import Session, Turn, TurnStatus
from sessions.client.wakeups import publish_wake
from sessions.protocol.event import EventType
from sessions.store.keys import SessionKeys
from sessions.store.wake_up import WakeUp
from tests.support.broker import queue_key
from tests.support.fleet import Fleet, keys_without_ttl
from tests.support.servers import Server, free_port, running
from tests.support.waiting import wait_until

MakeFleet = Callable[..., Fleet]


def sid() -> str:
    return uuid.uuid4().hex


def charges(fleet: Fleet) -> Counter[int]:
    """How often each amount was charged."""
    return Counter(line["amount"] for line in fleet.ledger("charge"))


def submit_charges(fleet: Fleet, sessions: int, turns: int) -> list[Turn]:
    """Turns that each charge a different amount, several per session."""
    agents = [fleet.session(sid()).Agent("A", tools=["charge"]) for _ in range(sessions)]
    amounts = range(sessions * turns)
    return [agents[n % sessions].submit(f'CALL charge({{"amount": {n}}})') for n in amounts]


def expect_all(fleet: Fleet, turns: list[Turn], crashes: int = 0) -> None:
    """All have succeeded, each charge happened once, and no attempt was counted as a crash."""
    assert [turn.result(timeout=60) for turn in turns] == [f"ok: charged {n}" for n in range(len(turns))]
    assert charges(fleet) == Counter(range(len(turns)))
    assert sum(turn.record().crashes for turn in turns) == crashes


def test_a_deleted_celery_queue_loses_no_turn(new_fleet: MakeFleet) -> None:
    """The queue is deleted while turns wait in it: the workers find their sessions in the store."""
    fleet = new_fleet()
    turns = submit_charges(fleet, sessions=8, turns=2)
    with fleet.server.client() as client:
        assert client.llen(queue_key("turns")) == 8
        client.delete(queue_key("turns"))
    fleet.start("w1")
    fleet.ready()
    expect_all(fleet, turns)
    assert "rescued" in fleet.workers[0].log


def test_wakes_that_come_ten_times_run_a_turn_once(fleet: Fleet) -> None:
    """A wake-up is a hint: ten of each, before and after their turn ran, change nothing."""
    first = 10**6
    agents = [fleet.session(sid()).Agent("A", tools=["charge"]) for _ in range(5)]
    turns = [agent.submit(f'CALL charge({{"amount": {first + n}}})') for n, agent in enumerate(agents)]
    app = fleet.client.connection.dispatcher._app
    for _ in range(10):
        for agent, turn in zip(agents, turns, strict=True):
            publish_wake(app, WakeUp(agent.session.keys.ref, "turns", turn.record().accepted_ms))
    assert [turn.result(timeout=30) for turn in turns] == [f"ok: charged {first + n}" for n in range(5)]
    for agent in agents:
        publish_wake(app, WakeUp(agent.session.keys.ref, "turns", 0))
    with fleet.server.client() as client:
        wait_until(lambda: client.llen(queue_key("turns")) == 0, description="all wake-ups are consumed")
    assert {n: c for n, c in charges(fleet).items() if first <= n < first + 5} == {first + n: 1 for n in range(5)}
    assert [turn.attempt for turn in turns] == [1] * 5


def test_a_wake_for_a_session_that_is_not_there_is_harmless(fleet: Fleet) -> None:
    """A wake-up may outlive its session: it creates no key, and the worker continues."""
    keys = SessionKeys.of("default", sid(), 256)
    fleet.client.portal.call(fleet.client.open())  # it may be the first use of a client that another test has replaced
    publish_wake(fleet.client.connection.dispatcher._app, WakeUp(keys.ref, "turns", 0))
    assert fleet.session(sid()).Agent("A").chat("SAY on") == "on"
    with fleet.server.client() as client:
        wait_until(lambda: client.llen(queue_key("turns")) == 0, description="the wake-up is consumed")
        assert list(client.scan_iter(f"*{keys.session_id}*", count=1000)) == []


def test_a_publish_that_fails_after_acceptance_delays_the_turn_only(new_server: Server, new_fleet: MakeFleet) -> None:
    """The broker is gone when the wake-up is to be sent: submit returns all the same, and the turn runs."""
    fleet = new_fleet()
    fleet.start("w1")
    fleet.ready()
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    session = Session(sid(), settings=Settings(redis_url=new_server.url, broker_url=nowhere))  # type: ignore[call-arg]
    turn = session.Agent("A", tools=["charge"]).submit('CALL charge({"amount": 1})')
    assert turn.result(timeout=20) == "ok: charged 1"
    assert charges(fleet) == {1: 1}
    session.client.portal.call(session.client.aclose())


def test_a_broker_that_comes_back_finds_its_workers(
    tmp_path_factory: pytest.TempPathFactory, new_fleet: MakeFleet
) -> None:
    """The broker, a separate server, is killed and started empty: turns accepted meanwhile run."""
    with running(Server(tmp_path_factory.mktemp("broker"))) as broker:
        fleet = new_fleet(SESSIONFLEET_BROKER_URL=broker.url)
        fleet.start("w1")
        fleet.ready()
        broker.kill()
        turns = submit_charges(fleet, sessions=3, turns=1)
        wait_until(lambda: "wake_not_published" in fleet.workers[0].log, description="the worker misses the broker")
        (broker.folder / "appendonlydir").rename(broker.folder / "lost")
        broker.start()
        expect_all(fleet, turns)


@pytest.fixture
def durable_server(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A server that writes its AOF before it answers: what it acknowledged survives kill -9 for certain (R17)."""
    with running(Server(tmp_path_factory.mktemp("durable"), options=("--appendfsync", "always"))) as server:
        yield server


@pytest.mark.parametrize("outage", ["short", "longer than the lease"])
def test_a_store_that_is_killed_loses_nothing(durable_server: Server, new_fleet: MakeFleet, outage: str) -> None:
    """kill -9 of the store in the middle of turns, restarted with its AOF: all end, once; no crash is counted."""
    fleet = new_fleet(SESSIONFLEET_LEASE="2")
    fleet.server = durable_server
    fleet.settings = Settings(redis_url=durable_server.url, lease=2.0)  # type: ignore[call-arg]
    workers = [fleet.start("w1"), fleet.start("w2")]
    fleet.ready()
    agents = [fleet.session(sid()).Agent("A", tools=["charge", "look_up"]) for _ in range(6)]
    turns = [
        agent.submit(f'CALL charge({{"amount": {n}}})\nCALL look_up({{"query": "q{n}", "seconds": 3}})')
        for n, agent in enumerate(agents)
    ]
    behind = [agent.submit(f'CALL charge({{"amount": {6 + n}}})') for n, agent in enumerate(agents)]
    fleet.noted("look_up", count=6)
    durable_server.kill()
    if outage != "short":
        wait_until(
            lambda: sum(w.log.count("turn_kept_in_outage") for w in workers) >= 6,
            description="the leases ended by their clocks",
        )
    durable_server.start()
    assert [turn.result(timeout=60) for turn in turns] == [f"ok: q{n} found" for n in range(6)]
    assert [turn.result(timeout=60) for turn in behind] == [f"ok: charged {6 + n}" for n in range(6)]
    assert charges(fleet) == Counter(range(12))
    records = [turn.record() for turn in (*turns, *behind)]
    assert [r.crashes for r in records] == [0] * 12
    assert [r.status for r in records] == [TurnStatus.SUCCEEDED] * 12
    assert all(sum(e.type is EventType.ENDED for e in turn.events()) == 1 for turn in turns)
    assert keys_without_ttl(durable_server) == []


def test_after_a_whole_run_every_key_expires_or_is_permanent(new_server: Server, new_fleet: MakeFleet) -> None:
    """Chats, streams, failures, cancels, retries, idempotency and deletion leave no key behind that never expires."""
    fleet = new_fleet(SESSIONFLEET_MODEL_BACKOFF="0.2")
    fleet.start("w1")
    fleet.ready()
    agent = fleet.session(sid(), ttl=3600).Agent("A", tools=["charge"])
    agent.chat('CALL charge({"amount": 1})', idempotency_key="k")
    list(agent.stream("SAY a b c"))
    agent.submit("FAIL 429 1\nSAY later").result(timeout=20)
    failed = agent.submit("FAIL 400 9")
    cancelled = agent.submit("SLEEP 30")
    cancelled.cancel()
    other = fleet.session(sid())
    other.Agent("A").chat("SAY x")
    other.delete()
    wait_until(lambda: failed.status.final and cancelled.status.final, description="all turns have ended")
    assert keys_without_ttl(new_server) == []
    with new_server.client() as client:
        names = {n.decode().rpartition(":")[2] for n in client.scan_iter("sf:v1:*", count=1000) if client.ttl(n) == -1}
        of_the_fleet = {"fence", "partitions", "index", "indexed", "segments"}
        lists = {"expiring", "used~default", "made~default"}
        assert names <= of_the_fleet | lists, "a session with a ttl has an expiry on all its keys"
        assert list(client.scan_iter(f"*{other.session_id}*", count=1000)) == []


def test_a_store_without_room_for_the_broker_is_not_asked(new_server: Server) -> None:
    """What Celery keeps for itself is bounded: its own keys are a handful, whatever was published."""
    session = Session(sid(), settings=Settings(redis_url=new_server.url))  # type: ignore[call-arg]
    for _ in range(20):
        session.Agent("A").submit("SAY x")
    client: redis.Redis = new_server.client()
    ours = [n for n in client.scan_iter("*", count=1000) if not n.startswith(b"sf:v1:")]
    assert len(ours) <= 4
    assert client.llen(queue_key("turns")) == 1, "one wake-up for the session, not one for each turn"
    client.close()
