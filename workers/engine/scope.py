"""The state of one run of the engine, which the journal's wrappers find in a context variable.

One cached agent serves many turns concurrently, so the state of a turn cannot be kept on the agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic_ai.models import ModelRequestParameters

from sessions.errors import JournalDiverged, ResultTooLarge, TurnLimitExceeded
from sessions.protocol.call import WaitingCall
from sessions.protocol.turn import Usage
from sessions.tools.decorator import ToolContext, ToolSpec
from workers.engine.deltas import DeltaBuffer
from workers.engine.hooks import HookChain
from workers.engine.ports import EventDraft, HandedOver, Recall, RunState, StepJournal, TurnInput
from workers.engine.prices import PriceList

Raised = TypeVar("Raised", bound=Exception)


@dataclass(slots=True)
class TurnScope:
    """The open turn, as the journal sees it.

    Attributes:
        input_digest: a digest of the turn's input; part of each step's fingerprint.
        deltas: buffers streamed text; None if the turn is not streamed.
        specs: the specifications of the tools by name. A tool without one is never run again after a crash.
        plain_text: any text ends the run, so its last response need not be durable before the commit.
        hooks: those of this worker and of the turn's agent.
        prompt_cache: use the provider's prompt cache.
        result_bytes: the bytes to which long tool results of past turns are shortened.
        prices: what models cost.
        requests: the number of model responses so far, including replayed ones.
        tool_calls: how many tool calls those ask for.
        shortened: how often a request was shortened, because the model's context is too small; halved: how often the
            oldest turns were left out for that.
        parameters: of the last request: the tools that the model has.
        steered: the numbers of the model calls to which this run has added steering messages.
        pending: calls that wait for an answer, by their keys.
        delegate_usage: the usage of other agents' turns that this one asked.
        file_bytes: files that were read for requests of this run, by their ids.
        files_refused: the provider refused a file, so those that are not of this turn's messages are left out.
        own_files: ids of the files of the messages that this turn answers.
        aborted: the error that ends this run. Agents and tools may swallow exceptions, so it is also kept here.
    """

    turn: TurnInput
    journal: StepJournal
    state: RunState
    input_digest: bytes
    result_limit_bytes: int
    deltas: DeltaBuffer | None
    specs: Mapping[str, ToolSpec]
    plain_text: bool
    hooks: HookChain
    prompt_cache: bool
    result_bytes: int
    prices: PriceList
    requests: int = 0
    tool_calls: int = 0
    shortened: int = 0
    halved: int = 0
    parameters: ModelRequestParameters | None = None
    steered: set[int] = field(default_factory=set)
    pending: dict[str, WaitingCall] = field(default_factory=dict)
    delegate_usage: list[Usage] = field(default_factory=list)
    file_bytes: dict[str, bytes] = field(default_factory=dict)
    files_refused: bool = False
    own_files: set[str] = field(default_factory=set)
    aborted: Exception | None = None

    def spec(self, tool: str) -> ToolSpec:
        """The specification of a tool; the strictest one if none is known."""
        return self.specs.get(tool) or ToolSpec(tool)

    def abort(self, error: Raised) -> Raised:
        """Note the error that ends the run, unless there is one already, and return it to be raised."""
        if self.aborted is None:
            self.aborted = error
        return error

    def diverged(self, how: str) -> JournalDiverged:
        """Abort a replay that differs from its journal; returns the error to be raised.

        Args:
            how: what the turn does now and did not do, completed by "before its worker was lost".
        """
        return self.abort(
            JournalDiverged(
                f"turn {self.turn.turn_id!r} {how} before its worker was lost: a tool, prompt or agent has changed "
                f"since, or is not deterministic. Nothing was run again. The steps that the turn had completed are "
                f"in the session's history: check them before you send the message again"
            )
        )

    def check_open(self) -> None:
        """Raise the error that ended this run, if any. Called before anything new is started."""
        if self.aborted is not None:
            raise self.aborted

    def check_model_calls(self) -> None:
        """Keep a turn from asking a model more often than it may.

        Raises:
            TurnLimitExceeded: it has done so as often as it may.
        """
        most = self.turn.limits.model_calls
        if most is not None and self.requests >= most:
            raise self.abort(_too_many("model_calls", "model calls", most))

    def count_tool_calls(self, number: int) -> None:
        """Count the tool calls of a model response, before any of them runs: stopping between them would cut some off.

        Raises:
            TurnLimitExceeded: the turn may not make as many.
        """
        self.tool_calls += number
        most = self.turn.limits.tool_calls
        if most is not None and self.tool_calls > most:
            raise self.abort(_too_many("tool_calls", "tool calls", most))

    def hand_over_if_draining(self) -> None:
        """Keep a stopping worker from starting a model request or, unless another one is running, a tool.

        Raises:
            HandedOver: the worker is stopping.
        """
        if self.state.draining:
            raise self.abort(HandedOver(f"turn {self.turn.turn_id} is resumed by another worker"))

    def check_held(self) -> None:
        """Check the lease immediately before a model request or a tool runs.

        Raises:
            LeaseLost: the lease has expired by this worker's clock.
        """
        try:
            self.journal.check_held()
        except Exception as error:
            self.abort(error)
            raise

    async def write(self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()) -> None:
        """Record a step. An error of the journal ends the run, even if the agent swallows it."""
        try:
            await self.journal.record(key, value, events, files)
        except Exception as error:
            self.abort(error)
            raise

    def check_size(self, what: str, size: int) -> None:
        """Limit the size of a step, so that it cannot fill the store.

        Raises:
            ResultTooLarge: it exceeds the limit.
        """
        if size > self.result_limit_bytes:
            raise self.abort(
                ResultTooLarge(
                    f"{what} has {size:,} bytes, more than the {self.result_limit_bytes:,} that "
                    f"SESSIONFLEET_RESULT_LIMIT_BYTES allows; return less, or raise the limit on the workers"
                )
            )


def _too_many(limit: str, what: str, allowed: int) -> TurnLimitExceeded:
    return TurnLimitExceeded(
        f"the turn may make {allowed:,} {what}, and needs more. What it finished is in the session's history",
        limit=limit,
        allowed=allowed,
    )


current_scope: ContextVar[TurnScope | None] = ContextVar("sessionfleet_turn", default=None)
# Not part of the scope, which is hidden while a tool runs: an agent within a tool must not write to the turn's journal.
current_recall: ContextVar[Recall | None] = ContextVar("sessionfleet_recall", default=None)
current_tool: ContextVar[ToolContext] = ContextVar("sessionfleet_tool")
