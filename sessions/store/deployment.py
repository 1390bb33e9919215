"""Can this server keep the promises, and is this the deployment that the settings mean? Checked at connect."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import RedisCluster

from broker_config.settings import Settings
from sessions.errors import PartitionMismatch, StoreUnavailable, StoreUnsupported
from sessions.store.keys import INDEXED, PARTITION_COUNT, PROBE, SEGMENTS
from sessions.store.rights import check_rights
from sessions.store.scripts import translated

MIN_VERSION = (7, 0)
_PROBE_MS = 60_000


async def check_deployment(client: Any, settings: Settings) -> None:
    """Refuse a user without rights, a server that is too old or evicts keys, and a different partition count.

    Raises:
        StoreUnavailable: it does not answer.
        StoreUnsupported, PartitionMismatch: it answers, but must not be used like this.
    """
    try:
        # A separate timeout: the client's own applies to one attempt to connect, and there are several.
        async with asyncio.timeout(settings.connect_timeout):
            with translated():
                await check_rights(client)
                await _check_nodes(client)
                born = await _partition_count(client, settings.partitions)
    except TimeoutError:
        raise StoreUnavailable(
            f"the store did not answer within {settings.connect_timeout:g} s; check REDIS_URL, and that its server "
            "is running"
        ) from None
    if born != settings.partitions:
        raise PartitionMismatch(
            f"this deployment was created with {born} partitions, but the settings say {settings.partitions}: set "
            f"SESSIONFLEET_PARTITIONS={born} (the count cannot be changed later)"
        )


async def _partition_count(client: Any, wanted: int) -> int:
    """The deployment's count; ours if the deployment is new. Reads first: a full store refuses even a SET NX."""
    if await client.get(PARTITION_COUNT) is None:
        await client.set(INDEXED, b"1")  # a new deployment has no session that is not in the indexes
        await client.set(SEGMENTS, b"1")  # nor a process of an earlier version, which cannot read segments
        await client.set(PARTITION_COUNT, wanted, nx=True)
    return int(await client.get(PARTITION_COUNT))


async def check_writable(client: Any) -> None:
    """Write one small key: a server may answer every read and refuse every write.

    Raises:
        StoreUnavailable, StoreFull, BackendError: it refused; the message says what to do.
    """
    with translated():
        await client.set(PROBE, b"1", px=_PROBE_MS)


def check_server(server: dict[str, Any], memory: dict[str, Any]) -> None:
    """Refuse a server that is too old, or whose eviction policy could drop sessions.

    Raises:
        StoreUnsupported: with what to do.
    """
    version = str(server.get("redis_version", "0.0"))
    if tuple(int(p) for p in version.split(".")[:2]) < MIN_VERSION:
        raise StoreUnsupported(f"the store is Redis {version}; Sessionfleet needs 7.0 or newer (or Valkey)")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnsupported(
            f"the store evicts keys (maxmemory-policy {policy}), so it could drop sessions: "
            "run `CONFIG SET maxmemory-policy noeviction` and set it in its configuration file"
        )


def memory_pressure(memory: dict[str, Any], more: int = 0) -> float:
    """The share of maxmemory in use, or what it would be with `more` bytes; 0 without a limit."""
    limit = int(memory.get("maxmemory", 0))
    return (int(memory.get("used_memory", 0)) + more) / limit if limit else 0.0


async def node_infos(client: Any, section: str | None = None) -> dict[str, dict[str, Any]]:
    """INFO of each server: of a cluster's primaries by name, or of a plain server, named ''."""
    if not isinstance(client, RedisCluster):
        return {"": await client.info(section)}
    await client.initialize()  # finds the nodes
    nodes = client.get_primaries()
    infos = await asyncio.gather(*(client.info(section, target_nodes=node) for node in nodes))
    return {node.name: info for node, info in zip(nodes, infos, strict=True)}


async def highest_pressure(client: Any, more: int = 0) -> float:
    """The share of its maxmemory that the fullest server uses, or would use with `more` bytes.

    One full server of a cluster counts for all sessions: a turn also writes to other partitions (the lanes of its user,
    the sessions of a team's tasks).
    """
    return max(memory_pressure(info, more) for info in (await node_infos(client, "memory")).values())


async def _check_nodes(client: Any) -> None:
    servers, memories = await node_infos(client, "server"), await node_infos(client, "memory")
    for name, server in servers.items():
        try:
            check_server(server, memories.get(name, {}))
        except StoreUnsupported as error:
            raise StoreUnsupported(f"{name}: {error}" if name else str(error)) from None
