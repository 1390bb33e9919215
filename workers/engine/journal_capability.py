"""The pydantic-ai capability that journals an agent's model requests and tool calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, WrapToolValidateHandler
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset
from pydantic_graph import End

from workers.engine.additions import first_tools
from workers.engine.model_journal import JournalModel
from workers.engine.pending_calls import approved_always, resolve_deferred
from workers.engine.prompt_cache import cache_settings
from workers.engine.recorded_call import find_call, must_run, validated_arguments
from workers.engine.response_repair import repaired
from workers.engine.scope import TurnScope, current_scope
from workers.engine.steering import next_steering
from workers.engine.tool_journal import JournalToolset


class JournalCapability(AbstractCapability[Any]):
    """Journals the model requests and tool calls of the open turn; outside a turn it does nothing.

    An agent that runs inside a tool is part of that tool's step and has no journal entries of its own.
    """

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Wrap the model, so that its requests are journalled."""
        return None if current_scope.get() is None else JournalModel(model)

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any] | None:
        """Wrap the tools, so that their calls are journalled."""
        return None if current_scope.get() is None else JournalToolset(toolset)

    def get_model_settings(self) -> Callable[[RunContext[Any]], ModelSettings]:
        """Use the provider's prompt cache, unless there are settings for that, and make the turn's choice of tools."""
        return _turn_settings

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Return the answers to deferred calls, or stop the run until all of them have arrived."""
        scope = current_scope.get()
        if scope is None:
            return None
        already_run = {call.tool_call_id for call in requests.approvals if _has_run(scope, ctx, call)}
        approved = await approved_always(scope, requests)
        return resolve_deferred(scope, requests, already_run | approved)

    async def wrap_tool_validate(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: str | dict[str, Any],
        handler: WrapToolValidateHandler,
    ) -> dict[str, Any]:
        """Validate the arguments of calls that have to run. Calls with a recorded outcome keep it."""
        scope = current_scope.get()
        if scope is None:
            return await handler(args)
        return await validated_arguments(scope, ctx, call, tool_def, args, handler)

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Add unread steering messages to the request."""
        if (scope := current_scope.get()) is not None:
            for content in await next_steering(scope):
                ctx.enqueue(*content)
        return request_context

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Continue with the response as it was recorded; for a stream, pydantic-ai passes the provider's original."""
        return response if current_scope.get() is None else repaired(response)

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:
        """Make one more model call if steering messages arrived after the last one."""
        if isinstance(result, End) and (scope := current_scope.get()) is not None:
            for content in await next_steering(scope):
                ctx.enqueue(*content)
        return result


def _turn_settings(ctx: RunContext[Any]) -> ModelSettings:
    return {**_cache_settings(ctx), **first_tools(current_scope.get())}


def _cache_settings(ctx: RunContext[Any]) -> ModelSettings:
    scope = current_scope.get()
    if scope is None or not scope.prompt_cache:
        return {}
    marked = bool(scope.turn.recalled.behind_message) and scope.requests == 0
    return cache_settings(scope.turn.session_id, ctx.model, ctx.model_settings, marked=marked)


def _has_run(scope: TurnScope, ctx: RunContext[Any], call: ToolCallPart) -> bool:
    record = find_call(scope, call.tool_call_id, ctx.retries.get(call.tool_name, 0))
    return not must_run(record, scope.spec(call.tool_name))
