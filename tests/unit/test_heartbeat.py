"""The thread that renews leases must outlive every error: each turn of its worker depends on it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from broker_config.settings import Settings
from sessions.store.keys import SessionKeys
from sessions.store.leases import LeaseStore
from sessions.store.open_turn import OpenTurn
from tests.support.waiting import wait_until
from workers.lease.heartbeat import Heartbeat
from workers.lease.held_turn import HeldTurn
from workers.lease.lease_clock import lease_time


class _Store:
    """Fails unexpectedly, once; then renews."""

    def __init__(self) -> None:
        self.calls = 0

    def pipeline(self, **_: Any) -> _Store:
        return self

    def execute_command(self, *_: Any) -> None:
        pass

    def execute(self, **_: Any) -> list[Any]:
        self.calls += 1
        if self.calls == 1:
            raise ValueError("nobody foresaw this")
        return [[b"ok"]]

    def close(self) -> None:
        pass


def _begun() -> OpenTurn:
    return OpenTurn(
        "part", "1:n", 1, b"", 10**15, 0, 1, 0, False, 0, 0, None, {}, [], b"", {}
    )  # fmt: skip


async def test_no_error_ends_the_thread_that_renews(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the leases are renewed at the next beat."""
    store = _Store()
    monkeypatch.setattr("workers.lease.heartbeat.sync_store", lambda *_, **__: store)
    settings = Settings(redis_url="redis://127.0.0.1:1/0", lease=0.5)
    heartbeat = Heartbeat(settings, asyncio.get_running_loop())
    long = lease_time() + 60
    held = HeldTurn(SessionKeys.of("t", "s", 256), _begun(), "n", long, cast(LeaseStore, None))
    heartbeat.hold(held)
    heartbeat.start()
    try:
        await asyncio.to_thread(wait_until, lambda: store.calls > 2, description="it renews again")
        assert held.expires < long, "it is what the store said last"
    finally:
        heartbeat.let_go(held)
        await asyncio.to_thread(heartbeat.close)


class _Lost(_Store):
    """Says of every lease that it is lost."""

    def execute(self, **_: Any) -> list[Any]:
        self.calls += 1
        return [[b"lost"]]


@pytest.mark.parametrize("concluding", [True, False])
async def test_a_turn_whose_end_is_being_written_has_not_lost_its_lease(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, concluding: bool
) -> None:
    """The commit gives the lease back. A renewal that comes after it and before its reply must not call that a loss."""
    store = _Lost()
    monkeypatch.setattr("workers.lease.heartbeat.sync_store", lambda *_, **__: store)
    heartbeat = Heartbeat(Settings(redis_url="redis://127.0.0.1:1/0", lease=0.5), asyncio.get_running_loop())
    held = HeldTurn(SessionKeys.of("t", "s", 256), _begun(), "n", lease_time() + 60, cast(LeaseStore, None))
    held.concluding = concluding
    heartbeat.hold(held)
    heartbeat.start()
    try:
        often = 3 if concluding else 1  # what is lost is not asked for again
        await asyncio.to_thread(wait_until, lambda: store.calls >= often, description="the store said so")
        await asyncio.to_thread(heartbeat.close)  # what its thread saw is said to this loop before it ends
        await asyncio.sleep(0)
        assert (held.stop_reason is None) is concluding
        assert ("turn_stopped" in caplog.text) is not concluding
    finally:
        heartbeat.let_go(held)


class _Away(_Store):
    """Is out of reach."""

    def execute(self, **_: Any) -> list[Any]:
        self.calls += 1
        raise ConnectionError("refused")


@pytest.mark.parametrize(("tools_running", "unwritten"), [(0, 0), (1, 0), (0, 1)])
async def test_an_outage_stops_no_tool_and_no_finished_step(
    monkeypatch: pytest.MonkeyPatch, tools_running: int, unwritten: int
) -> None:
    """What a turn has done is written when the store is there again; a turn that only thinks stops with its lease."""
    store = _Away()
    monkeypatch.setattr("workers.lease.heartbeat.sync_store", lambda *_, **__: store)
    heartbeat = Heartbeat(Settings(redis_url="redis://127.0.0.1:1/0", lease=0.5), asyncio.get_running_loop())
    held = HeldTurn(SessionKeys.of("t", "s", 256), _begun(), "n", lease_time(), cast(LeaseStore, None))
    held.state.tools_running, held.state.unwritten_steps = tools_running, unwritten
    heartbeat.hold(held)
    heartbeat.start()
    try:
        await asyncio.to_thread(wait_until, lambda: store.calls > 0, description="it could not renew")
        await asyncio.to_thread(heartbeat.close)
        await asyncio.sleep(0)
        assert (held.stop_reason is None) is (tools_running + unwritten > 0)
    finally:
        heartbeat.let_go(held)
