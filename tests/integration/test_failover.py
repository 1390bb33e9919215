"""Planned failovers in the middle of turns: no worker ends, and no acknowledged turn is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config.redis_clients import async_store, sync_store
from broker_config.settings import Settings
from tests.support.charging import charges_through
from tests.support.fleet import Fleet
from tests.support.forwarder import forwarding
from tests.support.replicated import Pair, pair, sentinel


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Pair]:
    """A primary and its replica."""
    with pair(tmp_path / "servers") as found:
        yield found


@pytest.fixture
def fleet(servers: Pair, tmp_path: Path) -> Iterator[Fleet]:
    """Two workers, not started."""
    fleet = Fleet(tmp_path / "fleet", servers.primary)
    yield fleet
    fleet.close()


def test_a_planned_failover_loses_no_turn(servers: Pair, fleet: Fleet) -> None:
    """`FAILOVER TO`: the name leads to the new primary, and open connections to what is a replica now."""
    with forwarding(servers.primary.port) as name:
        fleet.reach(name.url)

        def fail_over() -> None:
            name.target = servers.replica.port
            servers.fail_over()

        fleet.start("w1")
        fleet.start("w2")
        fleet.ready()
        charges_through(fleet, 40, fail_over)


async def test_a_refused_command_is_tried_again_at_the_new_primary(servers: Pair, tmp_path: Path) -> None:
    """On the connection that was refused: it asks the sentinels before it connects again."""
    with sentinel(tmp_path / "sentinel", servers) as guard:
        settings = Settings(redis_url=guard.url)  # type: ignore[call-arg]
        client, blocking = async_store(settings), sync_store(settings, tries=3)
        await client.set("by", "the old primary")
        blocking.set("by", "the old primary")

        def fail_over() -> None:
            with guard.looking_away():
                servers.fail_over()

        await asyncio.to_thread(fail_over)
        await client.set("by", "the new primary")
        blocking.set("by", "the new primary")
        await client.aclose()
        blocking.close()


def test_a_fleet_follows_its_sentinel(servers: Pair, fleet: Fleet, tmp_path: Path) -> None:
    """Store and broker by a Sentinel URL: everything continues on whichever server the sentinel names."""
    with sentinel(tmp_path / "sentinel", servers) as guard:
        fleet.reach(guard.url)

        def fail_over() -> None:
            with guard.looking_away():
                servers.fail_over()

        fleet.start("w1")
        fleet.ready()
        charges_through(fleet, 20, fail_over)
