"""Runs one turn's agent with its journal: no completed step is paid for or takes effect twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from anyio.to_thread import current_default_thread_limiter
from pydantic_ai.durable_exec import replay_scope
from pydantic_ai.messages import ModelMessage, UserContent
from pydantic_ai.run import AgentRunResult
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from sessions.errors import CorruptRecord, TurnFailed
from sessions.protocol.message import file_ids
from workers.engine.additions import with_additions
from workers.engine.agents import AgentCache, PreparedAgent
from workers.engine.attachments import has_files, prompt, without_files
from workers.engine.deltas import DeltaBuffer
from workers.engine.failures import classify
from workers.engine.hooks import BEFORE_TURN, HookChain, Hooks
from workers.engine.long_results import RESULT_BYTES
from workers.engine.message_files import FETCHED, fetched_parts, turns_sent_again
from workers.engine.models import OFFLINE, ModelResolver
from workers.engine.pending_calls import stop_if_waiting
from workers.engine.ports import EventSink, PastTurn, RunState, StepJournal, TurnInput, TurnOutput, Waiting
from workers.engine.prices import PriceList
from workers.engine.registry import Registry
from workers.engine.scope import TurnScope, current_recall, current_scope
from workers.engine.transcript import input_digest, load_history, turn_output, with_output
from workers.engine.window import kept_in_window, token_limit

# A turn is limited by its deadline; pydantic-ai's default limit of 50 requests would end long turns early.
_NO_LIMIT = UsageLimits(request_limit=None)


class Engine:
    """Runs any number of turns concurrently, on the one event loop of a worker process."""

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
        file_turns: int = 5,
        prompt_cache: bool = True,
        history_tokens: int | None = None,
        result_bytes: int = RESULT_BYTES,
        prices: PriceList | None = None,
    ) -> None:
        """Create an engine; nothing is imported or connected until a turn needs it.

        Args:
            registry: the tools, agents and models of this worker.
            default_model: for turns whose input names no default.
            result_limit_bytes: the maximum size of a step and of an answer.
            delta_ms: the least time between two events of streamed text, in milliseconds.
            delta_chars: how many characters are buffered before they are sent early.
            thread_limit: how many sync tools run concurrently; each occupies a thread.
            hooks: names of hooks that apply to all turns of this worker.
            first_token_timeout: the maximum wait for the first token of a streamed answer, in seconds.
            token_timeout: the maximum wait between two tokens of a streamed answer, in seconds.
            file_turns: for how many later turns the model gets a file of the history again.
            prompt_cache: use providers' prompt caches, unless a model, agent or turn has settings for that.
            history_tokens: the most tokens of a conversation before the window moves; None: as `token_limit` says.
            result_bytes: the bytes to which long tool results of past turns are shortened.
            prices: what models cost; by default as pydantic-ai's list says.
        """
        self._default_model = default_model
        self._result_limit_bytes = result_limit_bytes
        self._delta_ms = delta_ms
        self._delta_chars = delta_chars
        self._thread_limit = thread_limit
        self._first_token_timeout = first_token_timeout
        self._token_timeout = token_timeout
        self._file_turns = file_turns
        self._prompt_cache = prompt_cache
        self._history_tokens = history_tokens
        self._result_bytes = result_bytes
        self.prices = prices or PriceList()
        self._registry = registry
        self._hooks = tuple(hooks)
        registry.hooks_named(self._hooks)  # an unknown name must fail at start-up, not at the first turn
        self._models = ModelResolver(registry.models)
        self._agents = AgentCache(registry, self._models)
        self._loop: asyncio.AbstractEventLoop | None = None

    def passed_hooks(self, turn: TurnInput, steps: Mapping[str, bytes]) -> bool:
        """Whether the journal shows that the turn's `before_turn` hooks have accepted its message.

        A message that they refused or have not seen must not be kept in the history.
        """
        if BEFORE_TURN in steps:
            return True
        try:
            return not any(hooks.before_turn for hooks in self._hooks_of(turn))
        except TurnFailed:  # one of them is not registered on this worker
            return False

    async def run(self, turn: TurnInput, journal: StepJournal, events: EventSink, state: RunState) -> TurnOutput:
        """Run a turn, or resume one after its last completed step.

        Raises:
            Waiting: the turn waits for answers to pending calls.
            TurnFailed: the turn cannot succeed; the subclass says why.
            TransientModelError: the model cannot answer now; try again later.
            HandedOver: `state.draining` was set before the next model request or tool call.
            LeaseLost: the journal or the event sink raised it.
            CorruptRecord: the history cannot be read.
        """
        self._size_threads()
        turn = await self._with_aged_files(turn, journal)
        prepared = self._prepared(turn)
        hooks = HookChain(self._hooks_of(turn), turn)
        scope = self._scope(turn, journal, events, state, prepared, hooks)
        token = current_scope.set(scope)
        recall = current_recall.set(state.recall)
        try:
            message = await hooks.before_turn(turn.message, journal)
            parts = await fetched_parts(turn.parts, FETCHED, journal, state)
            scope.own_files.update(file_ids(parts))
            result = await self._run_agent(turn, prompt(message, parts, turn.message), prepared, scope.deltas)
            stop_if_waiting(scope)
            scope.check_open()
            if scope.deltas is not None:
                await scope.deltas.flush()
            output = turn_output(result, turn, scope.prices, scope.delegate_usage)
            output = replace(output, window_kept=self._window_kept(scope, prepared, result.new_messages()))
            if not isinstance(output.output, str):
                output = with_output(output, await hooks.after_turn(output.output))
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
                state.partial_text = scope.deltas.unrecorded_text
                await scope.deltas.close()

    async def _run_agent(
        self, turn: TurnInput, message: str | list[UserContent], prepared: PreparedAgent, deltas: DeltaBuffer | None
    ) -> AgentRunResult[Any]:
        options = with_additions(prepared.options, turn)
        if turn.models:
            options = {**options, "model": self._models.resolve_chain(turn.models)}
        # Keep replayed steps out of the traces: their spans were reported when the steps first ran.
        with replay_scope():
            return await prepared.agent.run(
                message,
                message_history=load_history(turn.history, turn.agent.name, self._result_bytes) or None,
                run_id=turn.turn_id,
                conversation_id=turn.session_id,
                usage_limits=_NO_LIMIT,
                infer_name=False,
                event_stream_handler=deltas.consume if deltas is not None else None,
                model_settings=self._model_settings(prepared, turn),
                metadata=dict(turn.metadata) or None,  # an attribute of the run's span
                **options,
            )

    def _window_kept(self, scope: TurnScope, prepared: PreparedAgent, new: Sequence[ModelMessage]) -> int | None:
        turn = scope.turn
        return kept_in_window(
            turn.history,
            new,
            limit=self._token_limit(turn, prepared),
            halved=scope.halved,
            result_bytes=self._result_bytes,
            parameters=scope.parameters,
            added=turn.summary + turn.recalled.behind_message,
        )

    def token_limit(self, turn: TurnInput) -> int:
        """The most tokens that a conversation of the turn's agent may have before the window moves.

        Raises:
            TurnConfigurationError: the agent or its model is unknown to this worker.
        """
        return self._token_limit(turn, self._prepared(turn))

    def _token_limit(self, turn: TurnInput, prepared: PreparedAgent) -> int:
        model = self._models.resolve_chain(turn.models) if turn.models else prepared.options.get("model")
        return token_limit(self._history_tokens, model or prepared.agent.model)

    def _prepared(self, turn: TurnInput) -> PreparedAgent:
        default = turn.default_model or self._default_model
        return self._agents.prepare(turn.agent, default, turn.additions.output_schema)

    async def _with_aged_files(self, turn: TurnInput, journal: StepJournal) -> TurnInput:
        """The input with notes in the place of files that were sent too many turns ago."""
        if not any(has_files(past.messages) for past in turn.history):
            return turn
        again = await turns_sent_again(self._file_turns, len(turn.history), journal)
        old = len(turn.history) - again
        return replace(turn, history=[_without_files(p) if i < old else p for i, p in enumerate(turn.history)])

    def _model_settings(self, prepared: PreparedAgent, turn: TurnInput) -> ModelSettings:
        """The turn's settings, and this worker's first-token timeout unless a registered agent sets its own."""
        own = prepared.agent.model_settings
        theirs = isinstance(own, dict) and "first_event_timeout" in own
        ours = {} if theirs else {"first_event_timeout": self._first_token_timeout}
        return cast(ModelSettings, {**ours, **turn.model_settings})

    def _scope(
        self,
        turn: TurnInput,
        journal: StepJournal,
        events: EventSink,
        state: RunState,
        prepared: PreparedAgent,
        hooks: HookChain,
    ) -> TurnScope:
        streamed = turn.stream and not hooks.rewrites_answers
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
            prompt_cache=self._prompt_cache,
            result_bytes=self._result_bytes,
            prices=self.prices,
        )

    def _hooks_of(self, turn: TurnInput) -> list[Hooks]:
        return self._registry.hooks_named((*self._hooks, *turn.agent.hooks))

    def _size_threads(self) -> None:
        """Raise the number of the loop's worker threads, in which sync tools run, from anyio's default of 40."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            current_default_thread_limiter().total_tokens = self._thread_limit
            self._loop = loop


def _without_files(past: PastTurn) -> PastTurn:
    if not has_files(past.messages):
        return past
    try:
        return replace(past, messages=without_files(past.messages))
    except ValueError as error:
        raise CorruptRecord(f"the session's history cannot be read by this worker: {error}") from error
