"""The worker's side of a turn: take the lease, journal steps, commit, or give it back.

Every write names the lease value, `<fencing token>:<nonce>`, and is refused when another one is in force.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker_config.settings import Settings
from sessions.errors import CorruptRecord, SealError
from sessions.protocol.event import EventType
from sessions.protocol.state_ops import StateOp
from sessions.protocol.turn import TurnStatus
from sessions.store.approved_tools import ApprovedTools
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.open_turn import OpenTurn, read_open_turn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealed_state import decide, looked_at
from sessions.store.sealing import KeyRing
from sessions.store.segments import Segments
from sessions.store.state import as_changes, pause_between
from sessions.store.steering import Steering
from sessions.store.transitions import leases as transitions
from sessions.store.transitions.leases import Effects, Forgiven, NothingToRun, StepReply
from sessions.store.transitions.shared import Cancelled, Change, Lost, PackedAway
from sessions.store.turn_fields import ERROR, RESULT
from sessions.store.usage_counters import Spending
from sessions.store.wake_up import WakeUp

__all__ = ["CancelFirst", "Committed", "Effects", "Ending", "LeaseRefused", "LeaseStore", "NothingToRun", "StepReply"]


@dataclass(frozen=True, slots=True)
class Committed:
    """A turn's end is written. `next` is the session's next turn, begun under the same lease.

    `effects`: some wait to be applied in other slots; the lease was given back.
    `wake_up` is set when turns wait and the lease was given back: publish it.
    `steered`: nothing was written, because the model has not read all messages that joined the turn. It continues.
    """

    status: TurnStatus
    next: OpenTurn | None = None
    wake_up: WakeUp | None = None
    effects: bool = False
    steered: bool = False


class CancelFirst(Exception):
    """A client cancelled the turn: nothing was written."""


class LeaseRefused(Exception):
    """The script refused the write, because this worker no longer holds the lease. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends.

    Attributes:
        window_kept: how many of the past turns that it saw stay in the window for the next turn; None for all.
        spent: what to add to the usage of the turn's day.
    """

    status: TurnStatus
    result: bytes = b""
    error: bytes = b""
    usage: bytes = b"{}"
    history_entry: bytes = b""
    messages: int = 0
    state_ops: Sequence[StateOp] = ()
    effects: Sequence[bytes] = ()
    finish_reason: str = ""
    archived: bytes = b""
    window_kept: int | None = None
    spent: Spending | None = None


class LeaseStore:
    """Leases, and what may be written under them. Values are encrypted and decrypted here."""

    def __init__(self, scripts: ScriptRunner, settings: Settings, worker: str) -> None:
        self._scripts = scripts
        self._worker = worker
        self.seconds = settings.lease
        self._lease_ms = int(settings.lease * 1000)
        self._keyring = KeyRing.of(settings)
        self._history = HistoryStore(scripts, self._keyring)
        self._segments = Segments(scripts, self._keyring)
        self._steering = Steering(scripts, self._keyring)
        self.approved_tools = ApprovedTools(scripts, self._keyring)
        self._window = f"{settings.history_window}:{settings.history_window_bytes}"

    async def acquire(self, keys: SessionKeys, nonce: str, *, last_ok: bool) -> OpenTurn | NothingToRun | Effects:
        """Take the session's lease and start the turn at the head of its mailbox."""
        unreadable: SealError | None = None
        while isinstance(reply := await self._lease(keys, nonce, last_ok, unreadable), PackedAway):
            try:  # nobody holds the lease meanwhile
                await self._segments.unpack(keys, reply.at)
            except (SealError, CorruptRecord) as error:  # the turn must end even so
                unreadable = SealError(str(error))
        if not isinstance(reply, transitions.Run):
            return reply
        turn = read_open_turn(self._keyring, keys, reply)
        return turn if unreadable is None else turn.closed_by(unreadable)

    def _lease(
        self, keys: SessionKeys, nonce: str, last_ok: bool, unreadable: SealError | None
    ) -> Awaitable[transitions.Run | NothingToRun | PackedAway | Effects]:
        call = transitions.lease_session(
            keys.pair,
            nonce=nonce,
            lease_ms=self._lease_ms,
            worker=self._worker,
            window=self._window,
            last_ok=last_ok,
            packed_ok=unreadable is not None,
        )
        return self._scripts.run(call)

    def record(
        self,
        keys: SessionKeys,
        turn: OpenTurn,
        field: str,
        value: bytes,
        seq: int,
        events: Sequence[tuple[EventType, bytes]],
        files: Sequence[str] = (),
    ) -> _Recording:
        """Start writing a step and its events, or only events when `field` is empty. `done()` waits for the reply.

        Args:
            files: ids of the session's files that the step uses; from now on they live as long as the session.
        """
        call = transitions.record_step(
            keys.pair,
            turn=turn.part,
            lease=turn.lease,
            field=field,
            value=self._keyring.seal(keys.journal(turn.part), field, value) if field else value,
            first_seq=seq,
            files=files,
            events=[(kind, self._event(keys, turn, number, data)) for number, (kind, data) in enumerate(events, seq)],
        )
        return _Recording(self._scripts.start(call))

    async def note(self, keys: SessionKeys, turn: OpenTurn, kind: str, values: Mapping[str, bytes]) -> None:
        """Set fields of a lane's `sources` or `texts`; an empty value removes the field.

        Raises:
            LeaseRefused: nothing was written.
        """
        call = transitions.note_sources(keys.pair, turn=turn.part, lease=turn.lease, kind=kind, values=values)
        if isinstance(await self._scripts.run(call), Lost):
            raise LeaseRefused

    async def commit(
        self, keys: SessionKeys, turn: OpenTurn, ending: Ending, seq: int, *, go_on: bool, last_ok: bool
    ) -> Committed:
        """End the turn, and begin the session's next one when `go_on`.

        Raises:
            LeaseRefused: nothing was written.
        """
        record, entry = keys.turn(turn.part), self._sealed(keys.history, "", ending.history_entry)
        # It was taken with the lease, so no other turn can be committed until this one is.
        cut = 0 if turn.replaces_at is None else await self._history.messages_from(keys, turn.replaces_at)
        # Why a turn cannot be decrypted is stored unencrypted: processes with other keys must be able to read it.
        why = self._sealed(record, ERROR, ending.error) if turn.unreadable is None else ending.error
        # The record is kept for days, and a count that is missing there is 0.
        usage = json.dumps({name: spent for name, spent in json.loads(ending.usage).items() if spent}).encode()
        for tried in itertools.count():
            call = transitions.commit_turn(
                keys.pair,
                turn=turn.part,
                lease=turn.lease,
                status=ending.status,
                result=self._sealed(record, RESULT, ending.result),
                error_json=why,
                usage=usage,
                history_entry=entry,
                messages=ending.messages,
                messages_cut=cut,
                seq=seq,
                go_on=go_on,
                lease_ms=self._lease_ms,
                worker=self._worker,
                window=self._window,
                window_kept=ending.window_kept,
                last_ok=last_ok,
                finish_reason=ending.finish_reason,
                changes=await self._changes(keys, ending.state_ops),
                archived=self._sealed(keys.outbox, "", ending.archived),
                usage_key="" if ending.spent is None else ending.spent.key,
                usage_expires_ms=0 if ending.spent is None else ending.spent.expires_ms,
                spent={} if ending.spent is None else ending.spent.amounts,
                effects=[self._sealed(keys.outbox, "", effect) for effect in ending.effects],
            )
            reply = await self._scripts.run(call)
            if isinstance(reply, PackedAway):
                await self._segments.unpack(keys, reply.at)
            elif isinstance(reply, transitions.StateChanged):
                await pause_between(tried)
            else:
                break
        return self._committed(keys, reply)

    def _committed(self, keys: SessionKeys, reply: transitions.CommitReply) -> Committed:
        match reply:
            case transitions.Steered():
                return Committed(TurnStatus.RUNNING, steered=True)
            case transitions.NextRun():
                return Committed(reply.status, next=read_open_turn(self._keyring, keys, reply))
            case transitions.EffectsDue():
                return Committed(reply.status, effects=True)
            case transitions.Committed():
                wake_up = WakeUp.of(keys, reply.queue, reply.now_ms) if reply.queue else None
                return Committed(reply.status, wake_up=wake_up)
            case Lost() | transitions.StateChanged() | PackedAway():
                raise LeaseRefused

    async def release(
        self,
        keys: SessionKeys,
        turn: OpenTurn,
        why: str,
        pause: float,
        seq: int,
        event: EventType | None,
        data: dict[str, Any],
    ) -> WakeUp | None:
        """Give the turn back unfinished; returns the wake-up to publish when it may go on at once.

        Args:
            why: `retry`; `limited`, which is no retry: it waits until its model may be called; `handover`; or `tasks`:
                it waits for turns of others, and looks at them after the pause.

        Raises:
            LeaseRefused: the lease had ended.
        """
        call = transitions.release_turn(
            keys.pair,
            turn=turn.part,
            lease=turn.lease,
            why=why,
            pause_ms=int(pause * 1000),
            seq=seq,
            event=event or "",
            data=self._event(keys, turn, seq, json.dumps(data).encode()) if event else b"",
        )
        reply = await self._scripts.run(call)
        if isinstance(reply, Lost):
            raise LeaseRefused
        if isinstance(reply, Cancelled) or reply.pause_ms > 0:
            return None
        return WakeUp.of(keys, reply.queue, reply.now_ms)

    async def take_steering(self, keys: SessionKeys, turn: OpenTurn, field: str, seq: int) -> tuple[bytes, int]:
        """Journal the unread steering under this field; the messages (JSON array), and how many.

        Raises:
            LeaseRefused: nothing was written.
        """
        reply = await self._steering.take(keys, turn, field, seq)
        if reply is None:
            raise LeaseRefused
        return reply

    async def wait(
        self, keys: SessionKeys, turn: OpenTurn, calls: Mapping[str, bytes], seq: int, data: bytes
    ) -> WakeUp | None:
        """Make the turn wait for these calls; returns the wake-up to publish if other turns can run meanwhile.

        Raises:
            LeaseRefused, CancelFirst: nothing was written.
        """
        journal = keys.journal(turn.part)
        call = transitions.wait_turn(
            keys.pair,
            turn=turn.part,
            lease=turn.lease,
            seq=seq,
            event=self._event(keys, turn, seq, data),
            calls={key: self._keyring.seal(journal, f"ask:{key}", call) for key, call in calls.items()},
        )
        reply = await self._scripts.run(call)
        if isinstance(reply, Lost):
            raise LeaseRefused
        if isinstance(reply, transitions.Cancel):
            raise CancelFirst
        return WakeUp.of(keys, reply.queue, reply.now_ms) if reply.wake else None

    async def _changes(self, keys: SessionKeys, ops: Sequence[StateOp]) -> list[Change]:
        """A turn's changes of state for the script. Encrypted ones are decided on what is stored now."""
        if not self._keyring.ids:
            return as_changes(ops)
        fields = looked_at(ops)
        stored = await self._scripts.read("HMGET", keys.state, *fields) if fields else ()
        return decide(self._keyring, keys.state, ops, dict(zip(fields, stored, strict=True)), leave_out=True).changes

    def _sealed(self, key: str, field: str, value: bytes) -> bytes:
        return self._keyring.seal(key, field, value) if value else value

    def _event(self, keys: SessionKeys, turn: OpenTurn, seq: int, data: bytes) -> bytes:
        return self._keyring.seal(keys.events(turn.part), f"{turn.token}-{seq}", data)

    async def renew(self, keys: SessionKeys, turn: OpenTurn) -> bool:
        """Renew the lease, or take it back if it ran out and no other worker has had the session since."""
        call = transitions.renew_lease(keys.pair, lease=turn.lease, lease_ms=self._lease_ms, turn=turn.part)
        return await self._scripts.run(call) is not transitions.Renewed.LOST

    async def forgive(self, keys: SessionKeys, part: str, lease: str) -> Forgiven:
        """Report that a turn was given up because the store was unreachable, which is no crash of the turn."""
        return await self._scripts.run(transitions.forgive_crash(keys.pair, turn=part, lease=lease))


class _Recording:
    """A step that is being written: sent at once, awaited now or just before the commit."""

    __slots__ = ("_reply",)

    def __init__(self, reply: asyncio.Future[StepReply]) -> None:
        self._reply = reply

    async def done(self) -> StepReply:
        """Wait until it is written; returns what a client wants of the turn.

        Raises:
            LeaseRefused: nothing was written.
        """
        reply = await self._reply
        if reply is StepReply.LOST:
            raise LeaseRefused
        return reply
