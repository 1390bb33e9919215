"""Fairness between tenants with real workers: by the order in which turns start, and not by time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from sessions import Turn
from sessions.store.keys import rota_key
from tests.support.broker import queue_key
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

MakeFleet = Callable[..., Fleet]
SLOTS = 2
SLOW = "SLEEP 0.1\nSAY done"
FEW = 10
"""Turns that may start while a client has accepted a turn and not entered it yet, on a busy machine."""


def submit(fleet: Fleet, tenant: str, sessions: int, turns: int = 1, message: str = "SAY done") -> list[Turn]:
    """Turns of a tenant in sessions of its own, in this order."""

    async def all_of_them() -> list[Turn]:
        made: list[Turn] = []
        for _ in range(sessions):
            agent = fleet.session(uuid.uuid4().hex, tenant=tenant).Agent("A")
            made += [await agent.asubmit(message) for _ in range(turns)]
        return made

    return asyncio.run(all_of_them())


def started_between(turns: list[Turn], one: Turn) -> int:
    """How many of these turns started after the one was accepted and before it started."""
    mine = one.record()
    assert mine.started_ms is not None
    starts = [turn.record().started_ms for turn in turns]
    return sum(start is not None and mine.accepted_ms < start < mine.started_ms for start in starts)


def test_a_single_turn_does_not_wait_for_another_tenants_backlog(new_fleet: MakeFleet) -> None:
    """120 sessions of one tenant wait, and one with 60 turns holds a slot: the other tenant's turn is next."""
    fleet = new_fleet(SESSIONFLEET_CONCURRENCY=str(SLOTS))
    long = submit(fleet, "heavy", sessions=1, turns=60, message=SLOW)
    many = submit(fleet, "heavy", sessions=120, message=SLOW)
    fleet.start("w1")
    fleet.ready()
    assert many[10].result(timeout=60) == "done"
    single = submit(fleet, "light", sessions=1)[0]
    assert single.result(timeout=60) == "done"
    assert started_between(many + long, single) <= FEW
    assert not many[-1].record().status.final, "the backlog has ended: this shows nothing"


def test_sessions_with_many_turns_give_their_slots_back(new_fleet: MakeFleet) -> None:
    """All slots are held by sessions with forty turns each: none keeps its slot for all of them."""
    fleet = new_fleet(SESSIONFLEET_CONCURRENCY=str(SLOTS))
    long = submit(fleet, "heavy", sessions=SLOTS, turns=40, message=SLOW)
    fleet.start("w1")
    fleet.ready()
    assert long[5].result(timeout=60) == "done"
    single = submit(fleet, "light", sessions=1)[0]
    assert single.result(timeout=60) == "done"
    assert started_between(long, single) <= FEW
    assert [turn.result(timeout=60) for turn in long] == ["done"] * len(long)


def test_without_rota_and_queue_every_turn_still_ends(new_fleet: MakeFleet) -> None:
    """Places are lost, wake-ups are lost, and others come twice: the rescue finds what waits."""
    fleet = new_fleet(SESSIONFLEET_CONCURRENCY=str(SLOTS))
    lost = submit(fleet, "a", sessions=5, turns=2)
    with fleet.server.client() as client:
        for key in client.scan_iter(f"{rota_key('turns')}*", count=1000):
            client.delete(key)
        client.delete(queue_key("turns"))
        unplaced = submit(fleet, "b", sessions=5)
        client.delete(f"{rota_key('turns')}:tenants")
        without_wake_ups = submit(fleet, "c", sessions=5)
        for message in client.lrange(queue_key("turns"), 0, 4):
            client.lrem(queue_key("turns"), 1, message)
        doubled = submit(fleet, "d", sessions=5)
        for message in client.lrange(queue_key("turns"), 0, 4):
            client.lpush(queue_key("turns"), message)
        fleet.start("w1")
        fleet.ready()
        turns = lost + unplaced + without_wake_ups + doubled
        assert [turn.result(timeout=60) for turn in turns] == ["done"] * len(turns)
        assert [turn.attempt for turn in turns] == [1] * len(turns)
        wait_until(lambda: not client.exists(f"{rota_key('turns')}:tenants"), description="nobody waits")


def test_a_deleted_session_leaves_the_rota(new_fleet: MakeFleet) -> None:
    """Its name is nowhere in the store any more, though no worker has looked."""
    fleet = new_fleet()
    session = fleet.session("gone")
    session.Agent("A").submit("SAY done")
    with fleet.server.client() as client:
        line = f"{rota_key('turns')}:waiting~default"
        assert client.zrange(line, 0, -1) == [b"default:gone"]
        session.delete()
        assert client.zcard(line) == 0


def test_the_fleet_knows_the_weights_of_tenants(new_fleet: MakeFleet) -> None:
    """Workers copy them to the rotas of their queues, when they change."""
    fleet = new_fleet()
    with fleet.server.client() as client:
        client.hset("sf:v1:{fleet}:limits", "heavy", '{"weight":0.25}')
        client.incr("sf:v1:{fleet}:limits:version")
        fleet.start("w1", SESSIONFLEET_QUEUES="turns,turns.vip")
        fleet.ready()
        for queue in ("turns", "turns.vip"):
            key = f"{rota_key(queue)}:weights"
            wait_until(lambda key=key: client.hgetall(key) == {b"heavy": b"0.25"}, description="the weight is known")  # type: ignore[misc]
        client.hdel("sf:v1:{fleet}:limits", "heavy")
        client.incr("sf:v1:{fleet}:limits:version")
        wait_until(lambda: not client.exists(key), description="its weight is 1 again")
