"""The worker's side of a turn: take the lease, journal steps, commit, or give it back.

Every write names the lease value, `<fencing token>:<nonce>`, and is refused when another one is in force.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from broker_config.settings import Settings
from sessions.protocol.event import EventType
from sessions.protocol.state_ops import StateOp
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.new_turn import ERROR, RESULT
from sessions.store.open_turn import OpenTurn, read_open_turn
from sessions.store.scripts import Arg, ScriptRunner
from sessions.store.sealed_state import decide, looked_at
from sessions.store.sealing import KeyRing
from sessions.store.state import pause_between
from sessions.store.steering import Steering

_Wake = tuple[str, int] | None


class NothingToRun(StrEnum):
    """Why this worker runs no turn of the session now. Not an error: another worker or a later wake-up runs it."""

    BUSY = "busy"
    EMPTY = "empty"
    WAITING = "waiting"
    LATER = "later"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Effects:
    """Effects of earlier turns in other slots, to be applied before the session's next turn begins (R7)."""

    entries: list[bytes]


@dataclass(frozen=True, slots=True)
class Committed:
    """A turn's end is written. `next` is the session's next turn, begun under the same lease.

    `effects` says that some wait to be applied in other slots; the lease was given back.
    `wake` is set when turns wait and the lease was given back: (queue, acceptance time in ms) to publish.
    `steered`: nothing was written, for there is unread steering: the turn goes on.
    """

    status: TurnStatus
    next: OpenTurn | None = None
    wake: tuple[str, int] | None = None
    effects: bool = False
    steered: bool = False


class StepReply(StrEnum):
    """The script's reply to a recorded step: whether a client has cancelled or steered the turn meanwhile."""

    OK = "ok"
    CANCEL = "cancel"
    STEER = "steer"


class CancelFirst(Exception):
    """A client wants the turn's end: nothing was written."""


class LeaseRefused(Exception):
    """The script refused the write, because this worker no longer holds the lease. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends."""

    status: TurnStatus
    result: bytes = b""
    error: bytes = b""
    usage: bytes = b"{}"
    history_entry: bytes = b""
    messages: int = 0
    state_ops: Sequence[StateOp] = ()
    effects: Sequence[bytes] = ()
    finish_reason: str = ""


