"""Delivers a turn's webhook: one try, and what its result means for the delivery.

2xx                         delivered
410 Gone                    failed: the receiver wants no more webhooks
an address that is refused  failed
any other answer, or none   tried again after the next pause in the settings; once the time is up, a dead letter
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final

import httpx

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.addresses import AddressPolicy
from sessions.errors import AddressRefused, AddressUnknown, StoreUnavailable, TurnNotFound, WebhookFailed
from sessions.protocol.turn import TurnError, TurnRequest, TurnStatus
from sessions.protocol.webhook_requests import DeliverAsk, DeliverWebhook
from sessions.protocol.webhook_signature import signed_headers, tenant_secrets
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.leases import Ending
from sessions.store.turns import TurnRecord, TurnStore
from workers.lease.held_turn import HeldTurn
from workers.lease.outcomes import Outcome, Postpone, Redeliver, failed
from workers.outbound import AGENT, ONE_USE, pinned_response

_log = get_logger(__name__)
_GONE: Final = 410
_JITTER: Final = 0.2
_CROWDED: Final = 1.0
_SEVERAL: Final = 4


class NotDelivered(Exception):
    """This try failed; a later one may succeed. `retry_after`: seconds until then, as the receiver asked."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class WebhookDelivery:
    """Delivers webhooks. One per worker process; its coroutines run on the process's loop."""

    def __init__(self, settings: Settings, turns: TurnStore) -> None:
        self._settings = settings
        self._turns = turns
        self._policy = AddressPolicy(
            settings.webhook_urls == "any", frozenset(host.lower() for host in settings.allowed_hosts)
        )
        self._under_way: Counter[str] = Counter()  # by tenant
        # Slow receivers must not use up the slots that turns need.
        self._limit = max(1, settings.concurrency // 4)

    async def deliver(self, held: HeldTurn, request: DeliverWebhook) -> Outcome:
        """Try once; returns the outcome of the delivery's turn."""
        tenant = held.keys.tenant
        if self._crowded(tenant):
            return Postpone(_CROWDED * random.uniform(1, 2))  # noqa: S311 - no secret
        self._under_way[tenant] += 1
        try:
            return await self._try(held, request)
        finally:
            self._under_way[tenant] -= 1
            self._under_way += Counter()  # drops the tenants with none

    def _crowded(self, tenant: str) -> bool:
        """Whether there is no room for another delivery of this tenant.

        The last of several places is kept for a tenant that has none. So other tenants' webhooks are delivered even
        while all receivers of one tenant hang until their timeout.
        """
        free = self._limit - self._under_way.total()
        return free <= 0 or (free == 1 and self._limit >= _SEVERAL and tenant in self._under_way)

    async def _try(self, held: HeldTurn, request: DeliverWebhook) -> Outcome:
        try:
            status = await self._send(held, request)
        except (WebhookFailed, AddressRefused) as error:
            _log.warning("webhook_failed", turn=request.turn, error=str(error))
            return failed(WebhookFailed(str(error)))
        except NotDelivered as error:
            return self._try_later(held, request, error)
        except StoreUnavailable as error:
            # Not `Retry`: a turn has few retries, and the tries that receivers refused would count among them.
            return self._try_later(held, request, NotDelivered(f"the turn cannot be read now: {error}"))
        tries = held.turn.retries + 1
        _log.info("webhook_delivered", turn=request.turn, status=status, tries=tries)
        result = json.dumps({"text": "", "output": {"status": status, "tries": tries}}).encode()
        return Ending(TurnStatus.SUCCEEDED, result=result)

    def _try_later(self, held: HeldTurn, request: DeliverWebhook, error: NotDelivered) -> Outcome:
        """Another try after a pause, at the latest when the time is up. If it is up already, a dead letter."""
        pauses, tried = self._settings.webhook_pauses, held.turn.retries
        left = self._settings.webhook_period - _age(held)
        if left <= 0:
            message = f"{error}; tried {tried + 1} times in {self._settings.webhook_period:g} s, without success"
            _log.error("webhook_dead", turn=request.turn, error=message)
            stored = TurnError(type=WebhookFailed.__name__, message=message)
            return Ending(TurnStatus.DEAD_LETTERED, error=stored.model_dump_json().encode())
        spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
        pause = min(left, max(pauses[min(tried, len(pauses) - 1)] * spread, error.retry_after))
        _log.warning("webhook_not_delivered", turn=request.turn, error=str(error), pause=pause, tried=tried + 1)
        return Redeliver(pause, str(error))

    async def _send(self, held: HeldTurn, request: DeliverWebhook) -> int:
        """Send the webhook; returns the receiver's status code, a 2xx.

        Raises:
            WebhookFailed, AddressRefused: it can never be delivered.
            NotDelivered, StoreUnavailable: it cannot be delivered now.
            LeaseLost: another worker may have sent it.
        """
        tenant = held.keys.tenant
        secrets = tenant_secrets(self._settings, tenant)
        if not secrets or self._settings.webhook_urls == "off":
            raise NotDelivered("this worker sends no webhooks: see SESSIONFLEET_WEBHOOK_SECRETS and ..._WEBHOOK_URLS")
        url, body = await self._message(tenant, request)
        headers = signed_headers(secrets, request.message_id, body)
        held.check_held()
        status, retry_after = await self._post(url, headers, body)
        if 200 <= status < 300:
            return status
        if status == _GONE:
            raise WebhookFailed(f"the receiver at {_origin(url)!r} answered 410: it wants no more webhooks")
        raise NotDelivered(f"the receiver at {_origin(url)!r} answered {status}", retry_after)

    async def _message(self, tenant: str, request: DeliverWebhook) -> tuple[httpx.URL, bytes]:
        """The URL and the body. The body is the same at each try: a turn that has ended does not change."""
        session_id, part = split_turn_id(request.turn)
        keys = SessionKeys.from_id(tenant, session_id, self._settings.partitions)
        try:
            record, turn_request = await self._turns.read(keys, part), await self._turns.request(keys, part)
            url = await self._turns.webhook(keys, part)
        except TurnNotFound as error:
            raise WebhookFailed("the turn has expired or was deleted") from error
        if url is None:
            raise WebhookFailed("the turn has no webhook URL")
        home = keys.home if keys.is_lane else keys
        payload = _payload(request, home.session_id, record, turn_request)
        try:
            return httpx.URL(url), json.dumps(payload).encode()
        except httpx.InvalidURL as error:
            raise WebhookFailed("the turn's webhook= is not a valid URL") from error

    async def _post(self, url: httpx.URL, headers: dict[str, str], body: bytes) -> tuple[int, float]:
        """The status code, and the pause that the receiver asked for. Reads no body and follows no redirect."""
        patience = self._settings.webhook_timeout
        headers = {**headers, "Content-Type": "application/json", "User-Agent": f"{AGENT}-webhooks"}
        try:
            # A client per request: a shared one would send one receiver's cookies to another one at the same address.
            async with (
                asyncio.timeout(patience),
                httpx.AsyncClient(timeout=patience, trust_env=False, verify=self._tls, limits=ONE_USE) as client,
                pinned_response(client, url, self._policy, method="POST", headers=headers, content=body) as response,
            ):
                return response.status_code, _seconds(response.headers.get("retry-after", ""))
        except AddressUnknown as error:
            raise NotDelivered(str(error)) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise NotDelivered(f"the receiver at {_origin(url)!r} did not answer within {patience:g} s") from error
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            # A connection error's text (a bad certificate, for example) quotes nothing of the request; others may.
            why = str(error) if isinstance(error, httpx.ConnectError) else ""
            message = f"the receiver at {_origin(url)!r} cannot be reached ({why or type(error).__name__})"
            raise NotDelivered(message) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # takes 20 ms; respects SSL_CERT_FILE


def _payload(request: DeliverWebhook, session_id: str, record: TurnRecord, turn_request: TurnRequest) -> dict[str, Any]:
    data: dict[str, Any] = {
        "session_id": session_id,
        "turn_id": request.turn,
        "user_id": request.user,
        "agent": turn_request.agent if turn_request.operation is None else turn_request.operation.kind,
        "metadata": record.metadata,
    }
    if isinstance(request, DeliverAsk):
        status, at_ms = str(TurnStatus.WAITING), request.since_ms
        data["calls"] = [call.model_dump() for call in request.calls]
    else:
        status, at_ms = str(record.status), record.ended_ms or record.accepted_ms
        data["result"] = json.loads(record.result)["output"] if record.result else None
        data["error"] = None if record.error is None else record.error.model_dump()
        data["usage"] = None if record.usage is None else record.usage.model_dump()
    time = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": f"turn.{status}", "timestamp": time, "data": {**data, "status": status}}


def _age(held: HeldTurn) -> float:
    """Seconds since the delivery was accepted: by the store's clock until this attempt started, then by ours."""
    return (held.turn.now_ms - held.turn.accepted_ms) / 1000 + time.monotonic() - held.attempt_started


def _origin(url: httpx.URL) -> str:
    """The part of a URL that errors and logs may show: paths and queries of webhooks are often secret."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _seconds(retry_after: str) -> float:
    """The header `Retry-After`, a number of seconds or a date, as seconds from now; 0 if it is neither."""
    if retry_after.isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
