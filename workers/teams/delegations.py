"""The agents that a turn asks. Each answers in a turn of its own, like a team's task.

The asking turn waits and holds no slot. It runs again when such a turn ends, because the worker that ended it
publishes a wake-up, and after a pause in case that wake-up is lost. The journal names the turns before they are
submitted, so that a cancel reaches them even after a crash.
"""

from __future__ import annotations

import asyncio
import json
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
from workers.teams.tasks import TaskSlot, TaskTurns

TASKS_MARK: Final = "team"  # the scripts look for this journal field: the turn has other turns working for it
_LEAST_SECONDS: Final = 1.0
_SHORTEST_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 10.0
_PAUSE_SHARE: Final = 1 / 8


class Delegations:
    """The engine's `Delegates` for one turn, under its lease."""

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
        """Submit another agent's turn; the same key returns the same turn. Returns the turn's id.

        Raises:
            DelegationRefused: it was not submitted; the model gets the reason. LeaseLost: the lease was lost.
        """
        name, limit = delegate.config.name, self._settings.message_limit_bytes
        if self._depth > DELEGATION_DEPTH:
            raise DelegationRefused(
                f"The agent {name!r} was not asked: {DELEGATION_DEPTH} agents have asked one another already."
            )
        if len(message.encode()) > limit:
            raise DelegationRefused(f"The agent {name!r} was not asked: the message is longer than {limit} bytes.")
        slot_key = blake2b(key.encode(), digest_size=12).hexdigest()
        await self._mark(slot_key)
        queue = delegate.queue or await persist(self._held, lambda: self._turns.queue(self._held.keys))
        member = MemberSpec(config=delegate.config, by_name=delegate.by_name, session=delegate.session, queue=queue)
        slot = self._slot(slot_key, member)
        try:
            return await persist(self._held, lambda: self._turns.submit(slot, message, self._seconds_left()))
        except (SessionBusy, SessionOwnerError, StoreFull) as error:
            raise DelegationRefused(f"The agent {name!r} was not asked: {error}") from error

    async def poll_answer(self, turn_id: str) -> DelegateAnswer | None:
        """The result of a turn; None until it has ended."""
        record = await persist(self._held, lambda: self._turns.ended_record(turn_id, self._held.keys.tenant))
        if record is None:
            return None
        if isinstance(record, TurnNotFound):
            return DelegateAnswer(False, reason=f"The agent did not answer: {record}")
        return _answer_of(record)

    async def cancel(self) -> None:
        """Cancel the turns that have not ended.

        Raises:
            LeaseLost: the lease was lost before all of them were cancelled.
        """
        for slot_key in self._slot_keys():
            slot = self._slot(slot_key, MemberSpec(config=AgentConfig()))
            await persist(self._held, lambda slot=slot: self._turns.cancel(slot, None))  # type: ignore[misc]

    def pause(self) -> float:
        """Seconds until the turn runs again without a wake-up. The older the turn, the longer."""
        turn = self._held.turn
        age = (turn.now_ms - turn.first_started_ms) / 1000
        return min(max(_SHORTEST_PAUSE, age * _PAUSE_SHARE), _LONGEST_PAUSE, self._seconds_left())

    async def _mark(self, slot_key: str) -> None:
        async with self._marking:
            if slot_key not in (marked := self._slot_keys()):
                await self._journal.record(TASKS_MARK, json.dumps([*marked, slot_key]).encode())

    def _slot_keys(self) -> list[str]:
        marked = self._journal.lookup(TASKS_MARK)
        return list(json.loads(marked)) if marked else []

    def _seconds_left(self) -> float:
        return max(_LEAST_SECONDS, self._held.seconds_left)

    def _slot(self, slot_key: str, member: MemberSpec) -> TaskSlot:
        return TaskSlot(
            run=self._held.turn_id,
            key=slot_key,
            tenant=self._held.keys.tenant,
            user_id=self._held.turn.user_id,
            member=member,
            separate=True,
            depth=self._depth,
            kind="ask",
        )


def _answer_of(record: TurnRecord) -> DelegateAnswer:
    usage = record.usage or Usage()
    if record.status is TurnStatus.SUCCEEDED and record.result is not None:
        return DelegateAnswer(True, output=json.loads(record.result)["output"], usage=usage)
    error = record.error
    why = f"{error.type}: {error.message}" if error is not None else f"its turn ended as {record.status}"
    return DelegateAnswer(False, reason=f"The agent did not answer. {why}", usage=usage)
