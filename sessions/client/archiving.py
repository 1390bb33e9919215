"""Turns on their way to the archive, each a turn of the lane `archive`; and what is to be erased there.

An archived turn has the part of the original one, so it is accepted once, however often it is submitted. What is to be
erased is submitted to a lane outside the session, because it must outlive it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from broker_config.settings import Settings
from sessions.protocol.archive_requests import ArchiveTurn, EraseArchived
from sessions.protocol.lanes import ARCHIVE, LANE_TTL, SEARCH_TTL
from sessions.protocol.operation import OperationRequest
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import SessionKeys, new_turn_part, wide_name
from sessions.store.scripts import translated
from sessions.store.submission import Submission
from sessions.store.turns import TurnStore
from sessions.store.wake_up import Publish

_FOREVER: Final = 10 * 365 * 86400.0
_MOST_OPEN: Final = 10**9
_MOST_ATTEMPTS: Final = 10**6


class Archiving:
    """Submits what is to be archived, for workers; and what is to be erased, for clients that delete."""

    def __init__(self, settings: Settings, turns: TurnStore, client: Any, publish: Publish) -> None:
        self._settings = settings
        self._turns = turns
        self._client = client
        self._publish = publish

    async def accept(self, keys: SessionKeys, part: str, packed: str) -> None:
        """Submit a committed turn. Submitting it again has no effect.

        Raises:
            StoreFull, StoreUnavailable.
        """
        queue = await self._queue(keys)
        await self._submit(keys.lane(ARCHIVE), part, ArchiveTurn(session_id=keys.session_id, packed=packed), queue)

    async def was_archived(self, keys: SessionKeys) -> str | None:
        """The session's queue, if some of its turns were archived; otherwise None."""
        with translated():
            archived, queue = await self._client.hmget(keys.meta, "archived", "queue")
        return None if archived is None else (queue or b"turns").decode()

    async def erase(self, keys: SessionKeys, queue: str, turn: str | None = None) -> None:
        """Submit that a session's turns, or one of them, are to be erased from the archive."""
        name = hashlib.sha256(keys.session_id.encode()).hexdigest()[:32]  # the session's id must not outlive it
        lane = SessionKeys.wide(keys.tenant, wide_name("archive", name), self._settings.partitions).lane(ARCHIVE)
        await self._submit(lane, new_turn_part(), EraseArchived(session_id=keys.session_id, turn=turn), queue)

    async def _queue(self, keys: SessionKeys) -> str:
        with translated():
            queue = await self._client.hget(keys.meta, "queue")
        return queue.decode() if queue else "turns"

    async def _submit(self, lane: SessionKeys, part: str, request: OperationRequest, queue: str) -> None:
        submission = Submission(
            TurnRequest(message="", agent="", operation=request.spec()),
            part=part,
            timeout=_FOREVER,  # until the archive can be reached again
            queue=queue,
            session_ttl=LANE_TTL,
            result_ttl=SEARCH_TTL,
            mailbox_limit=_MOST_OPEN,
            max_attempts=_MOST_ATTEMPTS,  # workers that are killed are no reason to lose a record
        )
        accepted = await self._turns.accept(lane, submission)
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)
