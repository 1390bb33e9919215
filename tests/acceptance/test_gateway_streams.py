"""Many readers on one gateway: streams survive workers and connections, and cost nothing that stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from sessions.store.keys import split_turn_id
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, running_gateway
from tests.support.sse import Reader, order_of
from tests.support.waiting import wait_until

READERS = 200
WORDS = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture
def edge(new_fleet: Callable[..., Fleet], tmp_path: Path) -> Iterator[tuple[Fleet, GatewayProcess]]:
    """Two workers that a test may kill, and a gateway."""
    fleet = new_fleet(SESSIONFLEET_LEASE="2", SESSIONFLEET_CONCURRENCY="150", SESSIONFLEET_DELTA_MS="0")
    fleet.start("edge1")
    fleet.start("edge2")
    fleet.ready()
    with running_gateway(fleet.server, tmp_path / "gateway") as gateway:
        yield fleet, gateway


async def submitted(client: httpx.AsyncClient, number: int, message: str) -> str:
    """The URL of a new turn, each in its own session."""
    body = {"message": message, "stream": True}
    answer = await client.post(f"/v1/sessions/reader-{number}/turns", json=body)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def open_things(gateway: GatewayProcess) -> int:
    """Descriptors and threads of the gateway's process."""
    process = psutil.Process(gateway.pid)
    return process.num_fds() + process.num_threads()


def store_connections(fleet: Fleet) -> int:
    """Connections of gateways' clients to the store, without the broker's."""
    with fleet.server.client() as client:
        return sum(entry["name"] == "sessionfleet-client" for entry in client.client_list())


@pytest.mark.slow
async def test_every_reader_sees_its_turn_end_though_a_worker_dies(edge: tuple[Fleet, GatewayProcess]) -> None:
    """200 readers on one gateway process, and a worker is killed: no gap, no repeat, one end each (P5).

    A tenth of them disconnects repeatedly and resumes after its last event; another tenth reads slowly.
    """
    fleet, gateway = edge
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=120, limits=limits, trust_env=False) as client:
        warm = await asyncio.gather(*(submitted(client, READERS + n, "SAY warm") for n in range(20)))
        await asyncio.gather(*(Reader(client, f"{url}/events").run() for url in warm))
        before = await asyncio.to_thread(open_things, gateway)
        message = f"PACE 0.8\nSAY {WORDS}"
        turns = await asyncio.gather(*(submitted(client, number, message) for number in range(READERS)))
        readers = [
            Reader(client, f"{url}/events", 3 if n % 10 == 0 else None, 3.0 if n % 10 == 5 else 0.0)
            for n, url in enumerate(turns)
        ]
        tasks = [asyncio.create_task(reader.run()) for reader in readers]
        # Killed at the worst moment: while most of them have seen a part of their answers.
        while sum(len(reader.items) > 3 for reader in readers) < READERS * 0.6:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        connections = await asyncio.to_thread(store_connections, fleet)
        fleet.workers[0].kill()
        await asyncio.gather(*tasks)
        for reader in readers:
            ids = [order_of(item.id) for item in reader.items]
            assert ids == sorted(set(ids)), "none twice, none out of order"
            assert [item.type for item in reader.items].count("ended") == 1
            assert reader.items[-1].data["status"] == "succeeded"
            assert reader.text == WORDS
        assert sum(any(item.type == "attempt_reset" for item in reader.items) for reader in readers) > READERS * 0.2
        await asyncio.to_thread(all_of_the_stream_was_seen, fleet, turns, readers)
    assert connections <= 6, "the readers share the connections of one client"
    # Connections of the client's pools may come and go; 200 readers may not.
    wait_until(lambda: open_things(gateway) <= before + 10, description="nothing is left of the readers", timeout=30)


def all_of_the_stream_was_seen(fleet: Fleet, turns: list[str], readers: list[Reader]) -> None:
    """The stream in the store is what each reader has, event by event."""
    with fleet.server.client() as store:
        for url, reader in zip(turns, readers, strict=True):
            session_id, part = split_turn_id(url.rpartition("/")[2])
            stored = store.xrange(fleet.client.keys(session_id).events(part))
            assert [item.id for item in reader.items] == [entry[0].decode() for entry in stored]


async def test_a_reader_that_is_gone_costs_nothing_that_stays(edge: tuple[Fleet, GatewayProcess]) -> None:
    """Connections that break in the middle of a turn: the gateway forgets them while the turn continues."""
    fleet, gateway = edge
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client:
        url = await submitted(client, 0, f"PACE 1.0\nSAY {WORDS}")
        session_id, part = split_turn_id(url.rpartition("/")[2])

        def watched() -> bytes:
            with fleet.server.client() as store:
                return store.hget(fleet.client.keys(session_id).turn(part), "readers") or b""

        before = await asyncio.to_thread(open_things, gateway)
        readers = [asyncio.create_task(Reader(client, f"{url}/events").run()) for _ in range(50)]
        await asyncio.to_thread(wait_until, watched, description="the turn is watched")
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await asyncio.to_thread(
            wait_until, lambda: not watched() and open_things(gateway) <= before + 4, description="they are forgotten"
        )
        assert (await client.get(url)).json()["status"] == "running"
        await client.post(f"{url}/cancel", headers={"Prefer": "wait=20"})


async def test_a_stopping_gateway_ends_its_streams_and_another_one_goes_on(
    edge: tuple[Fleet, GatewayProcess], tmp_path: Path
) -> None:
    """A deploy: the stream breaks at once, and its reader resumes at the next gateway without a gap."""
    fleet, gateway = edge
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as first:
            path = await submitted(first, 1, f"PACE 0.5\nSAY {WORDS}")
        reader = Reader(client, f"{gateway.url}{path}/events")
        reading = asyncio.create_task(reader._connect())
        while len(reader.items) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.to_thread(gateway.stop)
        await asyncio.gather(reading, return_exceptions=True)
        assert reader.items[-1].type != "ended"
        with running_gateway(fleet.server, tmp_path / "second") as second:
            reader.url = f"{second.url}{path}/events"
            await reader.run()
    assert reader.text == WORDS
    ids = [order_of(item.id) for item in reader.items]
    assert ids == sorted(set(ids))
