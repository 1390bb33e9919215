"""What one run of the engine carries along: found by the journal's wrappers through a context variable.

One cached agent serves many turns at once, so nothing of a turn may hang on the agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from sessions.errors import JournalDiverged, ResultTooLarge
from sessions.protocol.call import Ask
from sessions.protocol.turn import Usage
from sessions.tools.decorator import ToolContext, ToolSpec
from workers.engine.deltas import DeltaBuffer
from workers.engine.hooks import HookChain
from workers.engine.ports import EventDraft, HandedOver, Recall, RunState, StepJournal, TurnInput

Raised = TypeVar("Raised", bound=Exception)


@dataclass(slots=True)
class TurnScope:
    """The open turn, as the journal sees it.

    Attributes:
        input_digest: of all that the turn was started with; part of each step's fingerprint.
        deltas: takes streamed text; None when nobody asked for it.
        specs: what is known of the tools by name; a tool that is not in it is never repeated.
        plain_text: any text ends the run, so its last response need not be durable before the commit.
        hooks: of this worker and of the turn's agent.
        requests: model responses so far, replayed ones included.
        shortened: how often the oldest turns had to be left out of a request, because the model's context is too small.
        steered: the model calls before which steering messages joined this run.
        pending: questions of this run that have no answer yet, by their keys.
        spent: what the turns of other agents cost that this one asked.
        aborted: the error that ends this run, kept here because agents and tools may swallow what passes them.
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
    requests: int = 0
    shortened: int = 0
    steered: set[int] = field(default_factory=set)
    pending: dict[str, Ask] = field(default_factory=dict)
    spent: list[Usage] = field(default_factory=list)
    aborted: Exception | None = None

    def abort(self, error: Raised) -> Raised:
        """Remember the error that ends the run, for raising it; the first one counts."""
        if self.aborted is None:
            self.aborted = error
        return error

    def diverged(self, how: str) -> JournalDiverged:
        """A replay does something else than its journal says: nothing more may run. For raising it.

        Args:
            how: what the turn does, up to "before its worker was lost".
        """
        return self.abort(
            JournalDiverged(
                f"turn {self.turn.turn_id!r} {how} before its worker was lost; a tool, prompt or agent that changed "
                f"meanwhile, or one that is not deterministic, does that. Nothing was run again. What it had finished "
                f"is in the session's history: look there before you send the message again"
            )
        )

    def check_open(self) -> None:
        """Called before anything new is started: a run that has ended starts nothing."""
        if self.aborted is not None:
            raise self.aborted

    def hand_over_if_draining(self) -> None:
        """A stopping worker starts no model request, and no tool unless another one is running beside it.

        Raises:
            HandedOver: the worker is stopping.
        """
        if self.state.draining:
            raise self.abort(HandedOver(f"turn {self.turn.turn_id} goes on at another worker"))

    def check_held(self) -> None:
        """Called directly before a model request or a tool runs.

        Raises:
            LeaseLost: the lease has ended, as far as this worker's clock knows.
        """
        try:
            self.journal.check_held()
        except Exception as error:
            self.abort(error)
            raise

    async def write(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        """Record a step; an error of the journal ends the run, whatever the agent makes of it."""
        try:
            await self.journal.record(key, value, events)
        except Exception as error:
            self.abort(error)
            raise

    def check_size(self, what: str, size: int) -> None:
        """Keep one step from filling the store.

        Raises:
            ResultTooLarge: it is over the limit.
        """
        if size > self.result_limit_bytes:
            raise self.abort(
                ResultTooLarge(
                    f"{what} has {size:,} bytes, more than the {self.result_limit_bytes:,} that "
                    f"SESSIONFLEET_RESULT_LIMIT_BYTES allows; return less, or raise the limit on the workers"
                )
            )


current_scope: ContextVar[TurnScope | None] = ContextVar("sessionfleet_turn", default=None)
# Apart from the scope, which tools do not see: what runs within one is no part of the turn's journal.
current_recall: ContextVar[Recall | None] = ContextVar("sessionfleet_recall", default=None)
current_tool: ContextVar[ToolContext] = ContextVar("sessionfleet_tool")
