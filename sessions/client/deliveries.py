"""Deliveries of webhooks: each is a turn of the lane `webhooks`, which tells the end of another turn.

The delivery has the part of the turn that it tells of, so that it is accepted once, however often it is asked for. One
that a person asks for once more, after it came to nothing, has a part made of that one's.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any, Final

from broker_config.settings import Settings
from sessions.errors import BadRequest, CorruptRecord, TurnNotFound
from sessions.protocol.deliver import Deliver
from sessions.protocol.lanes import LANE_TTL, WEBHOOKS
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.dead_letters import forget_dead
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord, TurnStore
from sessions.store.wake_up import Publish

_MOST_OPEN: Final = 10_000


class Deliveries:
    """Has deliveries accepted: by the worker that finds the end of a turn untold, and by people."""

    def __init__(self, settings: Settings, turns: TurnStore, client: Any, publish: Publish) -> None:
        self._settings = settings
        self._turns = turns
        self._client = client
        self._publish = publish

    async def accept(self, keys: SessionKeys, part: str, user: str | None) -> None:
        """Have it accepted that the end of this turn is told; again, it is the same delivery.

        Raises:
            SessionBusy: too many are on their way from this session. StoreFull, StoreUnavailable.
        """
        await self._submit(delivery_lane(keys), part, Deliver(turn=keys.public_id(part), user=user))

    async def again(self, lane: SessionKeys, part: str) -> tuple[str, TurnStatus]:
        """Try a delivery once more that came to nothing; its id now, and the status it had until now.

        Args:
            lane: of the delivery, or the session of the turn that it tells of, whose part it has.

        Raises:
            BadRequest: there is none to be tried. TurnNotFound: it expired. SessionBusy, BackendError.
        """
        if not lane.session_id.endswith(f"~{WEBHOOKS}"):
            if await self._turns.webhook(lane, part) is None:
                turn = lane.public_id(part)
                raise BadRequest(f"turn {turn!r} has no webhook, and a turn is not run twice: send its message anew")
            lane = delivery_lane(lane)
        record = await _newest(self._turns, lane, part)
        if record.status.final and record.status is not TurnStatus.SUCCEEDED:
            again = _next_part(record.part)
            await self._submit(lane, again, await self._request(lane, record.part))
            await forget_dead(self._client, lane, record.part)
            return lane.public_id(again), record.status
        return lane.public_id(record.part), record.status

    async def _request(self, lane: SessionKeys, part: str) -> Deliver:
        asked = await self._turns.request(lane, part)
        if asked.operation is None:
            raise CorruptRecord(f"turn {lane.public_id(part)!r} is in a lane for webhooks, and delivers none")
        return Deliver.model_validate(asked.operation.body)

    async def _submit(self, lane: SessionKeys, part: str, request: Deliver) -> None:
        with translated():
            queue = await self._client.hget(lane.home.meta, "queue")
        submission = Submission(
            TurnRequest(message="", agent="", operation=request.spec()),
            part=part,
            timeout=self._settings.result_ttl,  # of what there is to tell: afterwards there is nothing
            queue=queue.decode() if queue else "turns",
            session_ttl=LANE_TTL,
            mailbox_limit=_MOST_OPEN,
        )
        accepted = await self._turns.accept(lane, submission)
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)


def delivery_lane(keys: SessionKeys) -> SessionKeys:
    """The lane that tells the ends of a session's turns, and of those of its other lanes."""
    return (keys.home if keys.is_lane else keys).lane(WEBHOOKS)


async def newest_delivery(turns: TurnStore, keys: SessionKeys, part: str) -> tuple[str, TurnRecord] | None:
    """What tells of this turn, id and record, the last one where it was tried once more; None: nothing does yet."""
    lane = delivery_lane(keys)
    try:
        record = await _newest(turns, lane, part)
    except TurnNotFound:
        return None
    return lane.public_id(record.part), record


async def _newest(turns: TurnStore, lane: SessionKeys, part: str) -> TurnRecord:
    """The delivery that a person asked for last, of those that began with this one.

    Raises:
        TurnNotFound: there is none.
    """
    record = await turns.read(lane, part)
    with contextlib.suppress(TurnNotFound):
        while True:
            record = await turns.read(lane, _next_part(record.part))
    return record


def _next_part(part: str) -> str:
    return hashlib.sha256(f"again {part}".encode()).hexdigest()[:32]
