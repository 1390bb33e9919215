"""Tells the end of a turn to its webhook: one try, and what becomes of the delivery by it.

2xx                          delivered
410 Gone                     the receiver wants no more: failed
an address that is refused   failed
all else, or no answer       again later, by the pauses of the settings; when the time is up, a dead letter
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
from sessions.protocol.deliver import Deliver
from sessions.protocol.operation import OperationSpec
from sessions.protocol.turn import TurnError, TurnRequest, TurnStatus
from sessions.protocol.webhook_signature import signed_headers, tenant_secrets
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.leases import Ending
from sessions.store.turns import TurnRecord, TurnStore
from workers.lease.held_turn import HeldTurn
from workers.lease.outcomes import Crowded, Later, Outcome, failed
from workers.outbound import AGENT, ONE_USE, pinned_answer

_log = get_logger(__name__)
_GONE: Final = 410
_JITTER: Final = 0.2
_CROWDED: Final = 1.0
_SEVERAL: Final = 4


class NotDelivered(Exception):
    """This try came to nothing; another one may not. `retry_after`: the receiver's wish, in seconds."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class WebhookDelivery:
    """One per worker process; its coroutines run on the process's loop."""

    def __init__(self, settings: Settings, turns: TurnStore) -> None:
        self._settings = settings
        self._turns = turns
        self._policy = AddressPolicy(
            settings.webhook_urls == "any", frozenset(host.lower() for host in settings.allowed_hosts)
        )
        self._under_way: Counter[str] = Counter()  # by tenant
        # Receivers that take their time must not take the slots that turns need.
        self._most = max(1, settings.concurrency // 4)

    async def deliver(self, held: HeldTurn, spec: OperationSpec) -> Outcome:
        """Try once; what becomes of the delivery."""
        tenant = held.keys.tenant
        if self._crowded(tenant):
            return Crowded(_CROWDED * random.uniform(1, 2))  # noqa: S311 - no secret
        self._under_way[tenant] += 1
        try:
            return await self._tried(held, Deliver.model_validate(spec.body))
        finally:
            self._under_way[tenant] -= 1
            self._under_way += Counter()  # forgets those that have none

    def _crowded(self, tenant: str) -> bool:
        """Whether there is no room. The last of several places is for a tenant that has none.

        Receivers of one tenant may all hang for as long as they are let: others are told nevertheless.
        """
        free = self._most - self._under_way.total()
        return free <= 0 or (free == 1 and self._most >= _SEVERAL and tenant in self._under_way)

    async def _tried(self, held: HeldTurn, request: Deliver) -> Outcome:
        try:
            status = await self._told(held, request)
        except (WebhookFailed, AddressRefused) as error:
            _log.warning("webhook_failed", turn=request.turn, error=str(error))
            return failed(WebhookFailed(str(error)))
        except NotDelivered as error:
            return self._later(held, request, error)
        except StoreUnavailable as error:
            # No turn's retry: those are few, and the tries that receivers refused are counted among them.
            return self._later(held, request, NotDelivered(f"what there is to tell cannot be read now: {error}"))
        tries = held.turn.retries + 1
        _log.info("webhook_delivered", turn=request.turn, status=status, tries=tries)
        result = json.dumps({"text": "", "output": {"status": status, "tries": tries}}).encode()
        return Ending(TurnStatus.SUCCEEDED, result=result)

    def _later(self, held: HeldTurn, request: Deliver, error: NotDelivered) -> Outcome:
        """Another try, at the latest when the time is up; or none, when it is up already."""
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
        return Later(pause, str(error))

    async def _told(self, held: HeldTurn, request: Deliver) -> int:
        """Send it; the receiver's status.

        Raises:
            WebhookFailed, AddressRefused: it never will be. NotDelivered, StoreUnavailable: not now.
            LeaseLost: another worker may have sent it.
        """
        tenant = held.keys.tenant
        secrets = tenant_secrets(self._settings, tenant)
        if not secrets or self._settings.webhook_urls == "off":
            raise NotDelivered("this worker sends no webhooks: see SESSIONFLEET_WEBHOOK_SECRETS and ..._WEBHOOK_URLS")
        url, body = await self._message(tenant, request)
        headers = signed_headers(secrets, request.message_id, body)
        held.check_held()
        status, retry_after = await self._posted(url, headers, body)
        if 200 <= status < 300:
            return status
        if status == _GONE:
            raise WebhookFailed(f"the receiver at {_origin(url)!r} answered 410: it wants no more webhooks")
        raise NotDelivered(f"the receiver at {_origin(url)!r} answered {status}", retry_after)

    async def _message(self, tenant: str, request: Deliver) -> tuple[httpx.URL, bytes]:
        """Where it goes, and what it says: the same bytes at each try, for a turn that ended does not change."""
        session_id, part = split_turn_id(request.turn)
        keys = SessionKeys.from_id(tenant, session_id, self._settings.partitions)
        try:
            record, asked = await self._turns.read(keys, part), await self._turns.request(keys, part)
            url = await self._turns.webhook(keys, part)
        except TurnNotFound as error:
            raise WebhookFailed("there is nothing to tell any more: the turn expired, or was deleted") from error
        if url is None:
            raise WebhookFailed("the turn does not say where its end is to be told")
        home = keys.home if keys.is_lane else keys
        payload = _payload(request, home.session_id, record, asked)
        try:
            return httpx.URL(url), json.dumps(payload).encode()
        except httpx.InvalidURL as error:
            raise WebhookFailed("what the turn gives as webhook= is no URL") from error

    async def _posted(self, url: httpx.URL, headers: dict[str, str], body: bytes) -> tuple[int, float]:
        """Status, and the pause that the receiver asks for. Its body is not read, and no redirect is followed."""
        patience = self._settings.webhook_timeout
        headers = {**headers, "Content-Type": "application/json", "User-Agent": f"{AGENT}-webhooks"}
        try:
            # A client for each: one that is shared would show one receiver the cookies of another at its address.
            async with (
                asyncio.timeout(patience),
                httpx.AsyncClient(timeout=patience, trust_env=False, verify=self._tls, limits=ONE_USE) as client,
                pinned_answer(client, url, self._policy, method="POST", headers=headers, content=body) as response,
            ):
                return response.status_code, _seconds(response.headers.get("retry-after", ""))
        except AddressUnknown as error:
            raise NotDelivered(str(error)) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise NotDelivered(f"the receiver at {_origin(url)!r} did not answer within {patience:g} s") from error
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            # What a connection failed of, a certificate say, has nothing of the request in it; other errors may.
            why = str(error) if isinstance(error, httpx.ConnectError) else ""
            said = f"the receiver at {_origin(url)!r} cannot be reached ({why or type(error).__name__})"
            raise NotDelivered(said) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # 20 ms, once; SSL_CERT_FILE names an authority of one's own


def _payload(request: Deliver, session_id: str, record: TurnRecord, asked: TurnRequest) -> dict[str, Any]:
    ended = datetime.fromtimestamp((record.ended_ms or record.accepted_ms) / 1000, UTC)
    return {
        "type": f"turn.{record.status}",
        "timestamp": ended.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {
            "session_id": session_id,
            "turn_id": request.turn,
            "status": str(record.status),
            "user_id": request.user,
            "agent": asked.agent if asked.operation is None else asked.operation.kind,
            "result": json.loads(record.result)["output"] if record.result else None,
            "error": None if record.error is None else record.error.model_dump(),
            "usage": None if record.usage is None else record.usage.model_dump(),
        },
    }


def _age(held: HeldTurn) -> float:
    """Seconds since the delivery was accepted, by the store's clock and since its last word by ours."""
    return (held.turn.now_ms - held.turn.accepted_ms) / 1000 + time.monotonic() - held.attempt_started


def _origin(url: httpx.URL) -> str:
    """What of a URL errors and logs may hold: paths and queries of webhooks often are secrets."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _seconds(retry_after: str) -> float:
    """The header `Retry-After`, which is a number of seconds or a date; 0 where it is none of both."""
    if retry_after.isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
