"""A team's task as a turn: where it runs, how it is submitted once, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from broker_config.settings import Settings
from sessions.errors import IdempotencyConflict, SessionExists, SessionOwnerError, TurnNotFound
from sessions.protocol.team import MemberSpec
from sessions.protocol.team_result import TaskResult, TaskStatus
from sessions.protocol.turn import TurnError, TurnRequest, TurnStatus, Usage
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys, new_turn_part, split_turn_id
from sessions.store.new_turn import NewTurn
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.turns import TurnRecord, TurnStore

Wake = Callable[[str, int, str], Awaitable[bool]]
_ENDED = {
    TurnStatus.SUCCEEDED: TaskStatus.SUCCEEDED,
    TurnStatus.CANCELLED: TaskStatus.CANCELLED,
    TurnStatus.FAILED: TaskStatus.FAILED,
    TurnStatus.DEAD_LETTERED: TaskStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a task is done: by which agent, in which session.

    Attributes:
        run: public id of the run; key: what tells the run's turns apart.
        user_id: whose run it is; depth: how many agents asked one another until it came to this task.
        kind: what its session and its idempotency key begin with.
        lane: the task gets a session of its own, though its agent may belong to one.
    """

    run: str
    key: str
    tenant: str
    user_id: str | None
    member: MemberSpec
    lane: bool
    depth: int = 0
    kind: str = "team"

    @property
    def own_session(self) -> bool:
        """Whether nobody but this run uses the session."""
        return self.lane or self.member.session is None

    @property
    def session_id(self) -> str:
        """The session that the task is a turn of."""
        if self.lane or self.member.session is None:
            return f"{self.kind}-{split_turn_id(self.run)[1]}-{self.key}"
        return self.member.session

    @property
    def idempotency(self) -> str:
        """The same whenever this task is submitted, so that it is accepted once."""
        return hashlib.sha256(f"{self.kind}:{self.run}:{self.key}".encode()).hexdigest()


