"""Agents that ask other agents: one agent as a tool of another."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sessions.client.arguments.values import message_text
from sessions.client.ports import AgentHome
from sessions.errors import BadRequest, InvalidTool
from sessions.protocol.agent import DELEGATION_DEPTH, AgentConfig, Delegate
from sessions.tools.decorator import check_name, tool_names

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_CHARS: Final = 64
_SHOWN_CHARS: Final = 300


class ToolAgent(Protocol):
    """An agent that can become a tool of another one; `sessions.Agent` implements it."""

    name: str
    config: AgentConfig
    session: AgentHome
    stand_alone: bool

    @property
    def own_config(self) -> AgentConfig:
        """Its configuration for turns outside its session."""
        ...

    @property
    def by_name(self) -> bool:
        """Whether it has only a name."""
        ...


@dataclass(frozen=True, slots=True)
class AgentTool:
    """An agent as a tool of another agent: `Agent(tools=[researcher.as_tool(name="research")])`.

    Attributes:
        name, description: what the asking model sees of the tool.
    """

    agent: ToolAgent
    name: str
    description: str


AnyTool = str | Callable[..., Any] | AgentTool


def agent_tool(agent: ToolAgent, name: str | None, description: str | None) -> AgentTool:
    """An agent as a tool.

    Raises:
        InvalidTool: the name cannot be used, or none can be derived from the agent's name. BadRequest: the description
            is not a non-empty string.
    """
    text = _description(agent) if description is None else message_text(description)
    return AgentTool(agent, _tool_name(agent.name) if name is None else check_name(name), text)


def split_tools(tools: Sequence[AnyTool]) -> tuple[tuple[str, ...], list[AgentTool]]:
    """The names of the functions among the tools, and the agents among them.

    Raises:
        InvalidTool: one of them cannot be used, or two have the same name.
    """
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        return tool_names(tools), []  # raises the error that says what is wrong
    agents = [item for item in tools if isinstance(item, AgentTool)]
    names = tool_names([item for item in tools if not isinstance(item, AgentTool)])
    every = [*names, *(item.name for item in agents)]
    for name in every:
        if every.count(name) > 1:
            raise InvalidTool(
                f"tool {name!r} is listed twice; name each tool once, or rename one with agent.as_tool(name=...)"
            )
    return names, agents


def delegates_of(caller: str, user_id: str | None, agents: Sequence[AgentTool]) -> tuple[Delegate, ...]:
    """The agents that an agent may ask, as they go over the wire.

    Raises:
        BadRequest: an agent would ask itself, the chain is too long, or an agent belongs to another user.
    """
    found = tuple(_delegate(item, user_id) for item in agents)
    for delegate in found:
        _refuse_cycles((caller,), delegate.config)
    return found


def _delegate(item: AgentTool, user_id: str | None) -> Delegate:
    agent = item.agent
    if agent.stand_alone:
        return Delegate(tool=item.name, description=item.description, config=agent.own_config)
    session = agent.session
    if session.is_remote:
        raise BadRequest(f"{agent!r} is in a remote session: agents as tools are not supported there yet")
    if None not in (user_id, session.user_id) and user_id != session.user_id:
        raise BadRequest(
            f"agent {agent.name!r} belongs to a session of user {session.user_id!r} and would be asked for user "
            f"{user_id!r}, so one of them would see what the other said: create the agents for each user separately"
        )
    return Delegate(
        tool=item.name,
        description=item.description,
        config=agent.own_config,
        by_name=agent.by_name,
        session=session.session_id,
        queue=session.queue,
    )


def _refuse_cycles(asking: tuple[str, ...], config: AgentConfig) -> None:
    chain = (*asking, config.name)
    shown = " -> ".join(map(repr, chain))
    if config.name in asking:
        raise BadRequest(
            f"agents ask one another in a cycle: {shown}. Remove one from the other's tools=, or, if they are "
            f"different agents, give them different names"
        )
    if len(asking) > DELEGATION_DEPTH:
        raise BadRequest(f"the chain of agents {shown} is too long: at most {DELEGATION_DEPTH} may be asked in a row")
    for delegate in config.delegates:
        _refuse_cycles(chain, delegate.config)


def _tool_name(name: str) -> str:
    derived = _NOT_ALLOWED.sub("_", name.strip()).strip("_")
    if not derived:
        raise InvalidTool(
            f"no tool name can be derived from the agent name {name!r}: name the tool with agent.as_tool(name=...)"
        )
    return f"ask_{derived}"[:_NAME_CHARS]


def _description(agent: ToolAgent) -> str:
    ask = f"Ask the agent {agent.name!r} and get its answer."
    if agent.stand_alone:
        ask += " It knows nothing of this conversation."
    if not agent.config.instructions:
        return ask
    text = " ".join(agent.config.instructions.split())
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
    return f"{ask} Its instructions: {shown}"
