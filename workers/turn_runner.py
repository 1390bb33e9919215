"""Runs the turns of one session, one after the other, under one lease.

    begin -> execute (engine, journal, events) -> conclude (commit, or give back) -> next turn, or release

This module decides what becomes of a turn. How a lease is kept is the heartbeat's business, what a step is the
engine's, and what a transition writes the scripts'.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeVar

import uuid_utils
from pydantic import ValidationError

from broker_config.settings import Settings
from sessions.errors import (
    ModelUnavailable,
    ResultTooLarge,
    StoreUnavailable,
    TurnDeadlineExceeded,
    TurnFailed,
)
from sessions.protocol import AgentConfig, Ask, EventType, TeamSpec, TurnError, TurnRequest, TurnStatus
from sessions.store.history import HistoryEntry, window
from sessions.store.keys import SessionKeys
from sessions.store.leases import Begun, CancelFirst, Effects, Ending, LeaseStore, NotBegun
from sessions.telemetry import get_logger
from workers.engine import Engine
from workers.engine.ports import HandedOver, LeaseLost, PassingModelError, PastTurn, TurnInput, TurnOutput, Waiting
from workers.heartbeat import Heartbeat
from workers.held import HeldTurn, Stop
from workers.interruption import cancelled_ending
from workers.journal import LeasedJournal, persist
from workers.team_runner import Pause, TeamRunner
from workers.turn_states import TurnStates

T = TypeVar("T")
Wake = Callable[[str, int, str], Awaitable[bool]]
_log = get_logger(__name__)
_NEIGHBOUR_PAUSE: Final = 0.5
_BEGIN_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """A passing model error: the turn runs again after a pause, in its place."""

    pause: float
    why: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The turn waits for answers from outside."""

    asks: Sequence[Ask]


class Left(StrEnum):
    """The turn is not ended by this worker."""

    HANDED_OVER = "handed_over"
    LOST = "lost"


Outcome = Ending | Retry | Left | Pause | Parked


@dataclass(frozen=True, slots=True)
class Drained:
    """What one wake-up came to."""

    turns: int
    why: str


