"""Runs one turn's agent with its journal: nothing finished is paid for twice, no side effect happens twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from pydantic_ai.durable_exec import replay_scope
from pydantic_ai.run import AgentRunResult
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from sessions.errors import TurnFailed
from workers.engine.agents import AgentCache, PreparedAgent
from workers.engine.deltas import DeltaBuffer
from workers.engine.failures import classify
from workers.engine.hooks import BEFORE_TURN, HookChain
from workers.engine.models import OFFLINE, ModelResolver
from workers.engine.pending_calls import stop_if_waiting
from workers.engine.ports import EventSink, RunState, StepJournal, TurnInput, TurnOutput, Waiting
from workers.engine.registry import Registry
from workers.engine.scope import TurnScope, current_recall, current_scope
from workers.engine.transcript import input_digest, load_history, turn_output, with_output

# A turn is bounded by its deadline; pydantic-ai's own bound of 50 requests would cut long ones short.
_NO_LIMIT = UsageLimits(request_limit=None)


class Engine:
    """One per worker process, on its one event loop; runs any number of turns at once."""

    def __init__(
        self,
        registry: Registry,
        *,
        default_model: str = OFFLINE,
        result_limit_bytes: int = 8 * 1024 * 1024,
        delta_ms: int = 30,
        delta_chars: int = 256,
        thread_limit: int = 100,
        hooks: Sequence[str] = (),
        first_token_timeout: float = 120.0,
        token_timeout: float = 60.0,
    ) -> None:
        """Make an engine; nothing is imported or connected before a turn needs it.

        Args:
            registry: the tools, agents and models of this worker.
            default_model: for turns whose input names no default.
            result_limit_bytes: of each step and each answer.
            delta_ms: how long streamed text is gathered, in milliseconds.
            delta_chars: after how many characters it is sent at once.
            hooks: names of hooks for all turns of this worker.
            first_token_timeout: seconds to the first token of a streamed answer.
            token_timeout: seconds between two tokens of a streamed answer.
            thread_limit: how many sync tools run at once; each takes a thread.
        """
        self._default_model = default_model
        self._result_limit_bytes = result_limit_bytes
        self._delta_ms = delta_ms
        self._delta_chars = delta_chars
        self._thread_limit = thread_limit
        self._first_token_timeout = first_token_timeout
        self._token_timeout = token_timeout
        self._registry = registry
        self._hooks = tuple(hooks)
        registry.chosen_hooks(self._hooks)  # a name that is wrong is found when the worker starts
        self._agents = AgentCache(registry, ModelResolver(registry.models))
        self._loop: asyncio.AbstractEventLoop | None = None

    def passed_hooks(self, turn: TurnInput, steps: Mapping[str, bytes]) -> bool:
        """Whether the hooks that look at a turn's message have let it pass, as far as its journal says.

        What they refused, or have not seen yet, must not be kept.
        """
        if BEFORE_TURN in steps:
            return True
        try:
            return not any(h.before_turn for h in self._registry.chosen_hooks((*self._hooks, *turn.agent.hooks)))
        except TurnFailed:  # this worker does not know one of them
            return False

    async def run(self, turn: TurnInput, journal: StepJournal, events: EventSink, state: RunState) -> TurnOutput:
        """Run a turn, or go on with one behind its last finished step.

        Raises:
            Waiting: it waits for answers from outside.
            TurnFailed: the turn cannot succeed; the subclass says why.
            TransientModelError: the model could not answer now.
            HandedOver: `state.draining` was set, and the next thing would have been a request to the model.
            LeaseLost: as the journal or the sink raised it.
            CorruptRecord: the history cannot be read.
        """
        self._size_threads()
        prepared = self._agents.prepare(turn.agent, turn.default_model or self._default_model)
        hooks = HookChain(self._registry.chosen_hooks((*self._hooks, *turn.agent.hooks)), turn)
        scope = self._scope(turn, journal, events, state, prepared, hooks)
        token = current_scope.set(scope)
        recall = current_recall.set(state.recall)
        try:
            message = await hooks.message(turn.message, journal)
            result = await self._run_agent(turn, message, prepared, scope.deltas)
            stop_if_waiting(scope)
            scope.check_open()
            if scope.deltas is not None:
                await scope.deltas.flush()
            output = turn_output(result, turn, scope.spent)
            if not isinstance(output.output, str):
                output = with_output(output, await hooks.answer(output.output))
            scope.check_size("the answer", len(output.text.encode()))
            return output
        except Exception as error:
            if scope.pending and scope.aborted is None:
                raise Waiting(list(scope.pending.values())) from error
            cause = scope.aborted or classify(error)
            if cause is error:
                raise
            raise cause from (cause.__cause__ or error)
        finally:
            current_scope.reset(token)
            current_recall.reset(recall)
            if scope.deltas is not None:
                state.partial_text = scope.deltas.unfinished
                await scope.deltas.close()

    async def _run_agent(
        self, turn: TurnInput, message: str, prepared: PreparedAgent, deltas: DeltaBuffer | None
    ) -> AgentRunResult[Any]:
        options: Mapping[str, Any] = prepared.options
        if turn.recalled:
            own = options.get("instructions")
            options = {**options, "instructions": [own, turn.recalled] if own else turn.recalled}
        # Keeps the spans of replayed steps out of the traces: they were reported when the steps ran.
        with replay_scope():
            return await prepared.agent.run(
                message,
                message_history=load_history(turn.history, turn.agent.name) or None,
                run_id=turn.turn_id,
                conversation_id=turn.session_id,
                usage_limits=_NO_LIMIT,
                infer_name=False,
                event_stream_handler=deltas.consume if deltas is not None else None,
                model_settings=self._model_settings(prepared),
                **options,
            )

    def _model_settings(self, prepared: PreparedAgent) -> ModelSettings:
        """The limit of this worker, where a registered agent does not set its own."""
        own = prepared.agent.model_settings
        if isinstance(own, dict) and "first_event_timeout" in own:
            return ModelSettings()
        return ModelSettings(first_event_timeout=self._first_token_timeout)

    def _scope(
        self,
        turn: TurnInput,
        journal: StepJournal,
        events: EventSink,
        state: RunState,
        prepared: PreparedAgent,
        hooks: HookChain,
    ) -> TurnScope:
        streamed = turn.stream and not hooks.change_answers
        return TurnScope(
            turn=turn,
            journal=journal,
            state=state,
            input_digest=input_digest(turn),
            result_limit_bytes=self._result_limit_bytes,
            deltas=DeltaBuffer(events, self._delta_ms, self._delta_chars, self._token_timeout) if streamed else None,
            specs=prepared.specs,
            plain_text=prepared.plain_text,
            hooks=hooks,
        )

    def _size_threads(self) -> None:
        """Sync tools run in the loop's worker threads, 40 of them unless told otherwise."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            current_default_thread_limiter().total_tokens = self._thread_limit
            self._loop = loop
