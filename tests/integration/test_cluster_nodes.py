"""A cluster of three servers: what is wrong with one of them is seen, whichever it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions import Session
from sessions.cli.checks import examine
from sessions.cli.verdicts import Check, Verdict
from sessions.errors import StoreFull, StoreUnsupported
from sessions.store.deployment import check_deployment
from sessions.store.keys import searches_channel
from tests.integration.test_direct_searches import Processes, found
from tests.support.servers import Server, three_primaries


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with three_primaries(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def settings(nodes: list[Server], server: Server) -> Settings:
    return Settings(redis_url=nodes[0].url, redis_cluster=True, broker_url=server.url)


@pytest.fixture(params=[0, 1, 2])
def ill(request: pytest.FixtureRequest, nodes: list[Server]) -> Iterator[Server]:
    """One of the three, which the test may set up badly."""
    node = nodes[request.param]
    yield node
    with node.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)
        client.config_set("appendonly", "yes")


def checks_of(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in asyncio.run(examine(settings))}


def test_a_cluster_without_fault_is_reported_as_fine(settings: Settings) -> None:
    checks = checks_of(settings)
    assert {checks[name].verdict for name in ("server", "persistence", "memory")} == {Verdict.OK}
    assert "3 of 3 servers" in checks["server"].says


def test_the_doctor_asks_every_server(settings: Settings, ill: Server) -> None:
    """Eviction, a missing append-only file and memory that runs out, each with the server's name."""
    with ill.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 100_000)
    checks = checks_of(settings)
    verdicts = [checks[name].verdict for name in ("server", "persistence", "memory")]
    assert verdicts == [Verdict.BROKEN, Verdict.WARNING, Verdict.BROKEN]
    for name in ("server", "persistence", "memory"):
        assert f":{ill.port}" in checks[name].says
        assert "1 of 3 servers" in checks[name].says


async def test_a_cluster_with_one_server_that_evicts_is_refused(settings: Settings, ill: Server) -> None:
    """The client refuses to connect, and names the server."""
    client = async_store(settings)
    await check_deployment(client, settings)
    with ill.client() as plain:
        plain.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreUnsupported, match=rf":{ill.port}.*noeviction"):
        await check_deployment(client, settings)
    await client.aclose()


async def test_searches_reach_processes_in_the_slots_of_every_server(settings: Settings) -> None:
    """Callers and processes have channels of their own, and each is on one of the servers."""
    processes = await Processes(settings).open()
    try:
        for _ in range(6):
            await processes.serving(found)
        assert await asyncio.gather(*(processes.result() for _ in range(60))) == [await found()] * 60
        cluster, _ = processes._clients[0]
        owners = {cluster.get_node_from_key(searches_channel(name)).port for name in processes.announced}
        assert len(owners) > 1
    finally:
        await processes.close()


def test_new_turns_stop_when_one_server_is_nearly_full(settings: Settings, ill: Server) -> None:
    """Whichever it is: a turn also writes to partitions other than its own."""
    with ill.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 100_000)
    session = Session("waits", settings=settings.model_copy(update={"memory_high_water": 0.5}))
    with pytest.raises(StoreFull, match="maxmemory"):
        session.Agent("A").submit("SAY nothing")
    session.client.portal.call(session.client.aclose())
