"""A turn that this process runs: its lease, the task that runs it, and why it must stop, if it must."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sessions.protocol.operation import OperationSpec
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.open_turn import OpenTurn
from workers.engine.ports import LeaseLost, RunState
from workers.lease.lease_clock import lease_time

if TYPE_CHECKING:
    from sessions.store.leases import LeaseStore

T = TypeVar("T")


class AskedAgents(Protocol):
    """The agents that a turn asks, each in a turn of its own. `workers.teams.delegations.Delegations` is one."""

    async def cancel(self) -> None:
        """Cancel their turns that have not ended."""
        ...

    def pause(self) -> float:
        """Seconds until the asking turn is looked at again, should the wake-up be lost."""
        ...


class Stop(StrEnum):
    """Why a running turn is stopped from outside."""

    LOST = "lost"  # another worker has, or may have, the lease: nothing can be written any more
    UNREACHABLE = "unreachable"  # the lease ended because the store did not answer
    CANCELLED = "cancelled"  # a client asked for it
    DEADLINE = "deadline"
    HANDOVER = "handover"  # this worker shuts down


LOSSES = (Stop.LOST, Stop.UNREACHABLE)


class HeldTurn:
    """The turn under a lease. `turn` changes when the next turn of the session goes on under the same lease.

    All methods are called on the loop's thread; the heartbeat thread reads `expires` and `lost`, and calls `renewed`
    and `not_renewed` only.
    """

    def __init__(self, keys: SessionKeys, begun: OpenTurn, nonce: str, expires: float, leases: LeaseStore) -> None:
        self.keys = keys
        self._leases = leases
        self.nonce = nonce
        self.expires = expires  # by `lease_time`: what the store promised at least
        self._out_of_reach = False
        self.kept = False  # its lease ended while the store was out of reach, and it was not stopped
        self.leased_since = time.monotonic()
        self.served = 0
        self.ended: Counter[TurnStatus] = Counter()  # the turns that ended under this lease
        self.effects = False  # the last commit left effects to apply in other slots
        self._start(begun)

    def _start(self, begun: OpenTurn) -> None:
        self.turn = begun
        self.attempt_started = time.monotonic()
        self.state = RunState()
        self.steps = dict(begun.journal)  # with those of this attempt
        self.stop: Stop | None = None
        self.seq = begun.seq
        self.parent: str | None = None  # the turn that waits for this one: a team's run, or one that asks its agent
        self.delegations: AskedAgents | None = None  # the agents that this turn asks
        self.operation: OperationSpec | None = None  # a piece of work for the retrieval role
        self.task: asyncio.Task[Any] | None = None
        self.about: dict[str, Any] = {}  # its agent and model, for the log
        # Its end is being written: whether the lease still holds is for that script to say, which gives it back.
        self.concluding = False

    def over(self) -> None:
        """Nothing of it runs any more: part with what refers back to it.

        Such circles waited for the collector's long walk, which a busy worker takes every few thousand turns: after a
        thousand turns they held 9 MB.
        """
        self.delegations = self.state.delegates = self.task = None

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run the turn's work in a task of its own, which `abort` cancels."""
        task = asyncio.create_task(work)
        self.task = task
        if self.stop is not None:  # it was stopped before it ran
            task.cancel()
        return task

    def go_on_with(self, begun: OpenTurn, expires: float) -> None:
        """The session's next turn, begun by the commit under the same lease."""
        self.renewed(expires)
        self._start(begun)

    async def renew(self) -> bool:
        """Renew the lease, from the loop. True also where it had run out and nobody else has had the session since."""
        sent = lease_time()
        if self.stop in LOSSES or not await self._leases.renew(self.keys, self.turn):
            return False
        self.renewed(sent + self._leases.seconds)
        return True

    def renewed(self, expires: float) -> None:
        """The store renewed the lease."""
        self.expires = expires
        self._out_of_reach = self.kept = False

    @property
    def expired(self) -> bool:
        """Whether the lease has ended, by this process's clock."""
        return lease_time() >= self.expires

    def check_held(self) -> None:
        """Called directly before what costs money or has effects elsewhere: somebody else may have done it.

        A process that was frozen (SIGSTOP, a paused VM) runs on where it stood, before its heartbeat has looked.

        Raises:
            LeaseLost: the lease has ended.
        """
        if self.expired:
            self.stop = self.lost
            raise LeaseLost

    def not_renewed(self) -> None:
        """The store did not answer: if the lease ends now, then for no fault of the turn's."""
        self._out_of_reach = True

    @property
    def lost(self) -> Stop:
        """Why a lease that has ended did so. An outage is no crash; being stopped or stalled looks like one (R8)."""
        return Stop.UNREACHABLE if self._out_of_reach else Stop.LOST

    def go_on_steered(self) -> None:
        """The same turn runs on, for it was steered at its end: replayed up to there, then one more model call."""
        self.concluding = False
        session = self.state.session
        self.state = RunState(draining=self.state.draining, steering_pending=True, session=session)

    def take_seq(self, count: int) -> int:
        """Number the next events of this attempt; returns the first number."""
        first = self.seq + 1
        self.seq += count
        return first

    def abort(self, why: Stop) -> None:
        """Stop the turn; the first reason stands, except that a lost lease overrules everything."""
        if self.stop is None or (why in LOSSES and self.stop not in LOSSES):
            self.stop = why
        if self.task is not None and not self.task.done():
            self.task.cancel()

    @property
    def deadline(self) -> float:
        """When the turn must have ended, by this process's monotonic clock."""
        return self.attempt_started + (self.turn.deadline_ms - self.turn.now_ms) / 1000

    @property
    def outlasts_outage(self) -> bool:
        """Whether an unreachable store does not stop it: a tool runs, or a finished step waits to be written.

        Stopping it would leave the tool's call in doubt, or have the model's response paid for again, though no worker
        was lost. Nothing is at risk: no write gets through unless the lease can be taken back.
        """
        return self.state.tools_running > 0 or self.state.unwritten_steps > 0

    @property
    def turn_id(self) -> str:
        """The turn's public id, for the log."""
        return self.keys.public_id(self.turn.part)
