"""When a fleet in the background may end, and when it must not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from broker_config.embedded import EmbeddedServer
from broker_config.settings import Settings
from sessions.fleet.supervisor import Idleness, Supervisor
from sessions.store.activity import Activity


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "home")
    server.ensure_started()
    yield server
    server.stop()


def test_a_turn_that_comes_while_an_idle_fleet_ends_keeps_it(server: EmbeddedServer) -> None:
    """A turn is accepted by the store, not by a worker: without this look it would wait for the next fleet."""
    said: list[str] = []
    settings = Settings(home=server.home, redis_url=None)
    supervisor = Supervisor(settings, lambda _, line: said.append(line), workers=0, autostarted=True)
    assert not supervisor._called_back()
    with redis.Redis.from_url(server.redis_url) as client:
        client.zadd("sf:v1:{7}:wakeups", {"default:late": 1})
    assert supervisor._called_back()
    assert said[-1] == "a turn came in: the fleet continues"


def test_open_and_finished_turns_are_activity() -> None:
    """A turn of hours, one that waits for a worker, and a short one between two looks."""
    open_turn = Activity((), {}, open_sessions=1)
    nothing = Activity((), {}, open_sessions=0)
    idle = Idleness(0.0)
    for seen in (None, nothing, open_turn):
        idle.note(seen)
    first = idle._active
    idle.note(nothing)
    assert idle._active == first
    idle.note(None)
    assert idle._active > first
    assert not idle.long_enough, "a store that does not answer may be full of work"


def test_a_fleet_that_was_never_looked_at_is_not_idle() -> None:
    """It does not stop for idleness, however long its start took."""
    assert not Idleness(0.0).long_enough
