"""The journal of model requests.

A response is recorded under its number among the run's responses, so that a failed request leaves no gap, together
with a fingerprint of its request. A replay that diverges is therefore detected before anything runs twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.durable_exec import record_durable_unit
from pydantic_ai.exceptions import FallbackExceptionGroup, ModelAPIError
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models import (
    CompletedStreamedResponse,
    Model,
    ModelRequestParameters,
    StreamedResponse,
)
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from sessions.protocol.event import EventType
from sessions.protocol.turn import ModelUsage
from workers.engine.asked_request import AskedRequest, next_key
from workers.engine.estimate import estimate_of
from workers.engine.fingerprint import fingerprint
from workers.engine.limited_model import limited
from workers.engine.model_record import BROKEN, ModelRecord, dump_record, load_record
from workers.engine.pending_calls import call_arguments
from workers.engine.ports import EventDraft, TransientModelError
from workers.engine.prices import PriceList
from workers.engine.request_shape import RequestShape
from workers.engine.response_repair import repaired
from workers.engine.scope import TurnScope, current_scope


class JournalModel(WrapperModel):
    """Returns the recorded response if there is one; otherwise asks the model and records its response.

    pydantic-ai wraps the model anew for each request, and prepares the request before it is made.
    """

    _asked: AskedRequest | None = None

    def prepare_messages(
        self, messages: list[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
    ) -> list[ModelMessage]:
        """Prepare a request for the model, unless the journal has its response."""
        if (scope := current_scope.get()) is not None:
            self._asked = AskedRequest.of(scope, messages)
            if self._asked.response is not None:
                return messages
        return self.wrapped.prepare_messages(messages, model_request_parameters)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Make a request, or return its recorded response."""
        scope = current_scope.get()
        if scope is None:
            return await self.wrapped.request(messages, model_settings, model_request_parameters)
        step = _ModelStep(scope, messages, model_request_parameters, self._asked)
        if (recorded := step.recorded()) is not None:
            return recorded
        step.check_may_start()
        shape = RequestShape(scope, self.wrapped)
        sent = await shape.first(messages, model_settings)
        await step.reserve(self.wrapped, sent, model_settings, model_request_parameters)
        while True:
            scope.check_held()
            asked = await shape.with_files(sent)
            try:
                response = await self._within_limits(scope).request(asked, model_settings, model_request_parameters)
            except (ModelAPIError, FallbackExceptionGroup) as error:
                sent = shape.reduced(sent, error)
            else:
                return await step.record(response)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Make a streamed request. A recorded response is returned without events, which were already sent."""
        scope = current_scope.get()
        if scope is None:
            live = self.wrapped.request_stream(messages, model_settings, model_request_parameters, run_context)
            async with live as stream:
                yield stream
            return
        step = _ModelStep(scope, messages, model_request_parameters, self._asked)
        if (recorded := step.recorded()) is not None:
            yield CompletedStreamedResponse(recorded, model_request_parameters=model_request_parameters)
            return
        step.check_may_start()
        shape = RequestShape(scope, self.wrapped)
        sent = await shape.first(messages, model_settings)
        await step.reserve(self.wrapped, sent, model_settings, model_request_parameters)
        async with AsyncExitStack() as opened:
            while True:
                scope.check_held()
                asked = await shape.with_files(sent)
                try:
                    provider = self._within_limits(scope)
                    live = provider.request_stream(asked, model_settings, model_request_parameters, run_context)
                    stream = await opened.enter_async_context(live)
                except (ModelAPIError, FallbackExceptionGroup) as error:
                    sent = shape.reduced(sent, error)
                else:
                    break
            try:
                yield stream
                response = stream.get()
                _check_finished(response)
            except asyncio.CancelledError:
                scope.state.partial_usage = broken_usage(stream, scope.prices)  # cancelled: no time left to write
                raise
            except Exception:
                await step.record_broken(broken_usage(stream, scope.prices))
                raise
        await step.record(response)

    def _within_limits(self, scope: TurnScope) -> Model:
        """The model as it is asked: within the fleet's limits, if the turn has any."""
        limits = scope.state.model_limits
        return self.wrapped if limits is None else limited(self.wrapped, limits)


def _check_finished(response: ModelResponse) -> None:
    """Reject a response without a finish reason: a connection that broke looks the same as the end of a stream.

    Models that are functions in this process give no finish reason; they also name no provider.

    Raises:
        TransientModelError: the provider gave no finish reason, so the answer may be incomplete.
    """
    if response.finish_reason is None and response.provider_name is not None and response.state == "complete":
        raise TransientModelError("the model's stream ended without a finish reason: the answer may be incomplete")


