"""The engine's journal and event sink, written under the lease."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, TypeVar

from sessions.errors import ResultTooLarge, StoreUnavailable
from sessions.protocol.event import EventType
from sessions.store.leases import LeaseRefused, LeaseStore, StepReply
from workers.engine.ports import EventDraft, LeaseLost
from workers.lease.held_turn import HeldTurn, StopReason
from workers.lease.lease_clock import lease_time

T = TypeVar("T")
_PAUSE: Final = 0.1
TURN_BYTES: Final = 256 * 1024 * 1024
"""The most bytes that a turn's steps have together. The history gets them as one value, and Redis takes 512 MB."""


async def persist(held: HeldTurn, write: Callable[[], Awaitable[T]]) -> T:
    """Do a write under the lease, and repeat it while the store is unreachable, up to the turn's deadline.

    If the lease expired meanwhile, it is taken back, unless another worker has had the session since. A turn that
    need not outlast an outage is cancelled by the heartbeat when its lease expires, and with it this write.

    Raises:
        LeaseLost: the store refused the write, or was unreachable until both the lease and the deadline had passed.
    """
    renewed = False
    while True:
        try:
            try:
                held.write_sent = lease_time()
                return await write()
            except LeaseRefused:
                if renewed or not await held.renew():
                    held.stop_reason = held.loss_reason
                    raise LeaseLost from None
                renewed = True
        except StoreUnavailable:
            held.renewal_failed()
            if held.expired and held.seconds_left <= 0:
                held.stop_reason = StopReason.STORE_UNREACHABLE
                raise LeaseLost from None
            await asyncio.sleep(_PAUSE)


class LeasedJournal:
    """`StepJournal` and `EventSink` of one turn, under its lease."""

    def __init__(self, leases: LeaseStore, held: HeldTurn) -> None:
        self._leases = leases
        self._held = held
        self._steps = held.steps
        self._final_write: Callable[[], Awaitable[StepReply]] | None = None
        # One write at a time. The script recognises a repeated write by the numbers of its events: if a later write
        # overtook it, the repeated one would look as if its events were already there.
        self._one_at_a_time = asyncio.Lock()

    def lookup(self, key: str) -> bytes | None:
        """The recorded value of a step."""
        return self._steps.get(key)

    async def record(
        self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()
    ) -> None:
        """Write a step, its events and the files that it uses; returns when they are durable.

        Raises:
            ResultTooLarge: the turn's steps would have more bytes than a turn can have.
        """
        self._check_room(value)
        await self._write(key, value, events, files)
        self._steps[key] = value

    def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        """Start writing a step after which only the commit follows. `settle` waits until it is written."""
        self._final_write = self._writer(key, value, events, at_once=True)
        self._held.state.unwritten_steps += 1
        self._steps[key] = value

    def _check_room(self, value: bytes) -> None:
        """Keep a turn from growing until its end can no longer be written."""
        size = len(value) + sum(map(len, self._steps.values()))
        if size > TURN_BYTES:
            raise ResultTooLarge(
                f"the turn's steps have {size:,} bytes together, and a turn can have {TURN_BYTES:,}: return less from "
                f"its tools, or store what is large and return where it is"
            )

    def check_held(self) -> None:
        """Check that the lease has not expired by this process's clock.

        Raises:
            LeaseLost: it has.
        """
        self._held.check_held()

    async def approved_tools(self) -> Collection[str]:
        """The tools whose calls need no more approval in this session."""
        return await self._leases.approved_tools.read(self._held.keys)

    async def emit(self, events: Sequence[EventDraft]) -> None:
        """Append events that belong to no step."""
        await self._write("", b"", events)

    async def settle(self) -> None:
        """Wait until the step that `record_final` started is written."""
        if self._final_write is not None:
            write, self._final_write = self._final_write, None
            try:
                self._apply_signal(await persist(self._held, write))
            finally:
                self._held.state.unwritten_steps -= 1

    async def _write(self, key: str, value: bytes, events: Sequence[EventDraft], files: Sequence[str] = ()) -> None:
        async with self._one_at_a_time:
            await self.settle()
            self._apply_signal(await persist(self._held, self._writer(key, value, events, files)))

    def _writer(
        self,
        key: str,
        value: bytes,
        events: Sequence[EventDraft],
        files: Sequence[str] = (),
        *,
        at_once: bool = False,
    ) -> Callable[[], Awaitable[StepReply]]:
        """A write that can be repeated: its events keep their numbers, so a repetition changes nothing."""
        turn, keys, seq = self._held.turn, self._held.keys, self._held.take_seq(len(events))
        drafts: list[tuple[EventType, bytes]] = [(e.type, json.dumps(e.data).encode()) for e in events]
        started = [self._leases.record(keys, turn, key, value, seq, drafts, files)] if at_once else []

        async def write() -> StepReply:
            recording = started.pop() if started else self._leases.record(keys, turn, key, value, seq, drafts, files)
            return await recording.done()

        return write

    async def take_steering(self, key: str) -> bytes:
        """Journal the unread steering messages under this key, with their events; b"" when there are none."""
        async with self._one_at_a_time:
            await self.settle()
            held, seq = self._held, self._held.seq + 1
            taken, count = await persist(held, lambda: self._leases.take_steering(held.keys, held.turn, key, seq))
            held.take_seq(count)
        held.state.steering_pending = False
        if taken:
            self._steps[key] = taken
        return taken

    def _apply_signal(self, reply: StepReply) -> None:
        """Do what a client has asked of the turn since its last write."""
        if reply is StepReply.CANCEL:
            self._held.stop(StopReason.CANCELLED)
        elif reply is StepReply.STEER:
            self._held.state.steering_pending = True
