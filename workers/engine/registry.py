"""The tools, agents, models and hooks that a worker can run by name.

Only the modules that the worker was started with are imported; a name in a message never causes an import.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic_ai import Agent
from pydantic_ai.models import Model

from sessions.errors import InvalidImport, InvalidTool, TurnConfigurationError
from sessions.own_packages import import_refused
from sessions.tools.decorator import ToolSpec, spec_of
from workers.engine.hooks import Hooks
from workers.engine.models import OFFLINE, provider_prefixes

MARK = "_sessionfleet_registration"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")

Kind = Literal["agent", "model", "hooks"]
Registrable = TypeVar("Registrable")


@dataclass(frozen=True, slots=True)
class Registration:
    """The name under which turns can refer to an object."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """A function marked with `@tool`, found in one of the worker's modules."""

    spec: ToolSpec
    function: Callable[..., Any]


def register_agent(name: str, agent: Registrable) -> Registrable:
    """Let clients use a pydantic-ai agent by name; returns the agent itself.

    Call it in a module of `SESSIONFLEET_IMPORTS` and assign the result to a module attribute. The worker searches
    the module's attributes, so that there is no global list which an import could change:

        support = register_agent("support", pydantic_ai.Agent("openai:gpt-5", tools=[...]))

    The agent runs unchanged, with `deps=None`. Its tool calls are journalled, and a tool is not run again after a
    crash unless its function is marked `@tool(retry="safe")`.

    Raises:
        InvalidImport: `agent` is not a pydantic-ai agent, or the name cannot be used.
    """
    if not isinstance(agent, Agent):
        raise InvalidImport(f"register_agent({name!r}, ...) takes a pydantic_ai.Agent, not {agent!r}")
    return _mark(Registration("agent", name), agent)


def register_model(name: str, model: Registrable) -> Registrable:
    """Let agents use a pydantic-ai model by name; returns the model itself.

    Use it like `register_agent`. The name has no colon: `provider:model` names are resolved by pydantic-ai.

    Raises:
        InvalidImport: `model` is not a pydantic-ai model, or the name cannot be used.
    """
    if not isinstance(model, Model):
        raise InvalidImport(f"register_model({name!r}, ...) takes a pydantic_ai.models.Model, not {model!r}")
    if name == OFFLINE:
        raise InvalidImport(f"the name {OFFLINE!r} belongs to the built-in model; use another name")
    return _mark(Registration("model", name), model)


def _mark(registration: Registration, target: Registrable) -> Registrable:
    name = registration.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidImport(f"{registration.kind} name {name!r}: use 1 to 64 letters, digits, '.', '_', '-' and spaces")
    earlier = vars(target).get(MARK)
    if earlier not in (None, registration):
        raise InvalidImport(
            f"this {registration.kind} is already registered as {earlier.name!r}; it cannot also be named {name!r}"
        )
    setattr(target, MARK, registration)
    return target


