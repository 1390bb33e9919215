"""Builds pydantic-ai agents from agent configurations, and caches them.

Building an agent costs more than running a turn, so turns with the same configuration share one agent. It therefore
holds no state of a turn.
"""

from __future__ import annotations

import inspect
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import PydanticUserError
from pydantic_ai import Agent, FunctionToolset, ModelRetry, RunContext, StructuredDict, Tool
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import UserError
from pydantic_ai.output import OutputContext

from sessions.errors import TurnConfigurationError
from sessions.protocol.agent import AgentConfig
from sessions.protocol.finite import non_finite
from sessions.tools.decorator import ToolContext, ToolSpec, spec_of
from workers.engine.delegation import delegate_spec, delegate_tool
from workers.engine.journal_capability import JournalCapability
from workers.engine.models import ModelResolver
from workers.engine.recall_tools import recall_specs, recall_tools
from workers.engine.registry import RegisteredTool, Registry
from workers.engine.scope import current_tool

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

CACHED_AGENTS = 256
TOOL_RETRIES = 2
OUTPUT_RETRIES = 2
_MAX_SCHEMA_ERRORS = 5


@dataclass(frozen=True, slots=True)
class PreparedAgent:
    """An agent that is ready to run, and what the journal needs to know about it.

    Attributes:
        options: arguments of each run, in addition to the turn's input.
        specs: the specifications of its tools by name.
        plain_text: whether any text response ends the run.
    """

    agent: Agent[Any, Any]
    options: Mapping[str, Any]
    specs: Mapping[str, ToolSpec]
    plain_text: bool


class AgentCache:
    """The most recently used agents of this process."""

    def __init__(self, registry: Registry, models: ModelResolver, size: int = CACHED_AGENTS) -> None:
        self._registry = registry
        self._models = models
        self._size = size
        self._prepared: OrderedDict[tuple[str, str, str], PreparedAgent] = OrderedDict()

    def prepare(
        self, config: AgentConfig, default_model: str, output_schema: dict[str, Any] | None = None
    ) -> PreparedAgent:
        """Return the agent of this configuration, building it on first use.

        Args:
            output_schema: the form of the answers, instead of the configuration's.

        Raises:
            TurnConfigurationError: its name, tools or model are unknown to this worker, or it cannot be built.
        """
        key = (config.model_dump_json(), default_model, json.dumps(output_schema))
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepared[key] = self._build(config, default_model, output_schema)
            if len(self._prepared) > self._size:
                self._prepared.popitem(last=False)
        self._prepared.move_to_end(key)
        return prepared

    def _build(self, config: AgentConfig, default_model: str, output_schema: dict[str, Any] | None) -> PreparedAgent:
        registered = config.registered or (config.name_only and config.name in self._registry.agents)
        if output_schema is not None:
            name = str(output_schema.get("title") or "output")
            config = config.model_copy(update={"output_schema": output_schema, "output_name": name})
        try:
            if registered:
                return self._registered(config)
            return self._configured(config, default_model)
        except UserError as error:
            raise TurnConfigurationError(f"agent {config.name!r} cannot be built: {error}") from error

    def _configured(self, config: AgentConfig, default_model: str) -> PreparedAgent:
        tools = self._tools(config)
        agent = Agent(
            self._models.resolve_chain(config.models or (default_model,)),
            name=config.name,
            instructions=config.instructions or None,
            tools=_all_tools(config, tools),
            retries={"tools": TOOL_RETRIES, "output": OUTPUT_RETRIES},
            capabilities=_capabilities(config),
            output_type=_output_type(config) or str,
        )
        specs = _specs(config, tools)
        return PreparedAgent(agent, {}, specs, plain_text=config.output_schema is None)

    def _registered(self, config: AgentConfig) -> PreparedAgent:
        """Prepare a user's registered agent; the configuration is added to it in each run."""
        agent = self._registry.agents.get(config.name)
        if agent is None:
            raise _unknown("agent", config.name, self._registry.agent_names)
        tools = self._tools(config)
        options: dict[str, Any] = {"capabilities": _capabilities(config)}
        if config.models:
            options["model"] = self._models.resolve_chain(config.models)
        if config.instructions:
            options["instructions"] = config.instructions
        if added := _all_tools(config, tools):
            options["toolsets"] = [FunctionToolset(added)]
        if config.output_schema is not None:
            options["output_type"] = _output_type(config)
        specs = {**_own_specs(agent), **_specs(config, tools)}
        # Not plain_text: its output validators and hooks may send another request after any text.
        return PreparedAgent(agent, options, specs, plain_text=False)

    def _tools(self, config: AgentConfig) -> list[RegisteredTool]:
        known = self._registry.tools
        for name in config.tools:
            if name not in known:
                raise _unknown("tool", name, self._registry.tool_names)
        return [known[name] for name in config.tools]


