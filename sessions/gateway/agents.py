"""Agents by name: the default one, those that a session or the workers know, and what a caller configures itself."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from sessions.agent import Agent
from sessions.client import FleetClient
from sessions.errors import NotFound
from sessions.gateway.caller import Caller
from sessions.gateway.principal import Right
from sessions.session import Session

ASSISTANT: Final = "assistant"
_ASSISTANT_NAME: Final = "Assistant"


class AgentSpec(BaseModel):
    """An agent of the caller's own; giving more of it than its name needs the right `configure`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("Assistant", min_length=1, max_length=256)
    instructions: str | None = Field(None, description="The system prompt.")
    tools: list[str] = Field([], description="Names of tools that the workers know.")
    model: str | None = Field(None, description="`provider:model`, or a registered name; the workers' when absent.")
    hooks: list[str] = Field([], description="Names of hooks that the workers registered.")
    memory: bool | None = None
    knowledge: bool | str | None = Field(None, description="True, or the name of a knowledge base.")
    output_schema: dict[str, Any] | None = Field(None, description="JSON Schema (of an object) of its answers.")

    def agent(self, session: Session) -> Agent:
        """The agent, in a session.

        Raises:
            BadRequest: it cannot be used.
        """
        agent = Agent(
            self.name,
            instructions=self.instructions,
            tools=self.tools,
            model=self.model,
            hooks=self.hooks,
            memory=self.memory,
            knowledge=self.knowledge,
            session=session,
        )
        if self.output_schema is None:
            return agent
        answers = {"output_schema": self.output_schema, "output_name": str(self.output_schema.get("title", "output"))}
        return Agent.of_config(agent.config.model_copy(update=answers), session)


async def agent_of(caller: Caller, session: Session, wanted: str | AgentSpec | None) -> Agent:
    """The agent that a request names or describes, in a session.

    Raises:
        NotFound: there is none of this name. Forbidden: it describes one, and may not. BadRequest: it cannot be used.
    """
    if isinstance(wanted, AgentSpec):
        agent = wanted.agent(session)
        if not agent.by_name:  # nothing but a name: what the session knows by it, or a plain agent
            caller.principal.need(Right.CONFIGURE)
        return agent
    return await named_agent(caller, session, wanted or ASSISTANT)


async def named_agent(caller: Caller, session: Session, name: str) -> Agent:
    """The agent of a name, in a session. A name alone means first of all the one that the session knows by it.

    Raises:
        NotFound: there is none; says which there are.
    """
    if name.lower() == ASSISTANT:
        return Agent(_ASSISTANT_NAME, session=session)
    client = caller.gateway.client
    known = await client.portal.acall(_known(client))
    if name not in known and name not in await _of_session(session):
        shown = ", ".join(map(repr, sorted({ASSISTANT, *known})))
        raise NotFound(f"there is no agent {name!r} here; there are {shown}")
    return Agent(name, session=session)


async def _known(client: FleetClient) -> set[str]:
    """Those that are registered with the workers."""
    await client.open()
    return {agent for worker in await client.workers() for agent in worker.agents}


async def _of_session(session: Session) -> list[str]:
    agents: list[str] = (await session.aget_context())["agents"]
    return agents