class LeaseStore:
    """Leases and what may be written under them. What is written is sealed here, and what is read opened."""

    def __init__(self, scripts: ScriptRunner, settings: Settings, worker: str) -> None:
        self._scripts = scripts
        self._worker = worker
        self.seconds = settings.lease
        self._lease_ms = int(settings.lease * 1000)
        self._ring = KeyRing.of(settings)
        self._steering = Steering(scripts, self._ring)
        self._window = f"{settings.history_window}:{settings.history_window_bytes}"

    async def acquire(self, keys: SessionKeys, nonce: str, *, last_ok: bool) -> OpenTurn | NothingToRun | Effects:
        """Take the session's lease and start the turn at the head of its mailbox."""
        reply = await self._scripts.run(
            "lease_session", keys.pair, nonce, self._lease_ms, self._worker, self._window, int(last_ok)
        )
        word = reply[0].decode()
        if word == "outbox":
            return Effects(reply[1])
        return read_open_turn(self._ring, keys, reply) if word == "run" else NothingToRun(word)

    def record(
        self,
        keys: SessionKeys,
        turn: OpenTurn,
        field: str,
        value: bytes,
        seq: int,
        events: Sequence[tuple[EventType, bytes]],
    ) -> _Recording:
        """Start writing a step and its events, or only events when `field` is empty. `done()` waits for the reply."""
        sealed = self._ring.seal(keys.journal(turn.part), field, value) if field else value
        args: list[Arg] = [turn.part, turn.lease, field, sealed, seq]
        for number, (kind, data) in enumerate(events, seq):
            args += (kind, self._event(keys, turn, number, data))
        return _Recording(self._scripts, keys, args)

    async def note(self, keys: SessionKeys, turn: OpenTurn, kind: str, values: Mapping[str, bytes]) -> None:
        """Set fields of a lane's `sources` or `texts`; an empty value removes the field.

        Raises:
            LeaseRefused: nothing was written.
        """
        args: list[Arg] = [turn.part, turn.lease, kind]
        for field, value in values.items():
            args += (field, value)
        reply = await self._scripts.run("note_sources", keys.pair, *args)
        if reply[0] == b"lost":
            raise LeaseRefused

    async def commit(
        self, keys: SessionKeys, turn: OpenTurn, ending: Ending, seq: int, *, go_on: bool, last_ok: bool
    ) -> Committed:
        """End the turn, and begin the session's next one when `go_on`.

        Raises:
            LeaseRefused: nothing was written.
        """
        record, entry = keys.turn(turn.part), self._sealed(keys.history, "", ending.history_entry)
        # Why a turn does not open is for those to read whose keys are not ours.
        why = self._sealed(record, ERROR, ending.error) if turn.unreadable is None else ending.error
        for tried in itertools.count():
            changes = await self._changes(keys, ending.state_ops)
            reply = await self._scripts.run(
                "commit_turn", keys.pair,
                turn.part, turn.lease, ending.status, self._sealed(record, RESULT, ending.result), why, ending.usage,
                entry, ending.messages, seq, int(go_on), self._lease_ms, self._worker, self._window, int(last_ok),
                ending.finish_reason, len(changes) // 4, *changes,
                *(self._sealed(keys.outbox, "", effect) for effect in ending.effects),
            )  # fmt: skip
            if reply[0] != b"moved":
                break
            await pause_between(tried)
        if reply[0] == b"lost":
            raise LeaseRefused
        if reply[0] == b"steered":
            return Committed(TurnStatus.RUNNING, steered=True)
        status, word = TurnStatus(reply[1].decode()), reply[2]
        if word == b"run":
            return Committed(status, next=read_open_turn(self._ring, keys, reply[2:]))
        if word == b"outbox":
            return Committed(status, effects=True)
        return Committed(status, wake=(reply[3].decode(), int(reply[4])) if word == b"more" else None)

    async def release(
        self,
        keys: SessionKeys,
        turn: OpenTurn,
        why: str,
        pause: float,
        seq: int,
        event: EventType | None,
        data: dict[str, Any],
    ) -> tuple[str, int] | None:
        """Give the turn back unfinished; returns the wake-up to publish when it may go on at once.

        Args:
            why: `retry`, `handover`, or `tasks`: it waits for turns of others, and looks at them after the pause.

        Raises:
            LeaseRefused: the lease had ended.
        """
        reply = await self._scripts.run(
            "release_turn", keys.pair,
            turn.part, turn.lease, why, int(pause * 1000), seq, event or "",
            self._event(keys, turn, seq, json.dumps(data).encode()) if event else b"",
        )  # fmt: skip
        if reply[0] == b"lost":
            raise LeaseRefused
        return (reply[1].decode(), int(reply[2])) if reply[0] == b"released" and int(reply[3]) <= 0 else None

    async def take_steering(self, keys: SessionKeys, turn: OpenTurn, field: str, seq: int) -> tuple[bytes, int]:
        """Journal the unread steering under this field; the messages (JSON array of texts), and how many.

        Raises:
            LeaseRefused: nothing was written.
        """
        reply = await self._steering.take(keys, turn, field, seq)
        if reply is None:
            raise LeaseRefused
        return reply

    async def wait(self, keys: SessionKeys, turn: OpenTurn, asks: Mapping[str, bytes], seq: int, data: bytes) -> _Wake:
        """Put the turn to waiting for these calls; returns the wake-up to publish when others can go on meanwhile.

        Raises:
            LeaseRefused, CancelFirst: nothing was written.
        """
        journal, told = keys.journal(turn.part), self._event(keys, turn, seq, data)
        asked: list[Arg] = []
        for key, ask in asks.items():
            asked += (key, self._ring.seal(journal, f"ask:{key}", ask))
        reply = await self._scripts.run("wait_turn", keys.pair, turn.part, turn.lease, seq, told, *asked)
        if reply[0] == b"lost":
            raise LeaseRefused
        if reply[0] == b"cancel":
            raise CancelFirst
        return (reply[2].decode(), int(reply[3])) if reply[1] == b"1" else None

    async def _changes(self, keys: SessionKeys, ops: Sequence[StateOp]) -> list[Arg]:
        """A turn's changes of state as the script takes them: sealed ones are decided on what is there now."""
        if not self._ring.ids:
            return [part for op in ops for part in (op.kind, op.field, op.a, op.b)]
        fields = looked_at(ops)
        stored = await self._scripts.read("HMGET", keys.state, *fields) if fields else ()
        return decide(self._ring, keys.state, ops, dict(zip(fields, stored, strict=True)), leave_out=True).args

    def _sealed(self, key: str, field: str, value: bytes) -> bytes:
        return self._ring.seal(key, field, value) if value else value

    def _event(self, keys: SessionKeys, turn: OpenTurn, seq: int, data: bytes) -> bytes:
        return self._ring.seal(keys.events(turn.part), f"{turn.token}-{seq}", data)

    async def renew(self, keys: SessionKeys, turn: OpenTurn) -> bool:
        """Renew the lease, or take it back where it ran out and nobody else has had the session since."""
        reply = await self._scripts.run("renew_lease", keys.pair, turn.lease, self._lease_ms, turn.part)
        return bool(reply[0] != b"lost")

    async def forgive(self, keys: SessionKeys, part: str, lease: str) -> str:
        """Say that a turn was given up because the store was out of reach: that is no crash of the turn's."""
        reply = await self._scripts.run("forgive_crash", keys.pair, part, lease)
        return str(reply[0].decode())


class _Recording:
    """A step on its way: started at once, awaited now or just before the commit."""

    __slots__ = ("_reply",)

    def __init__(self, scripts: ScriptRunner, keys: SessionKeys, args: list[Arg]) -> None:
        self._reply = scripts.start("record_step", keys.pair, args)

    async def done(self) -> StepReply:
        """Wait until it is written; says what a client wants of the turn.

        Raises:
            LeaseRefused: nothing was written.
        """
        word = (await self._reply)[0]
        if word == b"lost":
            raise LeaseRefused
        return StepReply(word.decode())