class OutputSchema(AbstractCapability[Any]):
    """Validates answers against their JSON schema. pydantic-ai's StructuredDict only sends the schema to the model."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    async def after_output_validate(self, ctx: RunContext[Any], *, output_context: OutputContext, output: Any) -> Any:
        """Ask the model again if its answer does not match the schema."""
        if (found := non_finite(output)) is not None:
            raise ModelRetry(f"The output contains a number that JSON cannot represent: {found}")
        errors = sorted(self._validator.iter_errors(output), key=lambda error: error.json_path)
        if errors:
            listed = "; ".join(f"{error.json_path}: {error.message}" for error in errors[:_MAX_SCHEMA_ERRORS])
            raise ModelRetry(f"The output does not match its schema: {listed}")
        return output


def _capabilities(config: AgentConfig) -> list[AbstractCapability[Any]]:
    if config.output_schema is None:
        return [JournalCapability()]
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - 2 MB that most workers never need
    from jsonschema.validators import validator_for  # noqa: PLC0415

    validator = validator_for(config.output_schema)
    try:
        validator.check_schema(config.output_schema)
    except SchemaError as error:
        raise TurnConfigurationError(
            f"the output type of agent {config.name!r} is not a valid JSON schema: {error.message} at {error.json_path}"
        ) from error
    return [JournalCapability(), OutputSchema(validator(config.output_schema))]


def _output_type(config: AgentConfig) -> Any:
    if config.output_schema is None:
        return None
    # A copy, because StructuredDict writes the title into its argument.
    return StructuredDict(json.loads(json.dumps(config.output_schema)), name=config.output_name)


def _all_tools(config: AgentConfig, tools: Sequence[RegisteredTool]) -> list[Tool[Any]]:
    own = [*(_as_tool(tool) for tool in tools), *(delegate_tool(delegate) for delegate in config.delegates)]
    return [*own, *recall_tools(config, [tool.name for tool in own])]


def _specs(config: AgentConfig, tools: Sequence[RegisteredTool]) -> dict[str, ToolSpec]:
    own = [*(tool.spec for tool in tools), *(delegate_spec(delegate) for delegate in config.delegates)]
    # The agent's own tools come last: they replace recall tools of the same name.
    return {spec.name: spec for spec in (*recall_specs(config), *own)}


def _as_tool(tool: RegisteredTool) -> Tool[Any]:
    try:
        return Tool(
            _with_context(tool.function),
            name=tool.spec.name,
            description=tool.spec.description,
            requires_approval=tool.spec.approval is True,
        )
    except (UserError, PydanticUserError, NameError, TypeError) as error:
        raise TurnConfigurationError(
            f"tool {tool.spec.name!r} ({tool.function.__module__}) cannot be described to a model: "
            f"{str(error).partition(chr(10))[0]} Annotate each parameter with a type that pydantic supports"
        ) from error


def _with_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that its ToolContext parameter is injected when it is called, and hidden from the model."""
    hints = get_type_hints(function, include_extras=True)
    name = next((name for name, hint in hints.items() if hint is ToolContext and name != "return"), None)
    if name is None:
        return function
    call = _injecting(function, name)
    signature = inspect.signature(function)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != name]
    call.__name__, call.__qualname__ = function.__name__, function.__qualname__
    call.__doc__, call.__module__ = function.__doc__, function.__module__
    call.__annotations__ = {key: hint for key, hint in hints.items() if key != name}
    call.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return call


def _injecting(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs, **{name: current_tool.get()})

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs, **{name: current_tool.get()})

    return call


def _own_specs(agent: Agent[Any, Any]) -> dict[str, ToolSpec]:
    """The specifications of those tools of a registered agent that are marked with `@tool`."""
    own = (
        (name, spec_of(tool.function))
        for toolset in agent.toolsets
        if isinstance(toolset, FunctionToolset)
        for name, tool in toolset.tools.items()
    )
    return {name: spec for name, spec in own if spec is not None}


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> TurnConfigurationError:
    listed = ", ".join(map(repr, known)) or "none"
    return TurnConfigurationError(
        f"this worker has no {kind} named {name!r} (it has {listed}); add the module that defines it to the "
        f"worker's SESSIONFLEET_IMPORTS and restart the worker"
    )
