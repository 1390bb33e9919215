"""Runs the turn that this worker holds and decides on its outcome. The runner writes the outcome to the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from typing import Any, Final, TypeVar

from broker_config.telemetry import get_logger
from sessions.errors import (
    BackendError,
    DocumentError,
    EmbeddingUnavailable,
    FileUnavailable,
    IndexMismatch,
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
from sessions.protocol.call import CallKind
from sessions.protocol.compaction_requests import CompactHistory
from sessions.protocol.operation import OperationSpec
from sessions.protocol.team import TeamSpec
from sessions.protocol.turn import TurnRequest, TurnStatus, total
from sessions.protocol.turn_limits import NO_LIMITS, TurnLimits
from sessions.protocol.webhook_requests import webhook_request
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from sessions.store.leases import Ending
from sessions.store.open_turn import Closing
from workers.engine.ports import HandedOver, LeaseLost, TransientModelError, TurnInput, TurnOutput, Waiting
from workers.engine.usage import broken_stream_usage, usage_so_far
from workers.lease.held_turn import HeldTurn, StopReason
from workers.lease.journal import LeasedJournal
from workers.lease.outcomes import NotEnded, Outcome, Postpone, Retry, WaitForAnswers, WaitForTurns, failed
from workers.turns.archive_writer import KINDS
from workers.turns.files import TurnFiles
from workers.turns.interruption import ending_for, with_completed_steps
from workers.turns.parts import TurnParts
from workers.turns.turn_input import input_of, request_of

T = TypeVar("T")
_log = get_logger(__name__)
_STORE_PAUSE: Final = 1.0
_NO_TEXT: Final = b'{"text": "", "output": ""}'
_EXPLAINED: Final = (DocumentError, FileUnavailable, IndexMismatch)
"""Errors about what a user sent: their messages say everything, and our code did what it should."""


class Execution:
    """From a held turn to its outcome: by the engine, a team's runner, an operation, or a webhook delivery."""

    def __init__(self, parts: TurnParts) -> None:
        self._parts = parts
        self._settings = s = parts.settings
        self._limits = TurnLimits(model_calls=s.turn_model_calls or None, tool_calls=s.turn_tool_calls or None)

    async def run(self, held: HeldTurn) -> Outcome:
        """Run the turn. If it ends without an answer, clean up what it started elsewhere."""
        journal = LeasedJournal(self._parts.leases, held)
        outcome = await self._outcome(held, journal)
        if isinstance(outcome, Ending) and outcome.status is not TurnStatus.SUCCEEDED:
            try:
                await self._clean_up(held, journal)
            except LeaseLost:
                return self._parts.lost_leases.report(held)
            return self._with_completed_steps(held, outcome)
        return outcome

    def cancelled(self, held: HeldTurn) -> Ending:
        """The ending of a turn that a client cancelled, interrupted or rolled back."""
        return self._with_completed_steps(held, ending_for(Closing.CANCELLED))

    async def _outcome(self, held: HeldTurn, journal: LeasedJournal) -> Outcome:
        """Run the turn. Whatever happens becomes one of the outcomes here, and only here."""
        try:
            return await self._work(held, request_of(held), journal)
        except LeaseLost:
            return self._parts.lost_leases.report(held)
        except HandedOver:
            return NotEnded.HANDED_OVER
        except Waiting as waiting:
            return _waiting(held, waiting)
        except TransientModelError as error:
            return await self._retry(held, error, ModelUnavailable)
        except (StoreUnavailable, IndexUnavailable, EmbeddingUnavailable) as error:
            return await self._unavailable(held, error)
        except SealError as error:
            _log.warning("turn_not_opened", turn=held.turn_id, error=str(error))
            return failed(TurnConfigurationError(str(error)))
        except TurnFailed as error:
            log_failed(held.turn_id, error)
            return failed(error)
        except asyncio.CancelledError:
            return self._stopped(held)
        except Exception as error:  # noqa: BLE001 - this is the one place that turns any error into an outcome
            _log.exception("turn_broke", turn=held.turn_id)
            return failed(TurnFailed(f"internal error {type(error).__name__}; the worker's log has its text"))

    # --- the kinds of turns -----------------------------------------------------------------------------

    def _work(self, held: HeldTurn, request: TurnRequest, journal: LeasedJournal) -> Awaitable[Outcome]:
        """The coroutine that runs this kind of request.

        Not a coroutine itself, because its frame would keep the request in memory for as long as the turn runs.
        """
        held.parent = request.parent
        if request.team is not None:
            return self._run_team(held, request.team, journal)
        if request.operation is not None and request.operation.kind == CompactHistory.kind:
            return self._run_compaction(held, request, journal)
        if request.operation is not None:
            return self._run_operation(held, request.operation, journal)
        return self._run_agent(held, request, journal)

    async def _run_agent(self, held: HeldTurn, request: TurnRequest, journal: LeasedJournal) -> Outcome:
        held.state.delegates = held.delegations = self._parts.teams.delegations(held, request, journal)
        held.spending = self._parts.budgets.of(held, NO_LIMITS)
        if held.turn.closing is not None:
            return ending_for(held.turn.closing, held.turn.crashes)
        turn = self._limited(held, self._input(held, request))
        held.state.files = TurnFiles(
            self._settings, self._parts.files, held.keys, held.turn.part, lambda: held.seconds_left > 0
        )
        held.state.session = await self._parts.states.load(held.keys, held.turn, turn.agent)
        turn = await self._with_recalled(held, request, turn, journal)
        extraction, titles, about = request.extraction, request.titles, request.about
        del request  # it has about a kilobyte, and nothing needs it while the model thinks
        engine = self._parts.engine
        output = await self._until_deadline(held, engine.run(turn, journal, journal, held.state))
        await journal.settle()
        if extraction is not None:
            await self._parts.recaller.keep_facts(held.keys.home, extraction, output.output["facts"])
            return self._answered(held, output)
        if titles:
            await self._parts.titles.write(held.keys.home, output.text, about)
            return self._answered(held, output)
        return self._succeeded(held, turn, output)

    async def _run_compaction(self, held: HeldTurn, request: TurnRequest, journal: LeasedJournal) -> Outcome:
        held.spending = self._parts.budgets.of(held, NO_LIMITS)
        if held.turn.closing is not None:
            return ending_for(held.turn.closing, held.turn.crashes)
        turn = self._limited(held, self._input(held, request))
        await self._until_deadline(held, self._parts.compaction.run(held, request, turn, journal))
        usage = usage_so_far(held.steps, self._parts.engine.prices)
        return Ending(TurnStatus.SUCCEEDED, result=_NO_TEXT, usage=usage.model_dump_json().encode())

    async def _run_team(self, held: HeldTurn, team: TeamSpec, journal: LeasedJournal) -> Outcome:
        try:
            return await self._until_deadline(held, self._parts.teams.advance(held, team, journal))
        except asyncio.CancelledError:
            if held.stop_reason is StopReason.CANCELLED:
                await self._parts.teams.cancel(held, team, journal)
            raise

    async def _run_operation(self, held: HeldTurn, spec: OperationSpec, journal: LeasedJournal) -> Outcome:
        if held.turn.closing is not None:
            return ending_for(held.turn.closing, held.turn.crashes)
        if (webhook := webhook_request(spec)) is not None:
            return await self._until_deadline(held, self._parts.webhooks.deliver(held, webhook))
        if spec.kind in KINDS:
            return await self._until_deadline(held, self._parts.archive.run(held, spec))
        held.operation = spec
        output = await self._until_deadline(held, self._parts.retrieval.run(held, spec, journal))
        result = json.dumps({"text": "", "output": output}).encode()
        self._check_size(result)
        return Ending(TurnStatus.SUCCEEDED, result=result)

    async def _with_recalled(
        self, held: HeldTurn, request: TurnRequest, turn: TurnInput, journal: LeasedJournal
    ) -> TurnInput:
        """The input with what memory and knowledge have for the message. The agent also gets tools to search more."""
        recalls = turn.agent.recalls
        if not (recalls.memory or recalls.knowledge):
            return turn
        keys = held.keys
        if request.home is not None:
            keys = SessionKeys.of(keys.tenant, request.home, self._settings.partitions)
        held.state.recall = recall = self._parts.recaller.of(keys, turn.user_id, recalls)
        if not turn.message.strip():  # only files: there is nothing to search for
            return turn
        return replace(turn, recalled=await self._until_deadline(held, recall.before_turn(turn.message, journal)))

    async def _until_deadline(self, held: HeldTurn, work: Coroutine[Any, Any, T]) -> T:
        task = held.run(work)
        timer = asyncio.get_running_loop().call_later(held.seconds_left, held.stop, StopReason.DEADLINE)
        try:
            return await task
        finally:
            timer.cancel()

    def _input(self, held: HeldTurn, request: TurnRequest) -> TurnInput:
        return input_of(held, request, self._settings.model or "offline", self._limits)

    def _limited(self, held: HeldTurn, turn: TurnInput) -> TurnInput:
        """Have the turn's model requests obey the budgets that apply to it, and the fleet's limits of models."""
        held.spending = held.state.budget = self._parts.budgets.of(held, turn.limits)
        held.state.model_limits = self._parts.model_limits.of(held)
        return turn

    # --- endings ----------------------------------------------------------------------------------------

    def _answered(self, held: HeldTurn, output: TurnOutput) -> Ending:
        """The ending of a turn with an answer, without an entry in the history."""
        answered_by = {"model": output.model} if output.model else {}
        result = json.dumps({"text": output.text, "output": output.output, **answered_by}).encode()
        self._check_size(result)
        usage = total([output.usage, broken_stream_usage(held.steps)]).model_dump_json().encode()
        return Ending(TurnStatus.SUCCEEDED, result=result, usage=usage, finish_reason=output.finish_reason)

    def _succeeded(self, held: HeldTurn, turn: TurnInput, output: TurnOutput) -> Ending:
        own, effects = self._parts.states.changes(held.keys, held.turn, held.state.session)
        part, count, messages = held.turn.part, output.message_count, output.messages
        entry = HistoryEntry(part, turn.agent.name, turn.now_ms, count, messages, sender=held.turn.sender)
        if (wanted := self._parts.facts.effect(turn, output.text)) is not None:
            effects = [*effects, wanted]
        return replace(
            self._answered(held, output),
            history_entry=entry.dump(),
            messages=output.message_count,
            state_ops=own,
            effects=effects,
            window_kept=output.window_kept,
        )

    def _check_size(self, answer: bytes) -> None:
        """Limit what a caller gets. What goes to the history are the turn's steps, which the journal has limited."""
        if len(answer) > self._settings.result_limit_bytes:
            raise ResultTooLarge(f"the answer has {len(answer):,} bytes. {ResultTooLarge.__doc__}")

    def _with_completed_steps(self, held: HeldTurn, ending: Ending) -> Ending:
        """The ending with the steps that the turn finished. Only turns of agents have such steps."""
        try:
            request = request_of(held)
            if request.team is not None or request.operation is not None or request.extraction or request.titles:
                return ending
            turn = self._input(held, request)
        except (TurnFailed, SealError):  # the request cannot be read
            return ending
        if not self._parts.engine.passed_hooks(turn, held.steps):
            return ending
        return with_completed_steps(held, turn, ending, self._parts.states)

    async def _clean_up(self, held: HeldTurn, journal: LeasedJournal) -> None:
        """Cancel the turns of agents that it asked, and remove the chunks of a document that was not completed."""
        if held.delegations is not None:
            await held.delegations.cancel()
        if held.operation is not None:
            try:
                await self._parts.retrieval.undo(held, held.operation, journal)
            except (BackendError, TurnFailed) as error:
                # The chunks are not visible. The next document of that name removes them, or the end of the scope.
                _log.warning("operation_not_undone", turn=held.turn_id, error=str(error))

    # --- outcomes that are no endings -------------------------------------------------------------------

    def _stopped(self, held: HeldTurn) -> Outcome:
        match held.stop_reason:
            case StopReason.CANCELLED:
                return ending_for(Closing.CANCELLED)
            case StopReason.DEADLINE:
                return failed(TurnDeadlineExceeded())
            case StopReason.LEASE_LOST | StopReason.STORE_UNREACHABLE:
                return self._parts.lost_leases.report(held)
            case StopReason.HANDOVER | None:  # None: the process itself is going down
                return NotEnded.HANDED_OVER

    async def _unavailable(self, held: HeldTurn, error: BackendError) -> Outcome:
        if isinstance(error, StoreUnavailable):  # not a retry: an outage of the store must not use up a turn's retries
            _log.warning("turn_waits_for_store", turn=held.turn_id, error=str(error))
            return Postpone(_STORE_PAUSE)
        return await self._retry(held, TransientModelError(str(error)), RetrievalUnavailable)

    async def _retry(self, held: HeldTurn, error: TransientModelError, last_error: type[TurnFailed]) -> Outcome:
        """Another try after a pause; or the end of the turn with `last_error`, if its tries or its time are used up.

        A call that was not sent, because the provider's rate limit holds the fleet's calls back, is no try.
        """
        s, tried, limit = self._settings, held.turn.retries, error.limit
        counted = limit is None or limit.asked
        if counted and tried >= s.model_retries:
            return failed(last_error(f"{error} (tried {tried + 1} times; SESSIONFLEET_MODEL_RETRIES)"))
        pause = error.retry_after or min(s.model_backoff_limit, s.model_backoff * 2**tried)
        if limit is not None:
            pause = max(pause, await self._parts.model_limits.pause(held, limit) or 0.0)
        if pause >= held.seconds_left:
            return failed(last_error(f"{error} (the next try would be after the turn's deadline)"))
        tried += counted
        _log.warning("model_error_passing", turn=held.turn_id, error=str(error), pause=pause, tried=tried)
        return Retry(pause, str(error), counted)


def log_failed(turn_id: str, error: TurnFailed) -> None:
    """Log why a turn failed. The caller gets the message; the traceback through a user's tool or agent is only here."""
    _log.warning(
        "turn_failed", turn=turn_id, error=repr(error), exc_info=None if isinstance(error, _EXPLAINED) else error
    )


def _waiting(held: HeldTurn, waiting: Waiting) -> Outcome:
    if any(call.kind is CallKind.TURN for call in waiting.calls) and held.delegations is not None:
        return WaitForTurns(held.delegations.pause())  # people are asked once the other agents have answered
    return WaitForAnswers(waiting.calls)