def broken_usage(stream: StreamedResponse, prices: PriceList) -> ModelUsage:
    """The usage of a stream that did not end, as far as its provider has reported it."""
    usage = stream.usage
    return prices.usage(stream.provider_name, stream.model_name, usage, known=usage.total_tokens > 0)


class _ModelStep:
    def __init__(
        self,
        scope: TurnScope,
        messages: Sequence[ModelMessage],
        parameters: ModelRequestParameters,
        asked: AskedRequest | None,
    ) -> None:
        self._scope = scope
        self._key = next_key(scope)
        self._asked = asked if asked is not None and asked.key == self._key else None
        self._fingerprint = "" if self._known() else fingerprint(scope, messages)
        scope.parameters = parameters
        self._outputs = {tool.name for tool in parameters.output_tools}

    def recorded(self) -> ModelResponse | None:
        response = self._response()
        if response is not None:
            self._scope.requests += 1
            self._count_tool_calls(response)
            record_durable_unit(executed=False)
        return response

    def _known(self) -> ModelResponse | None:
        return None if self._asked is None else self._asked.response

    def _response(self) -> ModelResponse | None:
        if (known := self._known()) is not None:
            return known
        if (raw := self._scope.journal.lookup(self._key)) is None:
            return None
        record = load_record(raw)
        if record.fingerprint != self._fingerprint:
            raise self._scope.diverged(f"sends the model a different request at step {self._key!r} than it did")
        return record.response

    def check_may_start(self) -> None:
        self._scope.check_open()
        self._scope.check_model_calls()
        self._scope.hand_over_if_draining()

    async def reserve(
        self,
        model: Model,
        messages: Sequence[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> None:
        """Reserve what the request may cost, if a budget applies to the turn."""
        budget = self._scope.state.budget
        if budget is None:
            return
        try:
            await budget.reserve(estimate_of(model, messages, settings, parameters, self._scope.prices))
        except Exception as error:
            self._scope.abort(error)
            raise

    async def record_broken(self, usage: ModelUsage) -> None:
        """Record the reported usage of a broken stream, which was paid for too."""
        scope = self._scope
        if scope.aborted is None:
            number = next(n for n in count(1) if scope.journal.lookup(f"{BROKEN}{n}") is None)
            await scope.write(f"{BROKEN}{number}", usage.model_dump_json().encode())

    async def record(self, response: ModelResponse) -> ModelResponse:
        """Record a response and return it, changed by the worker's hooks."""
        self._scope.state.unwritten_steps += 1
        try:
            return await self._record(response)
        finally:
            self._scope.state.unwritten_steps -= 1

    async def _record(self, response: ModelResponse) -> ModelResponse:
        scope = self._scope
        response = repaired(response)
        if scope.deltas is None and scope.hooks.rewrites_answers and _ends_run(response):
            response = await scope.hooks.after_turn_response(response)
        if scope.deltas is not None:
            await scope.deltas.flush()
        if response.state != "complete":  # the provider continues it in a further request: not a completed step yet
            return response
        value = dump_record(self._record_of(response))
        scope.check_size("a model response", len(value))
        events = list(self._events(response))
        if scope.plain_text and _ends_run(response):
            scope.journal.record_final(self._key, value, events)
        else:
            await scope.write(self._key, value, events)
        scope.requests += 1
        if scope.deltas is not None:
            scope.deltas.mark_recorded()
        record_durable_unit(executed=True)
        self._count_tool_calls(response)
        return response

    def _record_of(self, response: ModelResponse) -> ModelRecord:
        return ModelRecord(self._fingerprint, response, asked=self._asked.fingerprint if self._asked else "")

    def _count_tool_calls(self, response: ModelResponse) -> None:
        self._scope.count_tool_calls(sum(map(self._is_tool_call, response.parts)))

    def _is_tool_call(self, part: ModelResponsePart) -> bool:
        """Whether it calls a tool; an answer of a certain type is a call as well."""
        return isinstance(part, ToolCallPart) and part.tool_name not in self._outputs

    def _events(self, response: ModelResponse) -> Iterator[EventDraft]:
        for part in response.parts:
            if isinstance(part, TextPart):
                if part.content and self._scope.deltas is None:
                    yield EventDraft(EventType.TEXT, {"text": part.content})
            elif isinstance(part, ToolCallPart) and part.tool_name not in self._outputs:
                data = {"tool": part.tool_name, "call_id": part.tool_call_id, "args": call_arguments(part)}
                yield EventDraft(EventType.TOOL_CALL, data)


def _ends_run(response: ModelResponse) -> bool:
    """Whether a plain text agent accepts this response as its answer: it has text and no tool calls."""
    parts = response.parts
    return not any(isinstance(part, ToolCallPart) for part in parts) and any(
        isinstance(part, TextPart) and part.content.strip() for part in parts
    )
