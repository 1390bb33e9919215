"""A turn that this process runs: its lease, the task that runs it, and why the turn has to stop, if it does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sessions.protocol.operation import OperationSpec
from sessions.protocol.turn import ModelUsage, TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.open_turn import OpenTurn
from workers.engine.ports import LeaseLost, RunState
from workers.lease.lease_clock import lease_time

if TYPE_CHECKING:
    from sessions.store.leases import LeaseStore

T = TypeVar("T")


class AskedAgents(Protocol):
    """The agents that a turn asks, each in a turn of its own. Implemented by `workers.teams.delegations`."""

    async def cancel(self) -> None:
        """Cancel those of their turns that have not ended."""
        ...

    def pause(self) -> float:
        """Seconds until the asking turn runs again if the wake-up for it is lost."""
        ...


class TurnSpending(Protocol):
    """What the turn spends of budgets. Implemented by `workers.turns.budgets`."""

    async def settle(self, cut_short: ModelUsage | None = None) -> None:
        """Note what the journal shows, and release what was reserved."""
        ...

    def end(self) -> None:
        """Note that the turn has ended, without waiting for that."""
        ...


class StopReason(StrEnum):
    """Why a running turn is stopped from outside."""

    LEASE_LOST = "lost"  # another worker holds, or may hold, the lease: no write is possible any more
    STORE_UNREACHABLE = "unreachable"  # the lease expired because the store did not answer
    CANCELLED = "cancelled"  # a client cancelled the turn
    DEADLINE = "deadline"
    HANDOVER = "handover"  # this worker shuts down


LOSS_REASONS = (StopReason.LEASE_LOST, StopReason.STORE_UNREACHABLE)


class HeldTurn:
    """A lease that this process holds, and the turn that runs under it.

    `turn` is replaced when the session's next turn starts under the same lease.

    All methods are called on the event loop's thread. The heartbeat thread only reads `expires` and `loss_reason`, and
    calls `lease_renewed` and `renewal_failed`.
    """

    def __init__(
        self, keys: SessionKeys, turn: OpenTurn, nonce: str, expires: float, leases: LeaseStore, queue: str = "turns"
    ) -> None:
        self.keys = keys
        self.queue = queue  # whose wake-up this slot took
        self._leases = leases
        self.nonce = nonce
        self.expires = expires  # by `lease_time`: the lease lasts at least this long in the store
        self.write_sent = 0.0  # by `lease_time`: when the last write was sent; a lease that it renewed lasts from then
        self._store_unreachable = False
        self.kept_in_outage = False  # the lease expired in an outage of the store, and the turn was not stopped
        self.leased_since = time.monotonic()
        self.served = 0  # turns that ran to their end under this lease
        self.charged = 0  # of the turns that began after the first one, those that its tenant was charged for
        self.ended: Counter[TurnStatus] = Counter()  # the statuses that they ended with
        self.effects_left = False  # the last commit left effects that must be applied in other slots
        self._start(turn)

    def _start(self, turn: OpenTurn) -> None:
        self.turn = turn
        self.attempt_started = time.monotonic()
        self.state = RunState()
        self.steps = dict(turn.journal)  # includes the steps recorded by this attempt
        self.stop_reason: StopReason | None = None
        self.seq = turn.seq
        self.parent: str | None = None  # the turn that waits for this one: a team's run, or the agent that asked
        self.delegations: AskedAgents | None = None
        self.spending: TurnSpending | None = None  # set if a budget applies to the turn
        self.operation: OperationSpec | None = None  # set when a retrieval worker runs an operation instead of an agent
        self.task: asyncio.Task[Any] | None = None
        self.log_fields: dict[str, Any] = {}  # the turn's agent and model
        # The commit is being sent. It gives the lease back, so a renewal that is refused now means nothing.
        self.concluding = False

    def break_cycles(self) -> None:
        """Drop the references back to this object, once no code of the turn runs any more.

        A busy worker's garbage collector finds such cycles only after thousands of turns: after a thousand turns they
        held 9 MB.
        """
        self.delegations = self.state.delegates = self.task = self.spending = self.state.budget = None

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run the turn's work in a task of its own, which `stop` cancels."""
        task = asyncio.create_task(work)
        self.task = task
        if self.stop_reason is not None:  # it was stopped before this work started
            task.cancel()
        return task

    def stop(self, reason: StopReason) -> None:
        """Stop the turn. The first reason stands, except that a lost lease overrules every other one."""
        if self.stop_reason is None or (reason in LOSS_REASONS and self.stop_reason not in LOSS_REASONS):
            self.stop_reason = reason
        if self.task is not None and not self.task.done():
            self.task.cancel()

    def start_next(self, turn: OpenTurn, expires: float) -> None:
        """Go on with the session's next turn, which the commit started under the same lease."""
        self.lease_renewed(expires)
        self._start(turn)

    def resume_steered(self) -> None:
        """Run the same attempt again, because a message steered it at its end.

        The replay returns the recorded steps; then the model is asked once more.
        """
        self.concluding = False
        self.state = RunState(draining=self.state.draining, steering_pending=True, session=self.state.session)

    async def renew(self) -> bool:
        """Renew the lease, from the loop. An expired lease is taken back if no other worker has had the session since.

        Returns:
            Whether this worker holds the lease.
        """
        sent = lease_time()
        if self.stop_reason in LOSS_REASONS or not await self._leases.renew(self.keys, self.turn):
            return False
        self.lease_renewed(sent + self._leases.seconds)
        return True

    def lease_renewed(self, expires: float) -> None:
        """Note that the store renewed the lease."""
        self.expires = expires
        self._store_unreachable = self.kept_in_outage = False

    def renewal_failed(self) -> None:
        """Note that the store did not answer. If the lease expires now, the outage is the reason, not a crash."""
        self._store_unreachable = True

    @property
    def expired(self) -> bool:
        """Whether the lease has expired by this process's clock."""
        return lease_time() >= self.expires

    @property
    def loss_reason(self) -> StopReason:
        """The reason for the loss of an expired or refused lease.

        Only an outage of the store does not count as a crash. A worker that was frozen, or whose event loop stood
        still, counts as crashed, because it looks the same from outside.
        """
        return StopReason.STORE_UNREACHABLE if self._store_unreachable else StopReason.LEASE_LOST

    def check_held(self) -> None:
        """Check the lease directly before a call that costs money or has effects elsewhere.

        A process that was frozen (SIGSTOP, a paused VM) continues where it stopped, before its heartbeat has run.
        Another worker may have made the same call meanwhile.

        Raises:
            LeaseLost: the lease has expired.
        """
        if self.expired:
            self.stop_reason = self.loss_reason
            raise LeaseLost

    def take_seq(self, count: int) -> int:
        """Reserve the numbers of this attempt's next events; returns the first one."""
        first = self.seq + 1
        self.seq += count
        return first

    @property
    def deadline(self) -> float:
        """When the turn must have ended, by this process's monotonic clock."""
        return self.attempt_started + (self.turn.deadline_ms - self.turn.now_ms) / 1000

    @property
    def seconds_left(self) -> float:
        """Seconds until the turn's deadline; negative once it has passed."""
        return self.deadline - time.monotonic()

    @property
    def outlasts_outage(self) -> bool:
        """Whether the turn keeps running while the store is unreachable: a tool runs, or a finished step is unwritten.

        Stopping it would leave a tool call in doubt, or pay for a model response twice, though no worker crashed.
        Keeping it is safe: nothing can be written unless this worker takes the lease back first.
        """
        return self.state.tools_running > 0 or self.state.unwritten_steps > 0

    @property
    def turn_id(self) -> str:
        """The turn's public id, for the log."""
        return self.keys.public_id(self.turn.part)
