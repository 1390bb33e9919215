"""Deliveries of webhooks: each is a turn in the lane `webhooks`, which tells a URL that another turn ended, or waits.

The delivery of an end has the part of the turn that it reports, so it is accepted once, however often it is submitted.
The part of any other delivery is derived: from the turn and the time at which it began to wait, or, when a person
retries a failed delivery, from the failed one's.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict
from typing import Any, Final

from broker_config.settings import Settings
from sessions.errors import BadRequest, CorruptRecord, TurnNotFound
from sessions.protocol.lanes import LANE_TTL, WEBHOOKS
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.protocol.webhook_requests import AskedCall, DeliverAsk, DeliverWebhook, webhook_request
from sessions.store.calls import CallStore
from sessions.store.dead_letters import forget_dead
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord, TurnStore
from sessions.store.wake_up import Publish

_MOST_OPEN: Final = 10_000


class Deliveries:
    """Submits deliveries: for workers, when a turn has ended or waits, and for people who retry one."""

    def __init__(self, settings: Settings, turns: TurnStore, calls: CallStore, client: Any, publish: Publish) -> None:
        self._calls = calls
        self._settings = settings
        self._turns = turns
        self._client = client
        self._publish = publish

    async def accept(self, keys: SessionKeys, part: str, user: str | None) -> None:
        """Submit the delivery of a turn's webhook. Submitting it again has no effect.

        Raises:
            SessionBusy: too many deliveries of this session are open. StoreFull, StoreUnavailable.
        """
        await self._submit(delivery_lane(keys), part, DeliverWebhook(turn=keys.public_id(part), user=user))

    async def accept_ask(self, keys: SessionKeys, part: str, since_ms: int) -> None:
        """Submit the delivery that says what a turn waits for, unless it has been answered. Repeating has no effect.

        Raises:
            As `accept`.
        """
        try:
            pending = await self._calls.pending(keys, part)
            user = await self._turns.sender(keys, part) or await self._turns.user(keys, part)
        except TurnNotFound:
            return
        if pending:
            calls = tuple(AskedCall(**asdict(call)) for call in pending)
            request = DeliverAsk(turn=keys.public_id(part), user=user, since_ms=since_ms, calls=calls)
            await self._submit(delivery_lane(keys), _derived_part(f"asks {part} {since_ms}"), request)

    async def retry(self, lane: SessionKeys, part: str) -> tuple[str, TurnStatus]:
        """Retry a delivery that failed; returns the id of the retry, and the status of the delivery before it.

        Args:
            lane: of the delivery, or the session of the turn that it reports, which has the same part.

        Raises:
            BadRequest: the turn has no webhook. TurnNotFound: the delivery expired. SessionBusy, BackendError.
        """
        if not lane.session_id.endswith(f"~{WEBHOOKS}"):
            if await self._turns.webhook(lane, part) is None:
                turn = lane.public_id(part)
                raise BadRequest(f"turn {turn!r} has no webhook, and a turn is not run twice: send its message again")
            lane = delivery_lane(lane)
        record = await _latest(self._turns, lane, part)
        if record.status.final and record.status is not TurnStatus.SUCCEEDED:
            retry = _retry_part(record.part)
            await self._submit(lane, retry, await self._request(lane, record.part))
            await forget_dead(self._client, lane, record.part)
            return lane.public_id(retry), record.status
        return lane.public_id(record.part), record.status

    async def _request(self, lane: SessionKeys, part: str) -> DeliverWebhook:
        request = await self._turns.request(lane, part)
        found = None if request.operation is None else webhook_request(request.operation)
        if found is None:
            raise CorruptRecord(f"turn {lane.public_id(part)!r} is in a lane for webhooks, but delivers none")
        return found

    async def _submit(self, lane: SessionKeys, part: str, request: DeliverWebhook) -> None:
        with translated():
            queue = await self._client.hget(lane.home.meta, "queue")
        submission = Submission(
            TurnRequest(message="", agent="", operation=request.spec()),
            part=part,
            timeout=self._settings.result_ttl,  # the turn's record, which a delivery reads, expires then
            queue=queue.decode() if queue else "turns",
            session_ttl=LANE_TTL,
            mailbox_limit=_MOST_OPEN,
        )
        accepted = await self._turns.accept(lane, submission)
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)


def delivery_lane(keys: SessionKeys) -> SessionKeys:
    """The lane that delivers the webhooks of a session's turns, and of the turns in its other lanes."""
    return (keys.home if keys.is_lane else keys).lane(WEBHOOKS)


async def latest_delivery(turns: TurnStore, keys: SessionKeys, part: str) -> tuple[str, TurnRecord] | None:
    """Id and record of the delivery of a turn's webhook, the latest if it was retried; None if there is none yet."""
    lane = delivery_lane(keys)
    try:
        record = await _latest(turns, lane, part)
    except TurnNotFound:
        return None
    return lane.public_id(record.part), record


async def _latest(turns: TurnStore, lane: SessionKeys, part: str) -> TurnRecord:
    """The last one in a chain of retries that begins with this delivery.

    Raises:
        TurnNotFound: there is none.
    """
    record = await turns.read(lane, part)
    with contextlib.suppress(TurnNotFound):
        while True:
            record = await turns.read(lane, _retry_part(record.part))
    return record


def _retry_part(part: str) -> str:
    return _derived_part(f"again {part}")


def _derived_part(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:32]
