"""Runs the turns of one session, one after the other, under one lease.

    begin -> execute (engine, journal, events) -> conclude (commit, or give back) -> next turn, or release

This module takes turns up and writes down what became of them. What that is says `execution`; how a lease is kept is
the heartbeat's business, what a step is the engine's, and what a transition writes the scripts'.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import uuid_utils

from broker_config.settings import Settings
from sessions.errors import StoreUnavailable
from sessions.protocol.event import EventType
from sessions.protocol.turn import TurnStatus, Usage, total
from sessions.store.keys import SessionKeys
from sessions.store.leases import CancelFirst, Committed, Effects, Ending, LeaseStore, NothingToRun
from sessions.store.open_turn import OpenTurn
from workers.engine.ports import LeaseLost
from workers.engine.usage import usage_so_far
from workers.lease.heartbeat import Heartbeat
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import persist
from workers.lease.lease_clock import lease_time
from workers.lease.losses import Losses
from workers.lease.outcomes import Crowded, Later, Left, Outcome, Parked, Pause, Retry
from workers.teams.runner import TeamRunner
from workers.turns.execution import Execution
from workers.turns.states import TurnStates
from workers.turns.turn_log import turn_ended, turn_left, turn_over, turn_started

Wake = Callable[[str, int, str], Awaitable[bool]]
_NEIGHBOUR_PAUSE: Final = 0.5
_BEGIN_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Drained:
    """What one wake-up came to."""

    turns: int
    why: str
    ended: Counter[TurnStatus] = field(default_factory=Counter)


class TurnRunner:
    """Runs turns. One per worker process; its coroutines run on the process's loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        leases: LeaseStore,
        states: TurnStates,
        teams: TeamRunner,
        execution: Execution,
        losses: Losses,
        heartbeat: Heartbeat,
        wake: Wake,
        model_of: Callable[[str], str],
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._states = states
        self._teams = teams
        self._execution = execution
        self._losses = losses
        self._heartbeat = heartbeat
        self._wake = wake
        self._model_of = model_of
        self._last_attempt: str | None = None  # nonce of the one turn on its last attempt that runs here (R8)
        self._afterwards: set[asyncio.Task[None]] = set()
        self.draining = False
        self.turns_done = 0

    # --- the way of a wake-up ---------------------------------------------------------------------------

    async def drain(self, ref: str) -> Drained:
        """Run the session's turns until its mailbox is empty, or others should come first."""
        keys = SessionKeys.from_ref(ref, self._settings.partitions)
        turns, ended = 0, Counter[TurnStatus]()
        while not self.draining:
            held = await self._begin(keys)
            if isinstance(held, Effects):
                await self._states.apply(keys, held.entries)
                continue
            if isinstance(held, NothingToRun):
                return Drained(turns, held.value if turns == 0 else "done", ended)
            self._heartbeat.hold(held)
            try:
                why = await self._run_all(held)
            finally:
                self._heartbeat.let_go(held)
                held.over()
                turn_over()
                self._free_last_attempt(held)
            turns += held.served
            ended += held.ended
            if not held.effects:
                return Drained(turns, why, ended)
        # The wake-up index has the session: another worker applies the effects.
        return Drained(turns, "draining", ended)

    async def _run_all(self, held: HeldTurn) -> str:
        while True:
            if not self._may_run_last_attempt(held):
                await self._give_back(
                    held, "handover", _NEIGHBOUR_PAUSE, EventType.HANDED_OVER, {"why": "last attempt"}
                )
                return "last"
            if not held.state.steering_pending:  # then the same attempt goes on
                turn_started(held, self._model_of)
            outcome = await self._execution.outcome(held)
            following = await self._conclude(held, outcome)
            held.served += isinstance(outcome, Ending) and not held.state.steering_pending
            if following is None:
                return _word(outcome)

    async def _begin(self, keys: SessionKeys) -> HeldTurn | NothingToRun | Effects:
        nonce, until = uuid_utils.uuid4().hex, time.monotonic() + _BEGIN_PATIENCE
        while True:
            sent = lease_time()
            try:
                begun = await self._leases.acquire(keys, nonce, last_ok=self._last_attempt is None)
            except StoreUnavailable:
                # The lease may be ours, with only the reply lost: asking again under the same nonce finds out,
                # and keeps an outage from looking like a crash (R8).
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_NEIGHBOUR_PAUSE)
            else:
                if isinstance(begun, OpenTurn):
                    return HeldTurn(keys, begun, nonce, sent + self._settings.lease, self._leases)
                return begun

    def _may_run_last_attempt(self, held: HeldTurn) -> bool:
        """At most one turn on its last attempt runs in a process, so that a poison turn takes no other along."""
        if not held.turn.last or self._last_attempt == held.nonce:
            return True
        if self._last_attempt is not None:
            return False
        self._last_attempt = held.nonce
        return True

    def _free_last_attempt(self, held: HeldTurn) -> None:
        if self._last_attempt == held.nonce:
            self._last_attempt = None

    # --- conclude: write it down ------------------------------------------------------------------------

    async def _conclude(self, held: HeldTurn, outcome: Outcome) -> HeldTurn | None:
        """Write the outcome; the same held turn when the session's next turn was begun, else None."""
        held.concluding = True
        match outcome:
            case Ending():
                return await self._commit(held, outcome)
            case Retry():
                data = {"pause": outcome.pause, "why": outcome.why}
                await self._give_back(held, "retry", outcome.pause, EventType.RETRYING, data)
            case Later():
                data = {"pause": outcome.pause, "why": outcome.why}
                await self._give_back(held, "later", outcome.pause, EventType.RETRYING, data)
            case Crowded():
                await self._give_back(held, "handover", outcome.pause, None, {})
            case Left.HANDED_OVER:
                await self._give_back(held, "handover", 0.0, EventType.HANDED_OVER, {"why": "shutdown"})
            case Pause():
                await self._give_back(held, "tasks", outcome.seconds, None, {})
            case Parked():
                return await self._park(held, outcome)
            case Left.LOST:
                pass
        return None

    async def _park(self, held: HeldTurn, parked: Parked) -> HeldTurn | None:
        placed = [ask.model_copy(update={"place": place}) for place, ask in enumerate(parked.asks)]
        asks = {ask.key: ask.model_dump_json().encode() for ask in placed}
        data = json.dumps({"calls": [ask.model_dump(mode="json", exclude={"v", "key", "place"}) for ask in placed]})
        seq = held.take_seq(1)
        try:
            wake = await persist(held, lambda: self._leases.wait(held.keys, held.turn, asks, seq, data.encode()))
        except CancelFirst:
            return await self._commit(held, self._execution.cancelled(held))
        except LeaseLost:
            self._losses.lost(held)
            return None
        turn_left(held, TurnStatus.WAITING, "asks", tools=[ask.tool for ask in parked.asks])
        if wake is not None:
            await self._wake(held.keys.ref, wake[1], wake[0])
        return None

    async def _commit(self, held: HeldTurn, ending: Ending) -> HeldTurn | None:
        if ending.status is not TurnStatus.SUCCEEDED:
            usage = total([usage_so_far(held.steps), held.state.partial_usage or Usage()])
            ending = replace(ending, usage=usage.model_dump_json().encode())
        go_on = self._may_go_on(held)
        seq, sent = held.take_seq(1), 0.0
        self._free_last_attempt(held)

        async def commit() -> Committed:
            nonlocal sent
            sent, last_ok = lease_time(), self._last_attempt is None
            return await self._leases.commit(held.keys, held.turn, ending, seq, go_on=go_on, last_ok=last_ok)

        try:
            done = await persist(held, commit)
        except LeaseLost:
            self._losses.lost(held)
            return None
        if done.steered:
            held.go_on_steered()
            return held
        self.turns_done += 1
        held.ended[done.status] += 1
        turn_ended(held, done.status, ending)
        self._tell_run(held)
        if done.wake is not None:
            await self._wake(held.keys.ref, done.wake[1], done.wake[0])
        held.effects = done.effects
        if done.next is None:
            return None
        held.go_on_with(done.next, sent + self._settings.lease)
        return held

    def _tell_run(self, held: HeldTurn) -> None:
        """Another turn waits for this one: have it looked at, without waiting for that."""
        if held.parent is not None:
            task = asyncio.create_task(self._teams.nudge(held.parent, held.keys.tenant))
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)

    def _may_go_on(self, held: HeldTurn) -> bool:
        """Fairness: after so many turns or seconds other sessions come first. A stopping worker begins nothing."""
        s = self._settings
        long = held.served + 1 >= s.turns_per_lease or time.monotonic() - held.leased_since >= s.seconds_per_lease
        return not (self.draining or long)

    async def _give_back(
        self, held: HeldTurn, why: str, pause: float, event: EventType | None, data: dict[str, Any]
    ) -> None:
        seq = held.take_seq(1)
        try:
            wake = await persist(held, lambda: self._leases.release(held.keys, held.turn, why, pause, seq, event, data))
        except LeaseLost:
            self._losses.lost(held)
            return
        turn_left(held, TurnStatus.WAITING if why == "tasks" else TurnStatus.QUEUED, why, pause=pause)
        if wake is not None:
            await self._wake(held.keys.ref, wake[1], wake[0])


def _word(outcome: Outcome) -> str:
    """What Flower shows of a wake-up whose last turn came to this."""
    match outcome:
        case Ending():
            return "done"
        case Left():
            return outcome.value
        case Parked() | Pause():
            return TurnStatus.WAITING.value
        case Retry() | Later() | Crowded():
            return "later"
