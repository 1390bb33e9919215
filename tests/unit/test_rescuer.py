"""A rescuer must outlive every outage: it is what finds the turns that an outage left."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

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


class _Rota:
    """A rota that has these sessions already."""

    def __init__(self, *waiting: str, error: Exception | None = None) -> None:
        self._waiting = waiting
        self._error = error

    async def join_first(self, _queue: str, refs: Sequence[str], _at_ms: int) -> list[str]:
        if self._error is not None:
            raise self._error
        return [ref for ref in refs if ref not in self._waiting]

    async def overdue(self, queue: str, _most: int) -> list[WakeUp]:
        return [WakeUp(ref, queue, 1, in_rota=True) for ref in self._waiting if queue == "turns"]


class _Due(_Claims):
    """These sessions are due."""

    def __init__(self, queue: str, *refs: str) -> None:
        self._due = Looked(1, tuple((ref, queue) for ref in refs))

    async def run(self, call: ScriptCall[Any]) -> Any:
        return self._due if call.script.name == "rescue_partition" else await super().run(call)


def no_ticks(refs: Iterable[str]) -> None:
    """There are no schedules."""


class Woken:
    """A broker that takes wake-ups, or does not, and a worker that runs some itself."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.tried: list[str] = []
        self.here: list[str] = []

    async def publish(self, wake_up: WakeUp) -> bool:
        assert wake_up.in_rota
        self.tried.append(wake_up.ref)
        return self.takes

    def run_here(self, wake_up: WakeUp) -> bool:
        self.here.append(wake_up.ref)
        return True


def rescuer(scripts: _Claims, rota: _Rota, broker: str, woken: Woken | None = None) -> Rescuer:
    settings = Settings(redis_url=NOWHERE, broker_url=broker)  # type: ignore[call-arg]
    app, woken = FleetApp("test", settings, set_as_current=False), woken or Woken()
    return Rescuer(settings, scripts, rota, app, "w1", woken.publish, woken.run_here, no_ticks)  # type: ignore[arg-type]


async def test_a_store_that_fails_pauses_the_rescue() -> None:
    """The error arrives as the one that `run` waits out."""
    rota = _Rota(error=StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        await rescuer(_Due("turns.rescue", "default:a"), rota, NOWHERE).look()


async def test_what_the_broker_takes_no_wake_for_runs_here() -> None:
    """A broker that is gone or full stops no session, also one in the rota; it is tried once per round."""
    woken = Woken(takes=False)
    due = _Due("turns.rescue", "default:a", "default:b")
    gone = f"redis://127.0.0.1:{free_port()}/0"
    assert await rescuer(due, _Rota("default:b"), gone, woken).look() == 2
    assert (woken.tried, woken.here) == (["default:b"], ["default:b", "default:a"])


async def test_a_session_in_the_rota_is_woken_only_if_its_queue_has_no_wake_ups(new_server: Server) -> None:
    """A backlog is not a loss, however long it waits. What is not in the rota is lost."""
    woken = Woken()
    due = _Due("turns.rescue", "default:a", "default:b")
    app = FleetApp("test", Settings(redis_url=NOWHERE, broker_url=new_server.url), set_as_current=False)  # type: ignore[call-arg]
    with app.connection_for_write() as connection:
        for queue in ("turns", "turns.rescue"):
            connection.SimpleQueue(queue).put("a wake-up that waits")
            await rescuer(due, _Rota("default:a", "default:b"), new_server.url, woken).look()
            assert woken.tried == []
            await rescuer(due, _Rota("default:a"), new_server.url, woken).look()
            assert woken.tried == ["default:b"]
            connection.SimpleQueue(queue).clear()
            woken.tried.clear()
    await rescuer(due, _Rota("default:a", "default:b"), new_server.url, woken).look()
    assert woken.tried == ["default:a", "default:b"]


async def test_ten_thousand_sessions_of_a_tenant_do_not_flood_the_queue() -> None:
    """Wake-ups of a queue are interchangeable: some at a time are enough until the next look."""
    woken = Woken()
    refs = [f"default:s{number}" for number in range(10_000)]
    await rescuer(_Due("turns.rescue", *refs), _Rota(), NOWHERE, woken).look()
    assert len(woken.tried) == 500


async def test_no_error_ends_the_rescue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unexpected errors are logged, and the rescuer looks again."""
    monkeypatch.setattr("workers.process.rescuer._TICK", 0.0)
    monkeypatch.setattr(Rescuer, "_empty_queues", lambda _: [])  # a broker that is gone answers late
    looks: list[int] = []
    again = asyncio.Event()

    class _Broken(_Claims):
        async def run(self, call: ScriptCall[Any]) -> Any:
            looks.append(1)
            if len(looks) > 2:
                again.set()
            raise ValueError("nobody foresaw this")

    settings = Settings(redis_url=NOWHERE)  # type: ignore[call-arg]
    app = FleetApp("test", settings, set_as_current=False)
    broken = Rescuer(settings, _Broken(), _Rota(), app, "w1", None, lambda *_: True, no_ticks)  # type: ignore[arg-type]
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
    one = Rescuer(settings, _OwnFleet(client), _Rota(), app, "w1", None, lambda *_: True, no_ticks)  # type: ignore[arg-type]
    await one.look()
    assert len(looks[0].groups) == 16
    await client.delete(f"{base}:workers")
    await client.aclose()
