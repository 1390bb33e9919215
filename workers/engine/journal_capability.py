"""The capability that puts the journals of model requests and of tool calls on any agent."""

from __future__ import annotations

from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, WrapToolValidateHandler
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset
from pydantic_graph import End

from sessions.tools.decorator import ToolSpec
from workers.engine.model_journal import JournalModel
from workers.engine.pending_calls import resolve
from workers.engine.recorded_call import arguments, begun_call, must_run
from workers.engine.response_repair import usable
from workers.engine.scope import TurnScope, current_scope
from workers.engine.steering import next_steering
from workers.engine.tool_journal import JournalToolset


class Journal(AbstractCapability[Any]):
    """Journals the model requests and tool calls of the turn that is open; outside a turn it does nothing.

    An agent that runs inside a tool is part of that tool's step and is not journalled by itself.
    """

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Journal the requests to this model."""
        return None if current_scope.get() is None else JournalModel(model)

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any] | None:
        """Journal the calls of these tools."""
        return None if current_scope.get() is None else JournalToolset(toolset)

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Give the answers that came, or stop the run until they do."""
        scope = current_scope.get()
        if scope is None:
            return None
        begun = {c.tool_call_id for c in requests.approvals if _has_begun(scope, ctx, c)}
        return resolve(scope, requests, begun)

    async def wrap_tool_validate(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: str | dict[str, Any],
        handler: WrapToolValidateHandler,
    ) -> dict[str, Any]:
        """Check the arguments of calls that have to run; those that have an end in the journal keep it."""
        scope = current_scope.get()
        return await (handler(args) if scope is None else arguments(scope, ctx, call, tool_def, args, handler))

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Let steering messages join the request."""
        if (scope := current_scope.get()) is not None:
            for text in await next_steering(scope):
                ctx.enqueue(text)
        return request_context

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Go on with the response that is journalled: a stream gives the provider's own."""
        return response if current_scope.get() is None else usable(response)

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:
        """Let steering that came behind the last model call have one more."""
        if isinstance(result, End) and (scope := current_scope.get()) is not None:
            for text in await next_steering(scope):
                ctx.enqueue(text)
        return result


def _has_begun(scope: TurnScope, ctx: RunContext[Any], call: ToolCallPart) -> bool:
    spec = scope.specs.get(call.tool_name) or ToolSpec(call.tool_name)
    return not must_run(begun_call(scope, call.tool_call_id, ctx.retries.get(call.tool_name, 0)), spec)
