"""The engine's journal and event sink, written under the lease."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from sessions.errors import StoreUnavailable
from sessions.protocol.event import EventType
from sessions.store.leases import LeaseRefused, LeaseStore, StepReply
from workers.engine.ports import EventDraft, LeaseLost
from workers.lease.held_turn import HeldTurn, Stop

T = TypeVar("T")
_PAUSE: Final = 0.1


async def persist(held: HeldTurn, write: Callable[[], Awaitable[T]]) -> T:
    """Do a write under the lease, again and again while the store is out of reach.

    So a finished step waits here for as long as the store refuses it, up to the turn's deadline. When the lease ran
    out meanwhile, it is taken back, unless somebody else has had the session since. A turn that need not wait so long
    is cancelled by the heartbeat at the end of its lease.

    Raises:
        LeaseLost: the store said so, or the store was out of reach until the lease and the turn's time were over.
    """
    renewed = False
    while True:
        try:
            try:
                return await write()
            except LeaseRefused:
                if renewed or not await held.renew():
                    held.stop = held.lost
                    raise LeaseLost from None
                renewed = True
        except StoreUnavailable:
            held.not_renewed()
            if held.expired and time.monotonic() >= held.deadline:
                held.stop = Stop.UNREACHABLE
                raise LeaseLost from None
            await asyncio.sleep(_PAUSE)


class LeasedJournal:
    """`StepJournal` and `EventSink` of one turn, under its lease."""

    def __init__(self, leases: LeaseStore, held: HeldTurn) -> None:
        self._leases = leases
        self._held = held
        self._steps = held.steps
        self._under_way: Callable[[], Awaitable[StepReply]] | None = None
        # One write after the other: a later one that overtook a repeated one would make its events look written.
        self._line = asyncio.Lock()

    def lookup(self, key: str) -> bytes | None:
        """The recorded value of a step."""
        return self._steps.get(key)

    async def record(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        """Write a step and its events; returns when they are durable."""
        await self._write(key, value, events)
        self._steps[key] = value

    def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        """Start writing a step that nothing but the commit follows; `settle` waits for it."""
        self._under_way = self._writer(key, value, events, at_once=True)
        self._held.state.unwritten_steps += 1
        self._steps[key] = value

    def check_held(self) -> None:
        """Whether the lease still holds, by this process's clock.

        Raises:
            LeaseLost: it does not.
        """
        self._held.check_held()

    async def emit(self, events: Sequence[EventDraft]) -> None:
        """Append events that belong to no step."""
        await self._write("", b"", events)

    async def settle(self) -> None:
        """Wait for what `record_final` started."""
        if self._under_way is not None:
            write, self._under_way = self._under_way, None
            try:
                self._heed(await persist(self._held, write))
            finally:
                self._held.state.unwritten_steps -= 1

    async def _write(self, key: str, value: bytes, events: Sequence[EventDraft]) -> None:
        async with self._line:
            await self.settle()
            self._heed(await persist(self._held, self._writer(key, value, events)))

    def _writer(
        self, key: str, value: bytes, events: Sequence[EventDraft], *, at_once: bool = False
    ) -> Callable[[], Awaitable[StepReply]]:
        """A write that can be done again: the events keep their numbers, so that a repeat changes nothing."""
        turn, keys, seq = self._held.turn, self._held.keys, self._held.take_seq(len(events))
        drafts: list[tuple[EventType, bytes]] = [(e.type, json.dumps(e.data).encode()) for e in events]
        started = [self._leases.record(keys, turn, key, value, seq, drafts)] if at_once else []

        async def write() -> StepReply:
            recording = started.pop() if started else self._leases.record(keys, turn, key, value, seq, drafts)
            return await recording.done()

        return write

    async def take_steering(self, key: str) -> bytes:
        """Journal the unread steering messages under this key, with their events; b"" when there are none."""
        async with self._line:
            await self.settle()
            held, seq = self._held, self._held.seq + 1
            taken, count = await persist(held, lambda: self._leases.take_steering(held.keys, held.turn, key, seq))
            held.take_seq(count)
        held.state.steering_pending = False
        if taken:
            self._steps[key] = taken
        return taken

    def _heed(self, word: StepReply) -> None:
        if word is StepReply.CANCEL:
            self._held.abort(Stop.CANCELLED)
        elif word is StepReply.STEER:
            self._held.state.steering_pending = True
