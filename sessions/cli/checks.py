"""The doctor's checks: each looks at one thing and says what it is and, when it is not well, what to do."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from broker_config.celery_app import FleetApp
from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.cli.gateway_check import gateway_check
from sessions.cli.output import ago
from sessions.cli.retrieval_checks import retrieval_checks
from sessions.cli.store import running_store
from sessions.cli.verdicts import PROVIDER_KEYS, Check, Verdict
from sessions.cli.webhook_check import webhook_check
from sessions.errors import BackendError, StoreUnsupported
from sessions.store.activity import Activity, look, store_time
from sessions.store.deployment import check_server, memory_pressure
from sessions.store.keys import PARTITION_COUNT
from sessions.store.scripts import store_error

SKEW_LIMIT = 2.0


async def examine(settings: Settings) -> list[Check]:
    """All checks; those that need the store are left out when it does not answer."""
    checks = [_imports(settings)]
    try:
        settings = running_store(settings)
        checks = [*await _store(settings), await _broker(settings), *await _fleet(settings), *checks]
    except BackendError as error:
        checks = [Check("server", Verdict.BROKEN, "does not answer", str(error)), *checks]
    return checks


async def _store(settings: Settings) -> list[Check]:
    client = async_store(settings, name="sessionfleet-doctor")
    try:
        info = await client.info()
        now, here = await store_time(client), time.time()
        born = await client.get(PARTITION_COUNT)
    except Exception as error:
        raise store_error(error) from error
    finally:
        await client.aclose()
    if "redis_version" not in info:  # a cluster answers for each node
        info = next(iter(info.values()))
    return [
        _server(info),
        _persistence(info),
        _memory(info, settings),
        _clock(now - here),
        _partitions(int(born) if born else None, settings),
    ]


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
                     "look at the server's log; its disk may be full")  # fmt: skip
    advice = "run `CONFIG SET appendonly yes` and set it in the server's configuration file"
    return Check(
        "persistence",
        Verdict.WARNING,
        "no append-only file: accepted turns can be lost with the server",
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
    return Check("clock", Verdict.WARNING, says, "leases go by the server's clock alone; run NTP, so that logs agree")


def _partitions(born: int | None, settings: Settings) -> Check:
    if born is None or born == settings.partitions:
        return Check("partitions", Verdict.OK, f"{settings.partitions}" + ("" if born else ", no turn was ever sent"))
    advice = f"set SESSIONFLEET_PARTITIONS={born}; the count cannot be changed later"
    return Check("partitions", Verdict.BROKEN, f"{settings.partitions} here, the deployment has {born}", advice)


async def _broker(settings: Settings) -> Check:
    app = FleetApp("sessionfleet-doctor", settings, set_as_current=False)

    def connect() -> None:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=settings.connect_timeout)

    try:
        await asyncio.get_running_loop().run_in_executor(None, connect)
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        advice = "check SESSIONFLEET_BROKER_URL; until then workers find turns by themselves, a little later"
        return Check("broker", Verdict.BROKEN, f"does not answer: {error}", advice)
    return Check("broker", Verdict.OK, "answers")


async def _fleet(settings: Settings) -> list[Check]:
    seen = await look(settings)
    return [
        _workers(seen),
        _model(seen, settings),
        await gateway_check(settings),
        webhook_check(seen),
        *await retrieval_checks(settings, seen),
    ]


def _workers(seen: Activity) -> Check:
    if not seen.workers:
        says = f"none alive, {seen.open_sessions} sessions have open turns"
        advice = "start a fleet with `sessionfleet up`, or a worker with `sessionfleet worker`"
        return Check("workers", Verdict.BROKEN, says, advice)
    queues = sorted({queue for worker in seen.workers for queue in worker.queues})
    latest = max(seen.last_seen.get(worker.id, 0.0) for worker in seen.workers)
    says = f"{len(seen.workers)} alive, queues {', '.join(queues)}, last seen {ago(latest)} ago"
    if "turns" not in queues:
        return Check("workers", Verdict.WARNING, says, "no worker serves `turns`, where sessions go by default")
    return Check("workers", Verdict.OK, says)


def _model(seen: Activity, settings: Settings) -> Check:
    models = sorted({worker.default_model for worker in seen.workers}) or [settings.model or "offline"]
    says = f"default model {', '.join(models)}"
    if len(models) > 1:
        return Check("model", Verdict.WARNING, says, "the workers differ: give all of them the same SESSIONFLEET_MODEL")
    if models == ["offline"]:
        advice = "no language model: set SESSIONFLEET_MODEL (openai:…) and the provider's key for the workers"
        return Check("model", Verdict.WARNING, says, advice)
    key = PROVIDER_KEYS.get(models[0].partition(":")[0])
    if key is None or os.environ.get(key) or (key == "OPENAI_API_KEY" and os.environ.get("OPENAI_BASE_URL")):
        return Check("model", Verdict.OK, says)
    return Check("model", Verdict.WARNING, f"{says}, {key} is not set here", "the workers need it in their environment")


def _imports(settings: Settings) -> Check:
    if not settings.imports:
        return Check("imports", Verdict.OK, "none: SESSIONFLEET_IMPORTS names modules with tools, agents and models")
    missing = [name for name in settings.imports if not _findable(name)]
    if missing:
        advice = f"workers look in their working directory (here {str(Path.cwd())!r}) and on PYTHONPATH"
        return Check("imports", Verdict.BROKEN, f"no module {missing[0]!r}", advice)
    return Check("imports", Verdict.OK, ", ".join(settings.imports))


def _findable(name: str) -> bool:
    sys.path.insert(0, str(Path.cwd()))  # as the workers do
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.pop(0)
