"""The checks of the store's servers; in a cluster, every primary is checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.cli.replication_check import replication_check
from sessions.cli.verdicts import Check, Verdict
from sessions.errors import StoreUnsupported
from sessions.store.activity import store_time
from sessions.store.deployment import check_server, memory_pressure, node_infos
from sessions.store.keys import PARTITION_COUNT
from sessions.store.rights import check_rights
from sessions.store.scripts import translated

SKEW_LIMIT: Final = 2.0
_SEVERITY: Final = (Verdict.BROKEN, Verdict.WARNING, Verdict.OK)

Infos = Mapping[str, dict[str, Any]]


async def server_checks(settings: Settings) -> list[Check]:
    """All of them.

    Raises:
        BackendError: a server did not answer.
    """
    client = async_store(settings, name="sessionfleet-doctor")
    try:
        with translated():
            await check_rights(client)
            infos = await node_infos(client)
            now, here = await store_time(client), time.time()
            born = await client.get(PARTITION_COUNT)
    finally:
        await client.aclose()
    return [
        worst(infos, _server),
        worst(infos, _persistence),
        worst(infos, replication_check),
        worst(infos, lambda info: _memory(info, settings)),
        _clock(now - here),
        _partitions(int(born) if born else None, settings),
    ]


def worst(infos: Infos, examine: Callable[[dict[str, Any]], Check]) -> Check:
    """The worst result of all servers, with the server's name if there are several."""
    fullest_first = sorted(infos.items(), key=lambda item: -memory_pressure(item[1]))
    checks = {name: examine(info) for name, info in fullest_first}
    name, check = min(checks.items(), key=lambda item: _SEVERITY.index(item[1].verdict))
    if len(checks) == 1:
        return check
    like_it = sum(other.verdict is check.verdict for other in checks.values())
    return Check(check.name, check.verdict, f"{name}: {check.says} ({like_it} of {len(checks)} servers)", check.advice)


def _server(info: dict[str, Any]) -> Check:
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    policy = info.get("maxmemory_policy", "noeviction")
    try:
        check_server(info, info)
    except StoreUnsupported as error:
        return Check("server", Verdict.BROKEN, f"{name} {version}, {policy}", str(error))
    return Check("server", Verdict.OK, f"{name} {version}, maxmemory-policy {policy}")


def _persistence(info: dict[str, Any]) -> Check:
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") == "ok":
            return Check("persistence", Verdict.OK, "append-only file")
        return Check("persistence", Verdict.BROKEN, "the last write of the append-only file failed",
                     "see the server's log; its disk may be full")  # fmt: skip
    advice = "run `CONFIG SET appendonly yes` and set it in the server's configuration file"
    return Check(
        "persistence",
        Verdict.WARNING,
        "no append-only file: accepted turns are lost if the server fails",
        advice,
    )


def _memory(info: dict[str, Any], settings: Settings) -> Check:
    used = int(info.get("used_memory", 0)) / 2**20
    share = memory_pressure(info)
    if not share:
        return Check("memory", Verdict.OK, f"{used:.0f} MiB used, no maxmemory")
    says = f"{used:.0f} MiB used, {share:.0%} of maxmemory"
    if share >= settings.memory_high_water:
        return Check("memory", Verdict.BROKEN, f"{says}: new turns are refused", "give the server more maxmemory")
    near = share >= 0.8 * settings.memory_high_water
    advice = f"new turns are refused from {settings.memory_high_water:.0%} on: give it more maxmemory" if near else ""
    return Check("memory", Verdict.WARNING if near else Verdict.OK, says, advice)


def _clock(skew: float) -> Check:
    says = f"the server's clock differs by {abs(skew):.1f} s"
    if abs(skew) <= SKEW_LIMIT:
        return Check("clock", Verdict.OK, says)
    return Check("clock", Verdict.WARNING, says, "leases only use the server's clock, but run NTP so that logs agree")


def _partitions(born: int | None, settings: Settings) -> Check:
    if born is None or born == settings.partitions:
        return Check("partitions", Verdict.OK, f"{settings.partitions}" + ("" if born else ", no turn was ever sent"))
    advice = f"set SESSIONFLEET_PARTITIONS={born}; the count cannot be changed later"
    return Check("partitions", Verdict.BROKEN, f"{settings.partitions} here, the deployment has {born}", advice)