class Registry:
    """The tools, agents, models and hooks of one worker process."""

    def __init__(self) -> None:
        self._tools: dict[str, RegisteredTool] = {}
        self._agents: dict[str, Agent[Any, Any]] = {}
        self._models: dict[str, Model] = {}
        self._hooks: dict[str, Hooks] = {}

    def load(self, modules: Sequence[str]) -> None:
        """Import these modules and add everything that is marked or registered in them.

        Raises:
            InvalidImport: a module cannot be imported, or two things have the same name.
        """
        for module in modules:
            for attribute in _attributes(module):
                self._add_attribute(attribute)

    def own_model(self, agent: str) -> str | None:
        """The model of a registered agent; None if it sets no model, and for other agents."""
        model = self._agents[agent].model if agent in self._agents else None
        return f"{model.system}:{model.model_name}" if isinstance(model, Model) else model

    def add_tool(self, function: Callable[..., Any]) -> None:
        """Add a function marked with `@tool`.

        Raises:
            InvalidTool: the function is not marked.
            InvalidImport: another function has the same name.
        """
        spec = spec_of(function)
        if spec is None:
            raise InvalidTool(f"{function!r} is not marked as a tool; put @tool above its def")
        known = self._tools.get(spec.name)
        if known is not None and known.function is not function:
            where = " and ".join(f"{f.__module__}.{f.__qualname__}" for f in (known.function, function))
            raise InvalidImport(f"two tools are named {spec.name!r}: {where}; rename one with @tool(name=...)")
        self._tools[spec.name] = RegisteredTool(spec, function)

    def add_agent(self, name: str, agent: Agent[Any, Any]) -> None:
        """Add an agent under this name; see `register_agent`."""
        _add("agent", self._agents, name, agent)

    def add_model(self, name: str, model: Model) -> None:
        """Add a model under this name; see `register_model`."""
        _add("model", self._models, name, model)

    def add_hooks(self, hooks: Hooks) -> None:
        """Add hooks; see `register_hooks`."""
        _add("hooks", self._hooks, hooks.name, hooks)

    @property
    def hooks(self) -> Mapping[str, Hooks]:
        """The hooks by name."""
        return MappingProxyType(self._hooks)

    @property
    def tools(self) -> Mapping[str, RegisteredTool]:
        """The tools by name."""
        return MappingProxyType(self._tools)

    @property
    def agents(self) -> Mapping[str, Agent[Any, Any]]:
        """The registered agents by name."""
        return MappingProxyType(self._agents)

    @property
    def models(self) -> Mapping[str, Model]:
        """The registered models by name, without the built-in one."""
        return MappingProxyType(self._models)

    def hooks_named(self, names: Sequence[str]) -> list[Hooks]:
        """The hooks with these names, in this order and without repetitions.

        Raises:
            TurnConfigurationError: a name is not registered on this worker.
        """
        for name in names:
            if name not in self._hooks:
                listed = ", ".join(map(repr, sorted(self._hooks))) or "none"
                raise TurnConfigurationError(
                    f"this worker has no hooks named {name!r} (it has {listed}); add the module that registers them "
                    f"to the worker's SESSIONFLEET_IMPORTS and restart the worker"
                )
        return [self._hooks[name] for name in dict.fromkeys(names)]

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The names that `Agent(tools=)` accepts."""
        return tuple(sorted(self._tools))

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The names of the registered agents."""
        return tuple(sorted(self._agents))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of the registered models, including `offline`."""
        return tuple(sorted({*self._models, OFFLINE}))

    @property
    def providers(self) -> tuple[str, ...]:
        """The prefixes of `provider:model` names whose packages are installed on this worker."""
        return provider_prefixes()

    def _add_attribute(self, attribute: object) -> None:
        if callable(attribute) and spec_of(attribute) is not None:
            self.add_tool(attribute)
        elif isinstance(attribute, Hooks):
            self.add_hooks(attribute)
        elif isinstance(attribute, Agent | Model):
            registration = vars(attribute).get(MARK)
            if registration is None:
                return
            if isinstance(attribute, Model):
                self.add_model(registration.name, attribute)
            else:
                self.add_agent(registration.name, attribute)


def _attributes(module: str) -> Iterator[object]:
    if why := import_refused(module):
        raise InvalidImport(f"module {module!r} of SESSIONFLEET_IMPORTS {why}")
    try:
        imported = importlib.import_module(module)
    except Exception as error:
        raise InvalidImport(
            f"module {module!r} of SESSIONFLEET_IMPORTS cannot be imported: {type(error).__name__}: {error}; "
            f"{_advice(error)}"
        ) from error
    yield from list(vars(imported).values())


def _advice(error: Exception) -> str:
    """What to do about a module that cannot be imported. It may import a module of the user's that ours hides."""
    if isinstance(error, ImportError) and error.name and (why := import_refused(error.name)):
        return f"{error.name!r} {why}"
    return "check that it is a module name (not a file name) and lies in the directory the worker starts in"


def _add(kind: Kind, known: dict[str, Registrable], name: str, target: Registrable) -> None:
    if known.get(name, target) is not target:
        raise InvalidImport(f"two {kind.removesuffix('s')}s are registered as {name!r}; give one of them another name")
    known[name] = target
