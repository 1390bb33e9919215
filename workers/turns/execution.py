"""Runs the turn that a worker holds, and says what becomes of it. Nothing is ended here: that is the runner's part."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final, TypeVar

from pydantic import ValidationError

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import (
    BackendError,
    EmbeddingUnavailable,
    IndexUnavailable,
    ModelUnavailable,
    ResultTooLarge,
    RetrievalUnavailable,
    SealError,
    StoreUnavailable,
    TurnConfigurationError,
    TurnDeadlineExceeded,
    TurnFailed,
)
from sessions.protocol.agent import AgentConfig
from sessions.protocol.call import AskKind
from sessions.protocol.deliver import Deliver
from sessions.protocol.operation import OperationSpec
from sessions.protocol.team import TeamSpec
from sessions.protocol.turn import TurnRequest, TurnStatus, total
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from sessions.store.leases import Ending, LeaseStore
from sessions.store.open_turn import Closing
from workers.engine import Engine
from workers.engine.ports import HandedOver, LeaseLost, PastTurn, TransientModelError, TurnInput, TurnOutput, Waiting
from workers.engine.usage import broken_stream_usage
from workers.lease.held_turn import HeldTurn, Stop
from workers.lease.journal import LeasedJournal
from workers.lease.losses import Losses
from workers.lease.outcomes import Crowded, Left, Outcome, Parked, Pause, Retry, failed
from workers.retrieval_role.extraction import FactExtraction
from workers.retrieval_role.recall import Recaller
from workers.retrieval_role.runner import RetrievalRunner
from workers.teams.runner import TeamRunner
from workers.turns.interruption import closed, with_finished_steps
from workers.turns.states import TurnStates
from workers.turns.webhook_delivery import WebhookDelivery

T = TypeVar("T")
_log = get_logger(__name__)
_STORE_PAUSE: Final = 1.0


class Execution:
    """From a held turn to its outcome: by the engine, or, for a team's run, by a pass over its tasks."""

    def __init__(
        self,
        settings: Settings,
        *,
        leases: LeaseStore,
        states: TurnStates,
        teams: TeamRunner,
        engine: Engine,
        retrieval: RetrievalRunner,
        recaller: Recaller,
        losses: Losses,
        facts: FactExtraction,
        webhooks: WebhookDelivery,
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._states = states
        self._teams = teams
        self._engine = engine
        self._retrieval = retrieval
        self._recaller = recaller
        self._losses = losses
        self._facts = facts
        self._webhooks = webhooks

    async def outcome(self, held: HeldTurn) -> Outcome:
        """Run the turn, and when it ends without an answer, clear away what it has left elsewhere."""
        journal = LeasedJournal(self._leases, held)
        outcome = await self._classified(held, journal)
        if isinstance(outcome, Ending) and outcome.status is not TurnStatus.SUCCEEDED:
            try:
                await self._clear_away(held, journal)
            except LeaseLost:
                return self._losses.lost(held)
            return self._kept(held, outcome)
        return outcome

    def _kept(self, held: HeldTurn, ending: Ending) -> Ending:
        """The ending of a conversation's turn with what it had finished; of other turns, as it is."""
        try:
            request = self._request(held)
            if request.team is not None or request.operation is not None or request.extraction is not None:
                return ending
            turn = self._input(held, request)
        except (TurnFailed, SealError):  # it cannot be read
            return ending
        if not self._engine.passed_hooks(turn, held.steps):
            return ending
        return with_finished_steps(held, turn, ending, self._states)

    async def _clear_away(self, held: HeldTurn, journal: LeasedJournal) -> None:
        """Cancel what other agents still do for it, and remove the chunks of a document that is not taken in."""
        if held.delegations is not None:
            await held.delegations.cancel()
        if held.operation is not None:
            try:
                await self._retrieval.undo(held, held.operation, journal)
            except (BackendError, TurnFailed) as error:
                # They are invisible, and go with the next document of that name or with the scope.
                _log.warning("operation_not_undone", turn=held.turn_id, error=str(error))

    async def _classified(self, held: HeldTurn, journal: LeasedJournal) -> Outcome:
        """Whatever happens is one of the outcomes, and they are told apart here and nowhere else."""
        try:
            return await self._run(held, self._request(held), journal)
        except LeaseLost:
            return self._losses.lost(held)
        except HandedOver:
            return Left.HANDED_OVER
        except Waiting as waiting:
            return _waiting(held, waiting)
        except TransientModelError as error:
            return self._retry(held, error)
        except (StoreUnavailable, IndexUnavailable, EmbeddingUnavailable) as error:
            return self._out_of_reach(held, error)
        except SealError as error:
            _log.warning("turn_not_opened", turn=held.turn_id, error=str(error))
            return failed(TurnConfigurationError(str(error)))
        except TurnFailed as error:
            # The caller gets the message; the traceback of a user's tool or agent is seen here only.
            _log.warning("turn_failed", turn=held.turn_id, error=repr(error), exc_info=error)
            return failed(error)
        except asyncio.CancelledError:
            return self._stopped(held)
        except Exception as error:  # noqa: BLE001 - outcomes are classified here, and nowhere else
            _log.exception("turn_broke", turn=held.turn_id)
            return failed(TurnFailed(f"internal error {type(error).__name__}; the worker's log has its text"))

    async def _run(self, held: HeldTurn, request: TurnRequest, journal: LeasedJournal) -> Outcome:
        held.parent = request.parent
        if request.team is not None:
            return await self._run_team(held, request.team, journal)
        if request.operation is not None:
            return await self._operate(held, request.operation, journal)
        held.state.delegates = held.delegations = self._teams.delegations(held, request, journal)
        if held.turn.closing is not None:
            return closed(held.turn.closing, held.turn.crashes)
        turn = self._input(held, request)
        held.state.session = await self._states.load(held.keys, held.turn, turn.agent)
        turn = await self._recalled(held, request, turn, journal)
        extraction = request.extraction
        del request  # a kilobyte that nothing needs while the model thinks
        output = await self._until_deadline(held, held.run(self._engine.run(turn, journal, journal, held.state)))
        await journal.settle()
        if extraction is not None:
            await self._recaller.keep_facts(held.keys.home, extraction, output.output["facts"])
            return self._answered(held, output)
        return self._succeeded(held, turn, output)

    async def _recalled(
        self, held: HeldTurn, request: TurnRequest, turn: TurnInput, journal: LeasedJournal
    ) -> TurnInput:
        """The turn with what its agent is reminded of, and the tools for more of it."""
        recalls = turn.agent.recalls
        if not (recalls.memory or recalls.knowledge):
            return turn
        keys = held.keys
        if request.home is not None:
            keys = SessionKeys.of(keys.tenant, request.home, self._settings.partitions)
        held.state.recall = recall = self._recaller.of(keys, turn.user_id, recalls)
        text = await self._until_deadline(held, held.run(recall.before_turn(turn.message, journal)))
        return replace(turn, recalled=text)

    async def _run_team(self, held: HeldTurn, team: TeamSpec, journal: LeasedJournal) -> Outcome:
        try:
            outcome: Outcome = await self._until_deadline(held, held.run(self._teams.advance(held, team, journal)))
        except asyncio.CancelledError:
            if held.stop is Stop.CANCELLED:
                await self._teams.cancel(held, team, journal)
            raise
        return outcome

    async def _operate(self, held: HeldTurn, spec: OperationSpec, journal: LeasedJournal) -> Outcome:
        if held.turn.closing is not None:
            return closed(held.turn.closing, held.turn.crashes)
        if spec.kind == Deliver.kind:
            return await self._until_deadline(held, held.run(self._webhooks.deliver(held, spec)))
        held.operation = spec
        output = await self._until_deadline(held, held.run(self._retrieval.run(held, spec, journal)))
        result = json.dumps({"text": "", "output": output}).encode()
        self._check_size(result)
        return Ending(TurnStatus.SUCCEEDED, result=result)

    def _request(self, held: HeldTurn) -> TurnRequest:
        if held.turn.unreadable is not None:
            raise held.turn.unreadable
        with _readable():
            return TurnRequest.model_validate_json(held.turn.request)

    async def _until_deadline(self, held: HeldTurn, run: asyncio.Task[T]) -> T:
        left = (held.turn.deadline_ms - held.turn.now_ms) / 1000 - (time.monotonic() - held.attempt_started)
        timer = asyncio.get_running_loop().call_later(left, held.abort, Stop.DEADLINE)
        try:
            return await run
        finally:
            timer.cancel()

    def _input(self, held: HeldTurn, request: TurnRequest) -> TurnInput:
        begun = held.turn
        with _readable():
            agent = _agent(begun.agent) if begun.agent else AgentConfig(name=request.agent)
        if request.recalls.said:
            agent = agent.model_copy(update={"recalls": agent.recalls.over(request.recalls)})
        return TurnInput(
            turn_id=held.turn_id,
            session_id=held.keys.session_id,
            user_id=begun.user_id,
            attempt=begun.attempt,
            message=request.message,
            agent=agent,
            history=[PastTurn(e.agent, e.messages, e.incomplete) for e in map(HistoryEntry.load, begun.history)],
            stream=request.stream,
            now_ms=begun.first_started_ms,
            default_model=self._settings.model or "offline",
        )

    def _answered(self, held: HeldTurn, output: TurnOutput) -> Ending:
        """The ending of a turn whose exchange is nobody's history."""
        result = json.dumps({"text": output.text, "output": output.output}).encode()
        self._check_size(result, output.messages)
        usage = total([output.usage, broken_stream_usage(held.steps)]).model_dump_json().encode()
        return Ending(TurnStatus.SUCCEEDED, result=result, usage=usage, finish_reason=output.finish_reason)

    def _succeeded(self, held: HeldTurn, turn: TurnInput, output: TurnOutput) -> Ending:
        own, effects = self._states.changes(held.keys, held.turn, held.state.session)
        entry = HistoryEntry(held.turn.part, turn.agent.name, turn.now_ms, output.message_count, output.messages)
        if (wanted := self._facts.effect(turn, output.text)) is not None:
            effects = [*effects, wanted]
        return replace(
            self._answered(held, output),
            history_entry=entry.dump(),
            messages=output.message_count,
            state_ops=own,
            effects=effects,
        )

    def _check_size(self, *written: bytes) -> None:
        if max(map(len, written)) > self._settings.result_limit_bytes:
            raise ResultTooLarge(f"the answer has {len(written[0])} bytes. {ResultTooLarge.__doc__}")

    def _stopped(self, held: HeldTurn) -> Outcome:
        match held.stop:
            case Stop.CANCELLED:
                return closed(Closing.CANCELLED)
            case Stop.DEADLINE:
                return failed(TurnDeadlineExceeded())
            case Stop.HANDOVER:
                return Left.HANDED_OVER
            case Stop.LOST | Stop.UNREACHABLE:
                return self._losses.lost(held)
            case None:  # the process itself goes down: leave the turn to the next worker
                return Left.HANDED_OVER

    def cancelled(self, held: HeldTurn) -> Ending:
        """The ending of a turn that a client cancelled, interrupted or rolled back."""
        return self._kept(held, closed(Closing.CANCELLED))

    def _out_of_reach(self, held: HeldTurn, error: BackendError) -> Outcome:
        if isinstance(error, StoreUnavailable):  # of which no turn may run out of tries
            _log.warning("turn_waits_for_store", turn=held.turn_id, error=str(error))
            return Crowded(_STORE_PAUSE)
        return self._retry(held, TransientModelError(str(error)), RetrievalUnavailable)

    def _retry(
        self, held: HeldTurn, error: TransientModelError, finally_: type[TurnFailed] = ModelUnavailable
    ) -> Outcome:
        s, tried = self._settings, held.turn.retries
        pause = error.retry_after or min(s.model_backoff_limit, s.model_backoff * 2**tried)
        if tried >= s.model_retries:
            return failed(finally_(f"{error} (tried {tried + 1} times; SESSIONFLEET_MODEL_RETRIES)"))
        if held.turn.now_ms + (time.monotonic() - held.attempt_started + pause) * 1000 >= held.turn.deadline_ms:
            return failed(finally_(f"{error} (the next try would be after the turn's deadline)"))
        _log.warning("model_error_passing", turn=held.turn_id, error=str(error), pause=pause, tried=tried + 1)
        return Retry(pause, str(error))


def _waiting(held: HeldTurn, waiting: Waiting) -> Outcome:
    if any(ask.kind is AskKind.TURN for ask in waiting.asks) and held.delegations is not None:
        return Pause(held.delegations.pause())  # people are asked when the other agents have answered
    return Parked(waiting.asks)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise TurnFailed(f"this worker cannot read the request; is it older than the client? {error}") from error


@lru_cache(maxsize=1024)
def _agent(config: bytes) -> AgentConfig:
    return AgentConfig.model_validate_json(config)
