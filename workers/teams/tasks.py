"""The turns of tasks and of asked agents: where they run, how each is submitted exactly once, and its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from broker_config.settings import Settings
from sessions.errors import IdempotencyConflict, SessionExists, SessionOwnerError, TurnNotFound
from sessions.protocol.access import grants
from sessions.protocol.team import MemberSpec
from sessions.protocol.team_result import TaskResult, TaskStatus
from sessions.protocol.turn import TurnError, TurnRequest, TurnStatus, Usage
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord, TurnStore
from sessions.store.wake_up import Publish

_ENDED = {
    TurnStatus.SUCCEEDED: TaskStatus.SUCCEEDED,
    TurnStatus.CANCELLED: TaskStatus.CANCELLED,
    TurnStatus.FAILED: TaskStatus.FAILED,
    TurnStatus.DEAD_LETTERED: TaskStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class TaskSlot:
    """Where a task runs: by which agent, and in which session.

    Attributes:
        run: public id of the turn that the task works for: a team's run, or the turn of the agent that asked.
        key: the task's name within that turn.
        user_id: the user of that turn.
        separate: whether the task gets a session of its own even if its agent belongs to one.
        depth: the number of agents that asked one another until this task.
        kind: first word of the task's session id and idempotency key.
    """

    run: str
    key: str
    tenant: str
    user_id: str | None
    member: MemberSpec
    separate: bool
    depth: int = 0
    kind: str = "team"

    @property
    def own_session(self) -> bool:
        """Whether only this run uses the session."""
        return self.separate or self.member.session is None

    @property
    def session_id(self) -> str:
        """The session in which the task is a turn."""
        if self.separate or self.member.session is None:
            return f"{self.kind}-{split_turn_id(self.run)[1]}-{self.key}"
        return self.member.session

    @property
    def idempotency_key(self) -> str:
        """The idempotency key: always the same for this task, so that it is accepted only once."""
        return f"{self.kind}:{self.run}:{self.key}"


class TaskTurns:
    """Submits, reads and cancels the turns of tasks. One per worker process."""

    def __init__(self, settings: Settings, scripts: ScriptRunner, client: Any, publish: Publish) -> None:
        self._settings = settings
        self._client = client
        self._turns = TurnStore(scripts, client, settings)
        self._records = SessionRecords(scripts, client, KeyRing.of(settings))
        self._publish = publish

    async def submit(self, slot: TaskSlot, message: str, seconds: float) -> str:
        """Submit a task's turn; submitting it again returns the same turn. Returns the turn's id.

        Raises:
            SessionBusy: the mailbox of the agent's session is full. SessionOwnerError: the session is another user's.
            StoreFull, StoreUnavailable: the store cannot accept it now.
        """
        keys = self._keys(slot)
        if slot.separate and slot.member.session is not None:
            await self._seed(slot, keys)
        try:
            accepted = await self._turns.accept(keys, self._submission(slot, message, seconds))
        except IdempotencyConflict as error:
            # Only this code makes such a key, so it is the same task: another version worded its request differently.
            return str(error.detail["turn_id"])
        if accepted.wake_up is not None:
            await self._publish(accepted.wake_up)
        return keys.public_id(accepted.part)

    def _submission(self, slot: TaskSlot, message: str, seconds: float) -> Submission:
        config = slot.member.config
        stored = b"" if slot.member.by_name else config.model_dump_json().encode()
        request = TurnRequest(
            message=message,
            agent=config.name,
            recalls=config.recalls,
            home=slot.member.session if slot.separate else None,
            parent=slot.run,
            depth=slot.depth,
        )
        return Submission(
            request,
            agent=config,
            config=stored,
            timeout=seconds,
            queue=slot.member.queue,
            user_id=slot.user_id,
            idempotency_key=slot.idempotency_key,
            # A session made for one task expires with the task's result, because no user will ever delete it.
            session_ttl=self._settings.result_ttl if slot.own_session else slot.member.ttl,
            hidden=slot.own_session,
            approval_timeout=seconds,  # no longer than the run itself
        )

    async def _seed(self, slot: TaskSlot, keys: SessionKeys) -> None:
        """Copy the history, agents and state of the agent's own session into the task's session.

        Raises:
            SessionOwnerError: the agent's session belongs to another user than the run.
        """
        home = SessionKeys.of(slot.tenant, str(slot.member.session), self._settings.partitions)
        with translated():
            owner, window_at = await self._client.hmget(home.meta, "owner", "window_at")
            shared = None if slot.user_id is None else await self._client.hget(home.shares, slot.user_id)
        theirs = owner is None or slot.user_id is None or owner.decode() == slot.user_id
        if not theirs and not grants(shared and shared.decode(), "read"):
            raise SessionOwnerError(f"session {home.session_id!r} belongs to another user than {slot.user_id!r}")
        history, state, agents = await self._records.raw_parts(home)
        if not (history or state or agents):
            return
        window = history[max(int(window_at or 0), len(history) - self._settings.history_window) :]
        try:
            await self._records.create(
                keys,
                window,
                user_id=slot.user_id or (owner.decode() if owner else None),
                queue=slot.member.queue,
                ttl=self._settings.result_ttl,
                messages=sum(HistoryEntry.load(entry).count for entry in window),
                state=state,
                agents=agents,
                origin=f"{home.session_id}@end",
                hidden=True,
            )
        except SessionExists:
            return  # an earlier attempt of the run created it

    async def ended_record(self, turn_id: str, tenant: str) -> TurnRecord | TurnNotFound | None:
        """The record of a task's turn once it has ended; None while it goes on."""
        keys, part = self._keys_of(turn_id, tenant)
        try:
            record = await self._turns.read(keys, part)
        except TurnNotFound as error:
            return error
        return record if record.status.final else None

    async def cancel(self, slot: TaskSlot, turn_id: str | None) -> None:
        """Cancel a task's turn if it was accepted. The worker that runs it stops it at its next heartbeat."""
        if turn_id is not None:
            keys, part = self._keys_of(turn_id, slot.tenant)
        else:  # a worker may have submitted it and crashed before it could journal the id
            keys = self._keys(slot)
            found = await self._turns.by_key(keys, slot.idempotency_key)
            if found is None:
                return
            part = found
        try:
            _, marked = await self._turns.cancel(keys, part)
        except TurnNotFound:
            return  # its session was deleted
        if marked is not None:  # if it waits for turns of its own, a worker must cancel those first
            await self._wake_if_waiting(keys, part)

    async def wake_parent(self, turn_id: str, tenant: str) -> None:
        """Publish a wake-up for a turn that waits for others."""
        await self._wake_if_waiting(*self._keys_of(turn_id, tenant))

    async def queue(self, keys: SessionKeys) -> str:
        """The queue that a session's turns run on."""
        with translated():
            queue = await self._client.hget(keys.meta, "queue")
        return queue.decode() if queue else "turns"

    async def _wake_if_waiting(self, keys: SessionKeys, part: str) -> None:
        if (wake_up := await self._turns.nudge(keys, part)) is not None:
            await self._publish(wake_up)

    def _keys(self, slot: TaskSlot) -> SessionKeys:
        return SessionKeys.of(slot.tenant, slot.session_id, self._settings.partitions)

    def _keys_of(self, turn_id: str, tenant: str) -> tuple[SessionKeys, str]:
        session_id, part = split_turn_id(turn_id)
        return SessionKeys.of(tenant, session_id, self._settings.partitions), part


def task_result(index: int, name: str, agent: str, turn_id: str, record: TurnRecord | TurnNotFound) -> TaskResult:
    """A task's result, from the record of its turn."""
    if isinstance(record, TurnNotFound):
        gone = TurnError(type="TurnNotFound", message=f"its session was deleted ({record})")
        return TaskResult(index=index, name=name, agent=agent, status=TaskStatus.FAILED, turn=turn_id, error=gone)
    result = json.loads(record.result) if record.result else {}
    return TaskResult(
        index=index,
        name=name,
        agent=agent,
        status=_ENDED[record.status],
        text=result.get("text", ""),
        output=result.get("output"),
        error=record.error,
        turn=turn_id,
        attempts=record.attempt,
        worker=record.worker,
        usage=record.usage or Usage(),
    )
