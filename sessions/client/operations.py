"""Operations: searches and documents on their way in, run by workers of the retrieval role.

An operation is a turn of a lane, in the queue `retrieval`: it has a mailbox and a lease of its own beside the
session's, and all that turns have: order, deadline, events, journal, cancel, rescue. So it never waits for a turn of
the session, and no turn waits for it.
"""

from __future__ import annotations

import time
from typing import Any

from broker_config.settings import RETRIEVAL
from sessions.client.result import result_of
from sessions.errors import ResultTimeout
from sessions.protocol.lanes import LANE_TTL, SEARCH_TTL
from sessions.protocol.operation import OperationRequest
from sessions.protocol.turn import Policy, TurnRequest
from sessions.store.events import Bell, wait_changed
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord, TurnStore
from sessions.store.wake_up import Publish


class Operations:
    """Has operations accepted, and waits for them. Used by clients, and by workers for their turns."""

    def __init__(self, turns: TurnStore, bell: Bell, publish: Publish) -> None:
        self._turns = turns
        self._bell = bell
        self._publish = publish

    async def submit(
        self,
        lane: SessionKeys,
        request: OperationRequest,
        *,
        timeout: float,
        part: str | None = None,
        idempotency_key: str | None = None,
        watcher: str = "",
        passing: bool = False,
        policy: Policy = Policy.ENQUEUE,
        webhook: str = "",
    ) -> str:
        """Have an operation accepted; returns its id within the lane (the first one's for a repeated key).

        Args:
            timeout: seconds to its deadline.
            part: its id, where something was stored under it before.
            watcher: nonce of the bell that rings at its end.
            passing: neither the lane nor the result is needed for long.
            policy: `ROLLBACK` ends what runs and waits in the lane first.
            webhook: where its end is to be told.

        Raises:
            SessionBusy, IdempotencyConflict, StoreFull, StoreUnavailable: nothing was accepted.
        """
        submission = Submission(
            TurnRequest(message="", agent="", operation=request.spec()),
            part=part or new_turn_part(),
            timeout=timeout,
            queue=RETRIEVAL,
            idempotency_key=idempotency_key,
            session_ttl=LANE_TTL if passing else 0.0,  # what clears a lane up may have let it expire
            policy=policy,
            result_ttl=SEARCH_TTL if passing else None,
            webhook=webhook,
        )
        accepted = await self._turns.accept(lane, submission, watcher=watcher)
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)
        return accepted.part

    async def search(
        self, lane: SessionKeys, request: OperationRequest, timeout: float, *, part: str | None = None
    ) -> TurnRecord:
        """Run a search and wait for its end.

        Raises:
            ResultTimeout: it did not end in time. SessionBusy, StoreFull, StoreUnavailable: it was not accepted.
        """
        await self._bell.hear(lane.partition)
        part, until = part or new_turn_part(), time.monotonic() + timeout
        with self._bell.waiting(part) as changed:
            await self.submit(lane, request, timeout=timeout, part=part, watcher=self._bell.nonce, passing=True)
            while True:
                await wait_changed(changed)
                record = await self._turns.read(lane, part)
                if record.status.final:
                    return record
                if time.monotonic() > until:
                    raise ResultTimeout(f"search {lane.public_id(part)!r} did not end within {timeout:g} s")


def output_of(record: TurnRecord, lane: SessionKeys) -> Any:
    """What an operation came to, or the exception that says why it came to nothing."""
    return result_of(record, lane.public_id(record.part), None)
