"""The checks of `doctor`: each examines one thing, and says what it found and what to do if something is wrong."""

from __future__ import annotations

import asyncio
import os

from broker_config.celery_app import FleetApp
from broker_config.settings import Settings
from sessions.cli.gateway_check import gateway_check
from sessions.cli.import_check import import_check
from sessions.cli.names_check import names_check
from sessions.cli.output import ago
from sessions.cli.retrieval_checks import retrieval_checks
from sessions.cli.server_checks import server_checks
from sessions.cli.store import running_store
from sessions.cli.verdicts import PROVIDER_KEYS, Check, Verdict
from sessions.cli.webhook_check import webhook_check
from sessions.errors import BackendError, StoreUnsupported
from sessions.store.activity import Activity, look


async def examine(settings: Settings) -> list[Check]:
    """All checks; those that need the store are left out if it does not answer."""
    try:
        settings = running_store(settings)
        return [*await server_checks(settings), await _broker(settings), *await _fleet(settings), names_check()]
    except BackendError as error:
        says = "cannot be used" if isinstance(error, StoreUnsupported) else "does not answer"
        return [Check("server", Verdict.BROKEN, says, str(error)), import_check(None, settings), names_check()]


async def _broker(settings: Settings) -> Check:
    app = FleetApp("sessionfleet-doctor", settings, set_as_current=False)

    def connect() -> None:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=settings.connect_timeout)

    try:
        await asyncio.get_running_loop().run_in_executor(None, connect)
    except Exception as error:  # noqa: BLE001 - each transport has its own errors
        advice = "check SESSIONFLEET_BROKER_URL; until it answers, workers find turns by themselves, a little later"
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
        import_check(seen, settings),
    ]


def _workers(seen: Activity) -> Check:
    if not seen.workers:
        says = f"none running, but {seen.open_sessions} sessions have open or scheduled turns"
        advice = "start a fleet with `sessionfleet up`, or a worker with `sessionfleet worker`"
        return Check("workers", Verdict.BROKEN, says, advice)
    queues = sorted({queue for worker in seen.workers for queue in worker.queues})
    latest = max(seen.last_seen.get(worker.id, 0.0) for worker in seen.workers)
    says = f"{len(seen.workers)} running, queues {', '.join(queues)}, last seen {ago(latest)} ago"
    if "turns" not in queues:
        return Check("workers", Verdict.WARNING, says, "no worker serves `turns`, the default queue of sessions")
    return Check("workers", Verdict.OK, says)


def _model(seen: Activity, settings: Settings) -> Check:
    models = sorted({worker.default_model for worker in seen.workers}) or [settings.model or "offline"]
    says = f"default model {', '.join(models)}"
    if len(models) > 1:
        return Check(
            "model", Verdict.WARNING, says, "the workers differ: set the same SESSIONFLEET_MODEL for all of them"
        )
    if models == ["offline"]:
        advice = "no language model: set SESSIONFLEET_MODEL (openai:…) and the provider's key for the workers"
        return Check("model", Verdict.WARNING, says, advice)
    key = PROVIDER_KEYS.get(models[0].partition(":")[0])
    if key is None or os.environ.get(key) or (key == "OPENAI_API_KEY" and os.environ.get("OPENAI_BASE_URL")):
        return Check("model", Verdict.OK, says)
    return Check("model", Verdict.WARNING, f"{says}, {key} is not set here", "the workers need it in their environment")
