"""Failovers while a hundred turns are sent and run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.charging import charges_through
from tests.support.fleet import Fleet
from tests.support.forwarder import forwarding
from tests.support.replicated import Pair, pair, sentinel

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


@contextlib.contextmanager
def _fleet(folder: Path, servers: Pair, url: str) -> Iterator[Fleet]:
    """Two workers that reach the servers at this address."""
    fleet = Fleet(folder / "fleet", servers.primary)
    try:
        fleet.reach(url)
        for worker in ("w1", "w2"):
            fleet.start(worker)
        fleet.ready()
        yield fleet
    finally:
        fleet.close()


@pytest.mark.parametrize("round_", range(3))
def test_planned_failovers_lose_none_of_a_hundred_turns(tmp_path: Path, round_: int) -> None:
    """`FAILOVER TO` and back again: none is lost, none is done twice, and no worker ends."""
    with pair(tmp_path) as servers, forwarding(servers.primary.port) as name:

        def there_and_back() -> None:
            for _ in range(2):
                name.target = servers.replica.port
                servers.fail_over()

        with _fleet(tmp_path, servers, name.url) as fleet:
            charges_through(fleet, 100, there_and_back)


def test_a_failover_by_sentinel_loses_no_turn_where_writes_need_a_replica(tmp_path: Path) -> None:
    """The old primary accepts no write once its replica is promoted; that takes longer than a lease, and loses nothing.

    Without `min-replicas-to-write` both servers accept writes for ten seconds, and those of the old one are lost. What
    was acknowledged just before and not replicated yet would be lost in any case, so it is replicated first.
    """
    with (
        pair(tmp_path, "--min-replicas-to-write", "1") as servers,
        sentinel(tmp_path / "sentinel", servers) as guard,
        _fleet(tmp_path, servers, guard.url) as fleet,
    ):
        charges_through(fleet, 100, guard.fail_over)
