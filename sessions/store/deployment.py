"""Is this a server that can keep the promises, and the deployment that these settings mean? Checked at connect."""

from __future__ import annotations

import asyncio
from typing import Any

from broker_config.settings import Settings
from sessions.errors import PartitionMismatch, StoreUnavailable, StoreUnsupported
from sessions.store.keys import PARTITION_COUNT, PROBE
from sessions.store.scripts import translated

MIN_VERSION = (7, 0)
_PROBE_MS = 60_000


async def check_deployment(client: Any, settings: Settings) -> None:
    """Refuse a server that is too old or evicts keys, and another partition count than the deployment's.

    Raises:
        StoreUnavailable: it does not answer.
        StoreUnsupported, PartitionMismatch: it answers, but must not be used like this.
    """
    try:
        # Of its own, beside the client's: that one is for one attempt to connect, and there are several.
        async with asyncio.timeout(settings.connect_timeout):
            with translated():
                check_server(_first(await client.info("server")), _first(await client.info("memory")))
                born = await _partition_count(client, settings.partitions)
    except TimeoutError:
        raise StoreUnavailable(
            f"the store did not answer within {settings.connect_timeout:g} s; check REDIS_URL, "
            "and that its server is up"
        ) from None
    if born != settings.partitions:
        raise PartitionMismatch(
            f"this deployment was born with {born} partitions, the settings say {settings.partitions}: "
            f"set SESSIONFLEET_PARTITIONS={born} (the count cannot be changed later)"
        )


async def _partition_count(client: Any, wanted: int) -> int:
    """The deployment's count; born with ours if it is new. Reads first: a full store refuses even a SET NX in vain."""
    if await client.get(PARTITION_COUNT) is None:
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
    """Refuse a server that is too old, or whose eviction policy may drop sessions.

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


def memory_pressure(memory: dict[str, Any]) -> float:
    """The share of maxmemory in use, 0 without a limit."""
    limit = int(memory.get("maxmemory", 0))
    return int(memory.get("used_memory", 0)) / limit if limit else 0.0


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """A cluster answers with one dict for each node; any of them tells version and policy."""
    if "redis_version" in info or "used_memory" in info:
        return info
    nodes = [value for value in info.values() if isinstance(value, dict)]
    return nodes[0] if nodes else info
