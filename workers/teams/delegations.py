"""The agents that a turn asks: each in a turn of its own, as a team's tasks are.

The asking turn waits meanwhile and holds no slot. It is looked at again when such a turn ends, for its worker says
so, and after a pause, should that get lost. The journal says which turns there are before they are accepted, so that a
cancel reaches them whatever crashes.
"""

from __future__ import annotations

import asyncio
import json
import time
from hashlib import blake2b
from typing import Final

from broker_config.settings import Settings
from sessions.errors import SessionBusy, SessionOwnerError, StoreFull, TurnNotFound
from sessions.protocol.agent import DELEGATION_DEPTH, AgentConfig, Delegate
from sessions.protocol.team import MemberSpec
from sessions.protocol.turn import TurnRequest, TurnStatus, Usage
from sessions.store.turns import TurnRecord
from workers.engine.ports import DelegateAnswer, DelegationRefused
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal, persist
from workers.teams.tasks import Seat, TaskTurns

TASKS_MARK: Final = "team"  # the journal field by which the scripts know that a turn has others working for it
_LEAST_SECONDS: Final = 1.0
_SHORTEST_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 10.0
_PAUSE_SHARE: Final = 1 / 8


class Delegations:
    """The `Delegates` of one turn, written under its lease."""

    def __init__(
        self, settings: Settings, turns: TaskTurns, held: HeldTurn, request: TurnRequest, journal: LeasedJournal
    ) -> None:
        self._settings = settings
        self._turns = turns
        self._held = held
        self._depth = request.depth + 1
        self._journal = journal
        self._marking = asyncio.Lock()

    async def start(self, key: str, delegate: Delegate, message: str) -> str:
        """Have the turn of another agent accepted; for the same key it is the same turn. Returns its id.

        Raises:
            DelegationRefused: the model is told why. LeaseLost: as the journal raised it.
        """
        name, limit = delegate.config.name, self._settings.message_limit_bytes
        if self._depth > DELEGATION_DEPTH:
            raise DelegationRefused(
                f"The agent {name!r} was not asked: {DELEGATION_DEPTH} agents have asked one another already."
            )
        if len(message.encode()) > limit:
            raise DelegationRefused(f"The agent {name!r} was not asked: the message is longer than {limit} bytes.")
        lane = blake2b(key.encode(), digest_size=12).hexdigest()
        await self._mark(lane)
        queue = delegate.queue or await persist(self._held, lambda: self._turns.queue(self._held.keys))
        member = MemberSpec(config=delegate.config, by_name=delegate.by_name, session=delegate.session, queue=queue)
        seat = self._seat(lane, member)
        try:
            return await persist(self._held, lambda: self._turns.submit(seat, message, self._seconds_left()))
        except (SessionBusy, SessionOwnerError, StoreFull) as error:
            raise DelegationRefused(f"The agent {name!r} was not asked: {error}") from error

    async def poll_answer(self, turn_id: str) -> DelegateAnswer | None:
        """What came of a turn; None while it goes on."""
        record = await persist(self._held, lambda: self._turns.ended(turn_id, self._held.keys.tenant))
        if record is None:
            return None
        if isinstance(record, TurnNotFound):
            return DelegateAnswer(False, reason=f"The agent did not answer: {record}")
        return _said(record)

    async def cancel(self) -> None:
        """Cancel the turns that have not ended.

        Raises:
            LeaseLost: the lease ended before all were told.
        """
        for lane in self._lanes():
            seat = self._seat(lane, MemberSpec(config=AgentConfig()))
            await persist(self._held, lambda seat=seat: self._turns.cancel(seat, None))  # type: ignore[misc]

    def pause(self) -> float:
        """Seconds until the turn is looked at again though nobody told it to; the longer, the older it is."""
        begun = self._held.turn
        age = (begun.now_ms - begun.first_started_ms) / 1000
        return min(max(_SHORTEST_PAUSE, age * _PAUSE_SHARE), _LONGEST_PAUSE, self._seconds_left())

    async def _mark(self, lane: str) -> None:
        async with self._marking:
            if lane not in (lanes := self._lanes()):
                await self._journal.record(TASKS_MARK, json.dumps([*lanes, lane]).encode())

    def _lanes(self) -> list[str]:
        marked = self._journal.lookup(TASKS_MARK)
        return list(json.loads(marked)) if marked else []

    def _seconds_left(self) -> float:
        begun = self._held.turn
        left = (begun.deadline_ms - begun.now_ms) / 1000 - (time.monotonic() - self._held.attempt_started)
        return max(_LEAST_SECONDS, left)

    def _seat(self, lane: str, member: MemberSpec) -> Seat:
        return Seat(
            run=self._held.turn_id,
            key=lane,
            tenant=self._held.keys.tenant,
            user_id=self._held.turn.user_id,
            member=member,
            lane=True,
            depth=self._depth,
            kind="ask",
        )


def _said(record: TurnRecord) -> DelegateAnswer:
    usage = record.usage or Usage()
    if record.status is TurnStatus.SUCCEEDED and record.result is not None:
        return DelegateAnswer(True, output=json.loads(record.result)["output"], usage=usage)
    error = record.error
    why = f"{error.type}: {error.message}" if error is not None else f"its turn ended as {record.status}"
    return DelegateAnswer(False, reason=f"The agent did not answer. {why}", usage=usage)
