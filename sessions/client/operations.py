"""Operations: searches, and documents to add or remove, run by workers of the retrieval role.

An operation is a turn in a lane, on the queue `retrieval`. It has everything that turns have (order, deadline, events,
journal, cancel, rescue), but the lane has its own mailbox and lease: an operation never waits for a turn of the
session, and no turn waits for it.

A search needs none of this. It is answered directly if that is possible (`sessions.client.searches`), and is an
operation otherwise.
"""

from __future__ import annotations

import time
from typing import Any

from broker_config.settings import RETRIEVAL
from sessions.client.result import result_of
from sessions.client.searches import DirectSearches
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
    """Submits operations and waits for them. Used by clients, and by workers for their turns.

    Args:
        direct: sends searches to other processes; None: each search is an operation.
    """

    def __init__(self, turns: TurnStore, bell: Bell, publish: Publish, direct: DirectSearches | None = None) -> None:
        self._turns = turns
        self._bell = bell
        self._publish = publish
        self._direct = direct

    async def submit(
        self,
        lane: SessionKeys,
        request: OperationRequest,
        *,
        timeout: float,
        part: str | None = None,
        idempotency_key: str | None = None,
        watcher: str = "",
        short_lived: bool = False,
        result_ttl: float | None = None,
        policy: Policy = Policy.ENQUEUE,
        webhook: str = "",
    ) -> str:
        """Submit an operation; returns its id within the lane (for a repeated idempotency key, the first one's).

        Args:
            timeout: seconds to its deadline.
            part: its id, if something was already stored under it.
            watcher: nonce of the bell that rings at its end.
            short_lived: neither the lane nor the result is needed for long.
            result_ttl: seconds that its record is kept; None for SESSIONFLEET_RESULT_TTL, if it is not short-lived.
            policy: `ROLLBACK` cancels everything that is running or waiting in the lane.
            webhook: a URL to notify when it has ended.

        Raises:
            SessionBusy, IdempotencyConflict, StoreFull, StoreUnavailable: nothing was accepted.
        """
        submission = Submission(
            TurnRequest(message="", agent="", operation=request.spec()),
            part=part or new_turn_part(),
            timeout=timeout,
            queue=RETRIEVAL,
            idempotency_key=idempotency_key,
            session_ttl=LANE_TTL if short_lived else 0.0,  # 0 also removes an expiry that a cleanup of the lane has set
            policy=policy,
            result_ttl=SEARCH_TTL if short_lived else result_ttl,
            webhook=webhook,
        )
        accepted = await self._turns.accept(lane, submission, watcher=watcher)
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)
        return accepted.part

    async def search(
        self, lane: SessionKeys, request: OperationRequest, timeout: float, *, part: str | None = None
    ) -> Any:
        """Run a search and return its result: directly if a process answers it, otherwise in the lane.

        Args:
            part: the id of its turn, if it becomes one.

        Raises:
            ResultTimeout: it did not end in time. SessionBusy, StoreFull, StoreUnavailable: it was not accepted.
            TurnFailed: it failed.
        """
        until = time.monotonic() + timeout
        if self._direct is not None and (found := await self._direct.result(lane, request, timeout)) is not None:
            return found
        left = max(0.001, until - time.monotonic())
        return operation_result(await self.run(lane, request, left, part=part), lane)

    async def run(
        self, lane: SessionKeys, request: OperationRequest, timeout: float, *, part: str | None = None
    ) -> TurnRecord:
        """Run a short operation in a lane and wait for its end.

        Raises:
            ResultTimeout: it did not end in time. SessionBusy, StoreFull, StoreUnavailable: it was not accepted.
        """
        await self._bell.subscribe(lane.partition)
        part, until = part or new_turn_part(), time.monotonic() + timeout
        with self._bell.waiting(part) as changed:
            await self.submit(lane, request, timeout=timeout, part=part, watcher=self._bell.nonce, short_lived=True)
            while True:
                await wait_changed(changed)
                record = await self._turns.read(lane, part)
                if record.status.final:
                    return record
                if time.monotonic() > until:
                    public_id = lane.public_id(part)
                    raise ResultTimeout(f"operation {public_id!r} did not end within {timeout:g} s", turn_id=public_id)


def operation_result(record: TurnRecord, lane: SessionKeys) -> Any:
    """The result of an operation, or the exception that says why it has none."""
    return result_of(record, lane.public_id(record.part), None)
