"""Runs the turns of one session, one after another, under one lease.

    acquire the lease -> execute the turn -> conclude (commit, or give the turn back) -> next turn, or release

This module starts turns and writes their outcomes to the store. What the outcome is, `execution` decides. The heartbeat
keeps the lease, the engine does the steps, and each transition is a script.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import uuid_utils

from broker_config.telemetry import get_logger
from sessions.errors import BackendError, StoreUnavailable
from sessions.protocol.event import EventType
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.leases import CancelFirst, Effects, Ending, NothingToRun
from sessions.store.open_turn import OpenTurn
from sessions.store.wake_up import WakeUp
from workers.engine.ports import LeaseLost
from workers.engine.usage import usage_so_far
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import persist
from workers.lease.lease_clock import lease_time
from workers.lease.outcomes import NotEnded, Outcome, Postpone, Redeliver, Retry, WaitForAnswers, WaitForTurns
from workers.turns.execution import Execution
from workers.turns.parts import TurnParts
from workers.turns.slot_keeping import may_go_on
from workers.turns.turn_log import attempt_started, nothing_runs, turn_ended, turn_left
from workers.turns.usage_counting import spending_of

_log = get_logger(__name__)
_SHORT_PAUSE: Final = 0.5
_ACQUIRE_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class SessionRun:
    """What one wake-up led to.

    Attributes:
        turns: how many turns ended.
        why: one word for why the worker stopped there, such as `done` or `busy`.
        ended: the turns that ended, by status.
        began: whether it had the session's lease, with a turn to run.
    """

    turns: int
    why: str
    ended: Counter[TurnStatus] = field(default_factory=Counter)
    began: bool = False


class TurnRunner:
    """Runs turns. One per worker process; its coroutines run on the process's loop."""

    def __init__(self, parts: TurnParts) -> None:
        self._parts = parts
        self._execution = Execution(parts)
        self._last_attempt: str | None = None  # nonce of the lease whose turn is on its last attempt, if one runs here
        self._background: set[asyncio.Task[None]] = set()
        self.draining = False
        self.turns_done = 0

    def start_no_more(self) -> None:
        """Start no turn from now on, because the worker shuts down."""
        self.draining = True

    # --- from a wake-up to the outcomes -----------------------------------------------------------------

    async def run_session(self, ref: str, queue: str) -> SessionRun:
        """Run the session's turns until its mailbox is empty, or until other sessions should come first.

        Args:
            queue: the one whose wake-up this slot took.
        """
        keys = SessionKeys.from_ref(ref, self._parts.settings.partitions)
        turns, ended, began = 0, Counter[TurnStatus](), False
        try:
            while not self.draining:
                held = await self._acquire(keys, queue)
                if isinstance(held, NothingToRun):
                    return SessionRun(turns, held.value if turns == 0 else "done", ended, began)
                if isinstance(held, Effects):
                    await self._parts.states.apply(keys, held.entries)
                    continue
                began = True
                with self._kept_alive(held):
                    why = await self._run_turns(held)
                turns += held.served
                ended += held.ended
                if not held.effects_left:
                    return SessionRun(turns, why, ended, began)
        except BackendError as error:
            _log.warning("session_left", session=ref, error=str(error), hint="a rescuer will find it again")
            return SessionRun(0, "store unavailable", began=began)
        return SessionRun(turns, "draining", ended, began)  # a rescuer of another worker will find the session

    async def _acquire(self, keys: SessionKeys, queue: str) -> HeldTurn | NothingToRun | Effects:
        """Take the session's lease, with the turn at the head of its mailbox."""
        nonce, until = uuid_utils.uuid4().hex, time.monotonic() + _ACQUIRE_PATIENCE
        while True:
            sent = lease_time()
            try:
                turn = await self._parts.leases.acquire(keys, nonce, last_ok=self._last_attempt is None)
            except StoreUnavailable:
                # Perhaps only the reply was lost and the lease is ours. Asking again with the same nonce finds out.
                # Otherwise the lease would expire unused, which counts as a crash of the turn.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_SHORT_PAUSE)
            else:
                if isinstance(turn, OpenTurn):
                    expires = sent + self._parts.settings.lease
                    return HeldTurn(keys, turn, nonce, expires, self._parts.leases, queue)
                return turn

    @contextmanager
    def _kept_alive(self, held: HeldTurn) -> Iterator[None]:
        """Have the heartbeat renew the lease while the block runs."""
        self._parts.heartbeat.hold(held)
        try:
            yield
        finally:
            self._parts.heartbeat.let_go(held)
            held.break_cycles()
            nothing_runs()
            self._free_last_attempt(held)

    async def _run_turns(self, held: HeldTurn) -> str:
        """Run the turn, and those that the commits start under the same lease; returns `SessionRun.why`."""
        while True:
            if not self._may_run_last_attempt(held):
                await self._give_back(held, "handover", _SHORT_PAUSE, EventType.HANDED_OVER, {"why": "last attempt"})
                return "last"
            if not held.state.steering_pending:  # a steered turn continues its attempt
                attempt_started(held, self._parts.model_of)
            outcome = await self._execution.run(held)
            goes_on = await self._conclude(held, outcome)
            held.served += isinstance(outcome, Ending) and not held.state.steering_pending
            if not goes_on:
                return _word_for(outcome)

    def _may_run_last_attempt(self, held: HeldTurn) -> bool:
        """Whether this process may run the turn, if it is on its last attempt.

        A process runs at most one such turn at a time. A turn that kills its worker then takes no other turn with it
        into the dead letters.
        """
        if not held.turn.last or self._last_attempt == held.nonce:
            return True
        if self._last_attempt is not None:
            return False
        self._last_attempt = held.nonce
        return True

    def _free_last_attempt(self, held: HeldTurn) -> None:
        if self._last_attempt == held.nonce:
            self._last_attempt = None

    # --- conclude: write the outcome --------------------------------------------------------------------

    async def _conclude(self, held: HeldTurn, outcome: Outcome) -> bool:
        """Write the outcome. Returns whether a turn goes on under the lease: the next one, or a steered one."""
        held.concluding = True
        match outcome:
            case Ending():
                return await self._commit(held, outcome)
            case WaitForAnswers():
                return await self._wait_for_answers(held, outcome)
            case WaitForTurns():
                await self._give_back(held, "tasks", outcome.seconds, None, {})
            case Retry():
                data = {"pause": outcome.pause, "why": outcome.why}
                word = "retry" if outcome.counted else "limited"
                await self._give_back(held, word, outcome.pause, EventType.RETRYING, data)
            case Redeliver():
                data = {"pause": outcome.pause, "why": outcome.why}
                await self._give_back(held, "later", outcome.pause, EventType.RETRYING, data)
            case Postpone():
                await self._give_back(held, "handover", outcome.pause, None, {})
            case NotEnded.HANDED_OVER:
                await self._give_back(held, "handover", 0.0, EventType.HANDED_OVER, {"why": "shutdown"})
            case NotEnded.LEASE_LOST:
                pass
        return False

    async def _commit(self, held: HeldTurn, ending: Ending) -> bool:
        prices, cut_short = self._parts.engine.prices, None
        if ending.status is not TurnStatus.SUCCEEDED:
            cut_short = held.state.partial_usage
            usage = usage_so_far(held.steps, prices, cut_short)
            ending = replace(ending, usage=usage.model_dump_json().encode())
        spent = spending_of(held, cut_short, prices, self._parts.settings)
        ending = replace(ending, archived=self._parts.archive.effect(held, ending), spent=spent)
        self._free_last_attempt(held)
        leases, seq = self._parts.leases, held.take_seq(1)
        # A worker that shuts down starts no turn.
        go_on = not self.draining and await may_go_on(held, self._parts.settings, self._parts.rota)
        try:
            if (spending := held.spending) is not None:
                await persist(held, lambda: spending.settle(cut_short))
            # `last_ok` is asked at each try: in an outage, another turn may start its last attempt between two tries.
            done = await persist(
                held,
                lambda: leases.commit(
                    held.keys, held.turn, ending, seq, go_on=go_on, last_ok=self._last_attempt is None
                ),
            )
        except LeaseLost:
            self._parts.lost_leases.report(held)
            return False
        if done.steered:
            held.resume_steered()
            return True
        if spending is not None:
            spending.end()
        self.turns_done += 1
        held.ended[done.status] += 1
        turn_ended(held, done.status, ending)
        self._wake_parent(held)
        self._parts.packing.after(held.keys, held.turn)
        await self._publish(done.wake_up)
        held.effects_left = done.effects
        if done.next is None:
            return False
        held.start_next(done.next, held.write_sent + self._parts.settings.lease)
        return True

    async def _wait_for_answers(self, held: HeldTurn, outcome: WaitForAnswers) -> bool:
        placed = [call.model_copy(update={"place": place}) for place, call in enumerate(outcome.calls)]
        calls = {call.key: call.model_dump_json().encode() for call in placed}
        data = json.dumps({"calls": [call.model_dump(mode="json", exclude={"v", "key", "place"}) for call in placed]})
        await _release_reserved(held)
        seq = held.take_seq(1)
        leases = self._parts.leases
        try:
            wake_up = await persist(held, lambda: leases.wait(held.keys, held.turn, calls, seq, data.encode()))
        except CancelFirst:
            return await self._commit(held, self._execution.cancelled(held))
        except LeaseLost:
            self._parts.lost_leases.report(held)
            return False
        turn_left(held, TurnStatus.WAITING, "asks", tools=[call.tool for call in outcome.calls])
        await self._publish(wake_up)
        return False

    async def _give_back(
        self, held: HeldTurn, why: str, pause: float, event: EventType | None, data: dict[str, Any]
    ) -> None:
        """Release the lease with the turn unfinished; `why` is the script's word for it."""
        await _release_reserved(held)
        seq, leases = held.take_seq(1), self._parts.leases
        try:
            wake_up = await persist(held, lambda: leases.release(held.keys, held.turn, why, pause, seq, event, data))
        except LeaseLost:
            self._parts.lost_leases.report(held)
            return
        turn_left(held, TurnStatus.WAITING if why == "tasks" else TurnStatus.QUEUED, why, pause=pause)
        await self._publish(wake_up)

    async def _publish(self, wake_up: WakeUp | None) -> None:
        if wake_up is not None:
            await self._parts.publish(wake_up)

    def _wake_parent(self, held: HeldTurn) -> None:
        """Wake the turn that waits for this one (a team's run, or the agent that asked), in the background."""
        if held.parent is not None:
            task = asyncio.create_task(self._parts.teams.wake_parent(held.parent, held.keys.tenant))
            self._background.add(task)
            task.add_done_callback(self._background.discard)


async def _release_reserved(held: HeldTurn) -> None:
    """Release what the turn has reserved of budgets, because it pauses. If that fails, its next attempt does it."""
    if held.spending is not None:
        with suppress(BackendError):
            await held.spending.settle()


def _word_for(outcome: Outcome) -> str:
    """What Flower shows for a wake-up whose last turn had this outcome."""
    match outcome:
        case Ending():
            return "done"
        case NotEnded():
            return outcome.value
        case WaitForAnswers() | WaitForTurns():
            return TurnStatus.WAITING.value
        case Retry() | Redeliver() | Postpone():
            return "later"