class TaskTurns:
    """Submits, reads and cancels the turns of tasks."""

    def __init__(self, settings: Settings, scripts: ScriptRunner, client: Any, wake: Wake) -> None:
        self._settings = settings
        self._client = client
        self._turns = TurnStore(scripts, client, settings)
        self._records = SessionRecords(scripts, client, KeyRing.of(settings))
        self._wake = wake

    async def submit(self, seat: Seat, message: str, seconds: float) -> str:
        """Have a task's turn accepted; again, it is the same turn. Returns its id.

        Raises:
            SessionBusy: the agent's session has no room now. SessionOwnerError: it is another user's.
            StoreFull, StoreUnavailable: the store cannot take it now.
        """
        keys = self._keys(seat)
        if seat.lane and seat.member.session is not None:
            await self._seed(seat, keys)
        try:
            accepted = await self._turns.accept(keys, self._new_turn(seat, message, seconds))
        except IdempotencyConflict as error:
            # The key is ours alone: an earlier version of this worker put it into other words.
            return str(error.detail["turn_id"])
        if accepted.wake:
            await self._wake(keys.ref, accepted.now_ms, accepted.queue)
        return keys.public_id(accepted.part)

    def _new_turn(self, seat: Seat, message: str, seconds: float) -> NewTurn:
        config = seat.member.config
        stored = b"" if seat.member.by_name else config.model_dump_json().encode()
        request = TurnRequest(
            message=message,
            agent=config.name,
            recalls=config.recalls,
            home=seat.member.session if seat.lane else None,
            parent=seat.run,
            depth=seat.depth,
        )
        body = request.model_dump_json().encode()
        return NewTurn(
            part=new_turn_part(),
            request=body,
            digest=hashlib.sha256(body + stored).hexdigest(),
            timeout=seconds,
            queue=seat.member.queue,
            user_id=seat.user_id,
            idempotency=seat.idempotency,
            # Nobody deletes a lane: it goes when its result does (P9).
            session_ttl=self._settings.result_ttl if seat.own_session else seat.member.ttl,
            agent_name=config.name,
            agent_config=stored,
            approval_timeout=seconds,  # nobody waits for an answer longer than for the run
        )

    async def _seed(self, seat: Seat, lane: SessionKeys) -> None:
        """Give a lane what its agent would know in its own session: transcript, agents and state, as they are now.

        Raises:
            SessionOwnerError: that session belongs to another user than the run.
        """
        home = SessionKeys.of(seat.tenant, str(seat.member.session), self._settings.partitions)
        with translated():
            owner = await self._client.hget(home.meta, "owner")
        if owner is not None and seat.user_id is not None and owner.decode() != seat.user_id:
            raise SessionOwnerError(f"session {home.session_id!r} belongs to another user than {seat.user_id!r}")
        history, state, agents = await self._records.raw_parts(home)
        if not (history or state or agents):
            return
        seen = history[-self._settings.history_window :] if self._settings.history_window else []
        try:
            await self._records.create(
                lane,
                seen,
                user_id=seat.user_id or (owner.decode() if owner else None),
                queue=seat.member.queue,
                ttl=self._settings.result_ttl,
                messages=sum(HistoryEntry.load(entry).count for entry in seen),
                state=state,
                agents=agents,
                origin=f"{home.session_id}@end",
            )
        except SessionExists:
            return  # an earlier attempt of the run made it

    async def ended(self, turn_id: str, tenant: str) -> TurnRecord | TurnNotFound | None:
        """The record of a task's turn once it has ended; None while it goes on."""
        keys, part = self._keys_of(turn_id, tenant)
        try:
            record = await self._turns.read(keys, part)
        except TurnNotFound as error:
            return error
        return record if record.status.final else None

    async def cancel(self, seat: Seat, turn_id: str | None) -> None:
        """Cancel a task's turn, if it was accepted. The worker that runs it stops it with its next heartbeat."""
        if turn_id is not None:
            keys, part = self._keys_of(turn_id, seat.tenant)
        else:  # it may have been accepted by a worker that died before it could say so
            keys = self._keys(seat)
            found = await self._turns.by_key(keys, seat.idempotency)
            if found is None:
                return
            part = found
        try:
            _, marked = await self._turns.cancel(keys, part)
        except TurnNotFound:
            return  # its session was deleted: nothing is left to cancel
        if marked is not None:  # it may itself wait for others, which a worker cancels first
            await self._wake_if_waiting(keys, part)

    async def nudge(self, run_id: str, tenant: str) -> None:
        """Have a run looked at now."""
        await self._wake_if_waiting(*self._keys_of(run_id, tenant))

    async def queue(self, keys: SessionKeys) -> str:
        """The queue of a session."""
        with translated():
            queue = await self._client.hget(keys.meta, "queue")
        return queue.decode() if queue else "turns"

    async def _wake_if_waiting(self, keys: SessionKeys, part: str) -> None:
        if (wake := await self._turns.nudge(keys, part)) is not None:
            await self._wake(keys.ref, wake[1], wake[0])

    def _keys(self, seat: Seat) -> SessionKeys:
        return SessionKeys.of(seat.tenant, seat.session_id, self._settings.partitions)

    def _keys_of(self, turn_id: str, tenant: str) -> tuple[SessionKeys, str]:
        session_id, part = split_turn_id(turn_id)
        return SessionKeys.of(tenant, session_id, self._settings.partitions), part


def task_result(index: int, name: str, agent: str, turn_id: str, record: TurnRecord | TurnNotFound) -> TaskResult:
    """What came of a task, from the record of its turn."""
    if isinstance(record, TurnNotFound):
        gone = TurnError(type="TurnNotFound", message=f"its session was deleted meanwhile ({record})")
        return TaskResult(index=index, name=name, agent=agent, status=TaskStatus.FAILED, turn=turn_id, error=gone)
    said = json.loads(record.result) if record.result else {}
    return TaskResult(
        index=index,
        name=name,
        agent=agent,
        status=_ENDED[record.status],
        text=said.get("text", ""),
        output=said.get("output"),
        error=record.error,
        turn=turn_id,
        attempts=record.attempt,
        worker=record.worker,
        usage=record.usage or Usage(),
    )