class TurnRunner:
    """Runs turns. One per worker process; its coroutines run on the process's loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        leases: LeaseStore,
        states: TurnStates,
        teams: TeamRunner,
        engine: Engine,
        heartbeat: Heartbeat,
        wake: Wake,
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._states = states
        self._teams = teams
        self._engine = engine
        self._heartbeat = heartbeat
        self._wake = wake
        self._last_attempt: str | None = None  # nonce of the one turn on its last attempt that runs here (R8)
        self._afterwards: set[asyncio.Task[None]] = set()
        self.draining = False
        self.turns_done = 0

    # --- the way of a wake-up ---------------------------------------------------------------------------

    async def drain(self, ref: str) -> Drained:
        """Run the session's turns until its mailbox is empty, or others should come first."""
        keys = SessionKeys.from_ref(ref, self._settings.partitions)
        turns = 0
        while True:
            held = await self._begin(keys)
            if isinstance(held, Effects):
                await self._states.apply(keys, held.entries)
                if self.draining:
                    return Drained(turns, "draining")
                continue
            if isinstance(held, NotBegun):
                return Drained(turns, held.value if turns == 0 else "done")
            self._heartbeat.hold(held)
            try:
                why = await self._run_all(held)
            finally:
                self._heartbeat.let_go(held)
                self._free_last_attempt(held)
            turns += held.served
            if not held.effects:
                return Drained(turns, why)

    async def _run_all(self, held: HeldTurn) -> str:
        while True:
            if not self._may_run_last_attempt(held):
                await self._give_back(
                    held, "handover", _NEIGHBOUR_PAUSE, EventType.HANDED_OVER, {"why": "last attempt"}
                )
                return "last"
            outcome = await self._execute(held)
            following = await self._conclude(held, outcome)
            held.served += isinstance(outcome, Ending) and not held.state.steered
            if following is None:
                return outcome.value if isinstance(outcome, Left) else "done"

    async def _begin(self, keys: SessionKeys) -> HeldTurn | NotBegun | Effects:
        nonce, until = uuid_utils.uuid4().hex, time.monotonic() + _BEGIN_PATIENCE
        while True:
            sent = time.monotonic()
            try:
                begun = await self._leases.begin(keys, nonce, last_ok=self._last_attempt is None)
            except StoreUnavailable:
                # The lease may be ours, with only the reply lost: asking again under the same nonce finds out,
                # and keeps an outage from looking like a crash (R8).
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_NEIGHBOUR_PAUSE)
            else:
                if isinstance(begun, Begun):
                    return HeldTurn(keys, begun, nonce, sent + self._settings.lease)
                return begun

    def _may_run_last_attempt(self, held: HeldTurn) -> bool:
        """At most one turn on its last attempt runs in a process, so that a poison turn takes no other along."""
        if not held.begun.last or self._last_attempt == held.nonce:
            return True
        if self._last_attempt is not None:
            return False
        self._last_attempt = held.nonce
        return True

    def _free_last_attempt(self, held: HeldTurn) -> None:
        if self._last_attempt == held.nonce:
            self._last_attempt = None

    # --- execute: what becomes of the turn --------------------------------------------------------------

    async def _execute(self, held: HeldTurn) -> Outcome:
        journal = LeasedJournal(self._leases, held)
        try:
            request = _request(held.begun)
            held.parent = request.parent
            if request.team is not None:
                return await self._run_team(held, request.team, journal)
            if held.begun.cancelled:
                return self._cancelled(held)
            turn = self._input(held, request)
            held.state.session = await self._states.load(held.keys, held.begun, turn.agent)
            output = await self._until_deadline(held, held.run(self._engine.run(turn, journal, journal, held.state)))
            await journal.settle()
            return self._succeeded(held, turn, output)
        except LeaseLost:
            return self._lost(held)
        except HandedOver:
            return Left.HANDED_OVER
        except Waiting as waiting:
            return Parked(waiting.asks)
        except PassingModelError as error:
            return self._retry(held, error)
        except TurnFailed as error:
            # The caller gets the message; the traceback of a user's tool or agent is seen here only.
            _log.warning("turn_failed", turn=held.turn_id, error=repr(error), exc_info=error)
            return _failed(error)
        except asyncio.CancelledError:
            return self._stopped(held)
        except Exception as error:  # noqa: BLE001 - outcomes are classified here, and nowhere else
            _log.exception("turn_broke", turn=held.turn_id)
            return _failed(TurnFailed(f"internal error {type(error).__name__}: {error}"))

    async def _run_team(self, held: HeldTurn, team: TeamSpec, journal: LeasedJournal) -> Outcome:
        try:
            outcome: Outcome = await self._until_deadline(held, held.run(self._teams.advance(held, team, journal)))
        except asyncio.CancelledError:
            if held.stop is Stop.CANCELLED:
                await self._teams.cancel(held, team, journal)
            raise
        return outcome

    async def _until_deadline(self, held: HeldTurn, run: asyncio.Task[T]) -> T:
        left = (held.begun.deadline_ms - held.begun.now_ms) / 1000 - (time.monotonic() - held.began)
        timer = asyncio.get_running_loop().call_later(left, held.abort, Stop.DEADLINE)
        try:
            return await run
        finally:
            timer.cancel()

    def _input(self, held: HeldTurn, request: TurnRequest) -> TurnInput:
        begun = held.begun
        with _readable():
            agent = _agent(begun.agent) if begun.agent else AgentConfig(name=request.agent)
        return TurnInput(
            turn_id=held.turn_id,
            session_id=held.keys.session_id,
            user_id=begun.user_id,
            attempt=begun.attempt,
            message=request.message,
            agent=agent,
            history=[PastTurn(e.agent, e.messages) for e in window(begun.history, self._settings.history_window_bytes)],
            stream=request.stream,
            now_ms=begun.began_ms,
            default_model=self._settings.model or "offline",
        )

    def _succeeded(self, held: HeldTurn, turn: TurnInput, output: TurnOutput) -> Ending:
        result = json.dumps({"text": output.text, "output": output.output}).encode()
        if max(len(result), len(output.messages)) > self._settings.result_limit_bytes:
            raise ResultTooLarge(f"the answer has {len(result)} bytes. {ResultTooLarge.__doc__}")
        own, effects = self._states.changes(held.keys, held.begun, held.state.session)
        entry = HistoryEntry(held.begun.part, turn.agent.name, turn.now_ms, output.message_count, output.messages)
        return Ending(
            TurnStatus.SUCCEEDED,
            result=result,
            usage=output.usage.model_dump_json().encode(),
            history_entry=entry.dump(),
            messages=output.message_count,
            state_ops=own,
            effects=effects,
        )

    def _stopped(self, held: HeldTurn) -> Outcome:
        match held.stop:
            case Stop.CANCELLED:
                return self._cancelled(held)
            case Stop.DEADLINE:
                return _failed(TurnDeadlineExceeded())
            case Stop.HANDOVER:
                return Left.HANDED_OVER
            case Stop.LOST | Stop.UNREACHABLE:
                return self._lost(held)
            case None:  # the process itself goes down: leave the turn to the next worker
                return Left.HANDED_OVER

    def _cancelled(self, held: HeldTurn) -> Ending:
        request = _request(held.begun)
        turn = None if request.team is not None else self._input(held, request)
        return cancelled_ending(held, turn, self._states)

    def _lost(self, held: HeldTurn) -> Left:
        """Say so in the log, and (when the store was out of reach) to the store: that was no crash."""
        why = (held.stop or Stop.LOST).value
        _log.error("lease_lost", turn=held.turn_id, lease=held.begun.lease, why=why, written="nothing")
        if held.stop is Stop.UNREACHABLE:
            task = asyncio.create_task(self._forgive(held.keys, held.begun))
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)
        return Left.LOST

    async def _forgive(self, keys: SessionKeys, begun: Begun) -> None:
        until = time.monotonic() + (begun.deadline_ms - begun.now_ms) / 1000  # afterwards it is over in any case
        while time.monotonic() < until:
            try:
                word = await self._leases.forgive(keys, begun.part, begun.lease)
            except StoreUnavailable:
                await asyncio.sleep(_NEIGHBOUR_PAUSE)
            else:
                _log.info("outage_not_counted", turn=keys.public_id(begun.part), word=word)
                return

    def _retry(self, held: HeldTurn, error: PassingModelError) -> Outcome:
        s, tried = self._settings, held.begun.retries
        pause = error.retry_after or min(s.model_backoff_limit, s.model_backoff * 2**tried)
        if tried >= s.model_retries:
            return _failed(ModelUnavailable(f"{error} (tried {tried + 1} times; SESSIONFLEET_MODEL_RETRIES)"))
        if held.begun.now_ms + (time.monotonic() - held.began + pause) * 1000 >= held.begun.deadline_ms:
            return _failed(ModelUnavailable(f"{error} (the next try would be after the turn's deadline)"))
        _log.warning("model_error_passing", turn=held.turn_id, error=str(error), pause=pause, tried=tried + 1)
        return Retry(pause, str(error))

    # --- conclude: write it down ------------------------------------------------------------------------

    async def _conclude(self, held: HeldTurn, outcome: Outcome) -> HeldTurn | None:
        """Write the outcome; the same held turn when the session's next turn was begun, else None."""
        match outcome:
            case Ending():
                return await self._commit(held, outcome)
            case Retry():
                data = {"pause": outcome.pause, "why": outcome.why}
                await self._give_back(held, "retry", outcome.pause, EventType.RETRYING, data)
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
        asks = {ask.key: ask.model_dump_json().encode() for ask in parked.asks}
        data = json.dumps({"calls": [ask.model_dump(mode="json", exclude={"v", "key"}) for ask in parked.asks]})
        seq = held.take_seq(1)
        try:
            wake = await persist(held, lambda: self._leases.wait(held.keys, held.begun, asks, seq, data.encode()))
        except CancelFirst:
            return await self._commit(held, self._cancelled(held))
        except LeaseLost:
            self._lost(held)
            return None
        _log.info("turn_waits", turn=held.turn_id, tools=[ask.tool for ask in parked.asks])
        if wake is not None:
            await self._wake(held.keys.ref, wake[1], wake[0])
        return None

    async def _commit(self, held: HeldTurn, ending: Ending) -> HeldTurn | None:
        go_on = self._may_go_on(held)
        seq, sent = held.take_seq(1), time.monotonic()
        self._free_last_attempt(held)
        try:
            done = await persist(
                held,
                lambda: self._leases.commit(
                    held.keys, held.begun, ending, seq, go_on=go_on, last_ok=self._last_attempt is None
                ),
            )
        except LeaseLost:
            self._lost(held)
            return None
        if done.steered:
            held.go_on_steered()
            return held
        self.turns_done += 1
        self._tell_run(held)
        if done.wake is not None:
            await self._wake(held.keys.ref, done.wake[1], done.wake[0])
        held.effects = done.effects
        if done.next is None:
            return None
        held.go_on_with(done.next, sent + self._settings.lease)
        return held

    def _tell_run(self, held: HeldTurn) -> None:
        """This was a task of a team: have its run looked at, without waiting for that."""
        if held.parent is not None:
            task = asyncio.create_task(self._teams.nudge(held.parent, held.keys.tenant))
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)

    def _may_go_on(self, held: HeldTurn) -> bool:
        """Fairness: after so many turns or seconds other sessions come first. A stopping worker begins nothing."""
        s = self._settings
        long = held.served + 1 >= s.turns_per_lease or time.monotonic() - held.since >= s.seconds_per_lease
        return not (self.draining or long)

    async def _give_back(
        self, held: HeldTurn, why: str, pause: float, event: EventType | None, data: dict[str, Any]
    ) -> None:
        seq = held.take_seq(1)
        try:
            wake = await persist(
                held, lambda: self._leases.release(held.keys, held.begun, why, pause, seq, event, data)
            )
        except LeaseLost:
            self._lost(held)
            return
        if wake is not None:
            await self._wake(held.keys.ref, wake[1], wake[0])


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise TurnFailed(f"this worker cannot read the request; is it older than the client? {error}") from error


def _request(begun: Begun) -> TurnRequest:
    with _readable():
        return TurnRequest.model_validate_json(begun.request)


@lru_cache(maxsize=1024)
def _agent(config: bytes) -> AgentConfig:
    return AgentConfig.model_validate_json(config)


def _failed(error: TurnFailed) -> Ending:
    stored = TurnError(type=type(error).__name__, message=str(error), detail=error.detail)
    return Ending(TurnStatus.FAILED, error=stored.model_dump_json().encode())
