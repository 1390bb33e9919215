"""A rescuer must outlive every outage: it is what finds the turns that an outage left."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
import redis
from celery import Celery

from broker_config.celery_app import FleetApp
from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import StoreUnavailable
from sessions.store.binding import ScriptCall
from sessions.store.keys import FLEET
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.fleet import Claimed, Looked
from sessions.store.wake_up import WakeUp
from tests.support.servers import Server, free_port
from workers.process.rescuer import Rescuer

NOWHERE = "redis://127.0.0.1:1/0"


class _Claims:
    """Scripts that give this rescuer every group, and no session that is due."""

    async def run(self, call: ScriptCall[Any]) -> Any:
        return Claimed(tuple(range(16))) if call.script.name == "claim_rescue" else Looked(0, ())


class _Store:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def hgetall(self, _key: str) -> dict[bytes, bytes]:
        if self._error is not None:
            raise self._error
        return {}


def no_ticks(refs: Iterable[str]) -> None:
    """There are no schedules."""


def rescuer(store: _Store, broker: str) -> Rescuer:
    settings = Settings(redis_url="redis://127.0.0.1:1/0", broker_url=broker)  # type: ignore[call-arg]
    app = FleetApp("test", settings, set_as_current=False)

    async def wake(*_: Any) -> bool:
        return True

    return Rescuer(settings, _Claims(), store, app, "w1", wake, lambda *_: True, no_ticks)  # type: ignore[arg-type]


async def test_a_broker_that_is_gone_does_not_end_the_rescue() -> None:
    """Its queues cannot be measured; the look at the store continues without."""
    assert await rescuer(_Store(), f"redis://127.0.0.1:{free_port()}/0").look() == 0


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), redis.TimeoutError("late"), OSError("no route")])
async def test_a_store_that_is_gone_pauses_the_rescue(error: Exception) -> None:
    """Every way in which the store fails arrives as the error that `run` waits out."""
    with pytest.raises(StoreUnavailable):
        await rescuer(_Store(error), NOWHERE).look()


@pytest.mark.parametrize(("queue", "here"), [("turns.rescue", ["default:a", "default:b"]), ("turns.vip.rescue", [])])
async def test_what_the_broker_takes_no_wake_for_runs_here(queue: str, here: list[str]) -> None:
    """A broker that is gone or full stops no session whose queue this worker serves; it is tried once per round."""
    tried: list[str] = []
    ran: list[str] = []

    async def wake(wake_up: WakeUp) -> bool:
        tried.append(wake_up.ref)
        return False

    def run_here(ref: str, of: str) -> bool:
        ran.extend([ref] if of == "turns" else [])
        return True

    class _Due(_Claims):
        async def run(self, call: ScriptCall[Any]) -> Any:
            due = Looked(1, (("default:a", queue), ("default:b", queue)))
            return due if call.script.name == "rescue_partition" else await super().run(call)

    settings = Settings(redis_url=NOWHERE)  # type: ignore[call-arg]
    app = FleetApp("test", settings, set_as_current=False)
    await Rescuer(settings, _Due(), _Store(), app, "w1", wake, run_here, no_ticks).look()  # type: ignore[arg-type]
    assert (tried, ran) == (["default:a"], here)


async def test_a_queue_that_nobody_serves_is_not_filled_by_each_new_worker(server: Server) -> None:
    """A worker that meets a queue with wake-ups in it looks there first, and publishes what is then missing."""
    woken: list[str] = []

    async def wake(wake_up: WakeUp) -> bool:
        woken.append(wake_up.ref)
        return True

    class _Due(_Claims):
        async def run(self, call: ScriptCall[Any]) -> Any:
            due = Looked(1, (("default:a", "turns.nobody.rescue"), ("default:b", "turns.nobody.rescue")))
            return due if call.script.name == "rescue_partition" else await super().run(call)

    settings = Settings(redis_url=NOWHERE, broker_url=server.url)  # type: ignore[call-arg]
    app = FleetApp("test", settings, set_as_current=False)
    with app.connection_for_write() as connection:
        connection.SimpleQueue("turns.nobody.rescue").put("a wake-up of an earlier worker's")
        look = Rescuer(settings, _Due(), _Store(), app, "w1", wake, lambda *_: True, no_ticks).look  # type: ignore[arg-type]
        await look()
        assert woken == []
        await look()
        assert woken == ["default:a", "default:b"], "the script looked there too, and says that they are lost"
        connection.SimpleQueue("turns.nobody.rescue").clear()


async def test_no_error_ends_the_rescue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unexpected errors are logged, and the rescuer looks again."""
    monkeypatch.setattr("workers.process.rescuer._TICK", 0.0)
    looks: list[int] = []
    again = asyncio.Event()

    class _Broken(_Claims):
        async def run(self, call: ScriptCall[Any]) -> Any:
            looks.append(1)
            if len(looks) > 2:
                again.set()
            raise ValueError("nobody foresaw this")

    settings = Settings(redis_url=NOWHERE)  # type: ignore[call-arg]
    app = Celery("test", set_as_current=False)
    broken = Rescuer(settings, _Broken(), _Store(), app, "w1", None, lambda *_: True, no_ticks)  # type: ignore[arg-type]
    task = asyncio.create_task(broken.run())
    await asyncio.wait_for(again.wait(), 5)
    task.cancel()


async def test_the_share_of_a_dead_worker_is_taken_before_its_leases_end(server: Server) -> None:
    """P6 with a short lease: two seconds after its last report it no longer counts, and its claims are over."""
    settings = Settings(redis_url=server.url, lease=1.0)
    client, base = async_store(settings), f"{FLEET}:test-{uuid.uuid4().hex}"
    looks: list[Claimed] = []

    class _OwnFleet(ScriptRunner):
        async def run(self, call: ScriptCall[Any]) -> Any:
            if call.script.name != "claim_rescue":
                return Looked(0, ())
            name, sha, count, _, *args = call.command
            looks.append(await super().run(dataclasses.replace(call, command=(name, sha, count, base, *args))))
            return looks[-1]

    seconds, micros = await client.time()
    now = seconds * 1000 + micros // 1000
    await client.zadd(f"{base}:workers", {"w1": now + 60_000, "dead": now - 2_001})
    app = FleetApp("test", settings, set_as_current=False)
    one = Rescuer(settings, _OwnFleet(client), _Store(), app, "w1", None, lambda *_: True, no_ticks)  # type: ignore[arg-type]
    await one.look()
    assert len(looks[0].groups) == 16
    await client.delete(f"{base}:workers")
    await client.aclose()
