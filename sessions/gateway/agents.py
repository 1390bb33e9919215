"""Agents by name: the tenant's, a session's, the workers' and the default one; and those that a caller defines."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from broker_config.settings import RETRIEVAL
from sessions.api.agent import Agent
from sessions.api.agent_directory import AgentDirectory
from sessions.api.session import Session
from sessions.client.fleet_client import FleetClient
from sessions.errors import NotFound
from sessions.gateway.caller import Caller
from sessions.gateway.parameters import BASE, TOOL
from sessions.gateway.principal import Right
from sessions.gateway.strict_json import Body
from sessions.gateway.turn_limits import ModelCalls, SpentAtMost, ToolCalls, TurnBudget, given_budget
from sessions.protocol.agent import AgentConfig, KnowledgeBases
from sessions.protocol.turn_limits import NO_LIMITS
from sessions.protocol.worker_info import WorkerInfo

ASSISTANT: Final = "assistant"
_ASSISTANT_NAME: Final = "Assistant"


Base = Annotated[str, Field(json_schema_extra=BASE)]


class AgentDefinition(Body):
    """The definition of an agent; supplying one needs the right `configure`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"instructions": "You book trains.", "knowledge": "handbook", "memory": True},
            ]
        },
    )

    instructions: str | None = Field(None, description="The system prompt.")
    tools: list[Annotated[str, Field(json_schema_extra=TOOL)]] = Field(
        [], description="Names of tools that the workers know."
    )
    model: str | list[str] | None = Field(
        None,
        description="`provider:model`, or a registered name; by default the workers' model. Of several, each is asked "
        "if the ones before it failed.",
        max_length=8,
    )
    hooks: list[str] = Field([], description="Names of hooks that the workers registered.")
    memory: bool | None = Field(None, description="By default as the turn says.")
    knowledge: bool | Base | list[Base] | None = Field(None, description="True, or names of knowledge bases.")
    max_model_calls: ModelCalls = None
    max_tool_calls: ToolCalls = None
    budget: SpentAtMost = None
    output_schema: dict[str, Any] | None = Field(None, description="JSON Schema (of an object) for its answers.")

    def as_agent(self, name: str, session: Session) -> Agent:
        """The agent, in a session.

        Raises:
            BadRequest: it cannot be used.
        """
        agent = Agent(
            name,
            instructions=self.instructions,
            tools=self.tools,
            model=self.model,
            hooks=self.hooks,
            memory=self.memory,
            knowledge=self.knowledge,
            max_model_calls=self.max_model_calls,
            max_tool_calls=self.max_tool_calls,
            budget=given_budget(self.budget),
            session=session,
        )
        if self.output_schema is None:
            return agent
        answers = {"output_schema": self.output_schema, "output_name": str(self.output_schema.get("title", "output"))}
        return Agent.of_config(agent.config.model_copy(update=answers), session)

    @classmethod
    def of(cls, config: AgentConfig) -> AgentDefinition:
        """The configuration as the caller would write it."""
        knowledge, limits = config.recalls.knowledge, config.limits or NO_LIMITS
        return cls(
            instructions=config.instructions,
            tools=list(config.tools),
            model=list(config.model) if isinstance(config.model, tuple) else config.model,
            hooks=list(config.hooks),
            memory=config.recalls.memory,
            knowledge=(list(knowledge.bases) or True) if isinstance(knowledge, KnowledgeBases) else knowledge,
            max_model_calls=limits.model_calls,
            max_tool_calls=limits.tool_calls,
            budget=TurnBudget.of(limits),
            output_schema=config.output_schema,
        )


class AgentSpec(AgentDefinition):
    """An agent defined in the request; giving more than its name needs the right `configure`."""

    name: str = Field(_ASSISTANT_NAME, min_length=1, max_length=256)

    def agent(self, session: Session) -> Agent:
        """The agent, in a session.

        Raises:
            BadRequest: it cannot be used.
        """
        return self.as_agent(self.name, session)


def directory_of(caller: Caller) -> AgentDirectory:
    """The agents that the caller's tenant defines."""
    return AgentDirectory(tenant=caller.principal.tenant, settings=caller.gateway.settings)


def canonical(name: str) -> str:
    """The name that an agent is stored under: `assistant` in any capitalisation is one name."""
    return _ASSISTANT_NAME if name.lower() == ASSISTANT else name


async def agent_of(caller: Caller, session: Session, wanted: str | AgentSpec | None) -> Agent:
    """The agent that a request names or defines, in a session.

    Raises:
        NotFound: there is no agent with this name. Forbidden: it defines one and may not. BadRequest: it is not valid.
    """
    if isinstance(wanted, AgentSpec):
        agent = wanted.agent(session)
        if agent.by_name:  # a name only: the tenant's agent, the session's, or a plain one
            return await _defined(caller, session, agent.name) or agent
        caller.principal.need(Right.CONFIGURE)
        return agent
    return await named_agent(caller, session, wanted or ASSISTANT)


async def named_agent(caller: Caller, session: Session, name: str) -> Agent:
    """The agent with a name, in a session: the tenant's current definition, else the session's, else the workers'.

    Raises:
        NotFound: there is none; the message lists the known ones.
    """
    name = canonical(name)
    if (agent := await _defined(caller, session, name)) is not None:
        return agent
    if name == _ASSISTANT_NAME or name in await registered(caller) or name in await _of_session(session):
        return Agent(name, session=session)
    workers = await workers_of(caller, fresh=True)  # one may have been registered a moment ago
    offered = {agent for worker in workers for agent in worker.agents}
    if name in offered:
        return Agent(name, session=session)
    if not any(set(worker.queues) - {RETRIEVAL} for worker in workers):
        # No worker is running to ask, and an accepted turn waits for workers: if the worker that runs it has no such
        # agent, it fails the turn. A caller that retries while the workers restart must find its turn, not a 404.
        return Agent.of_config(Agent(name, registered=True, session=session).config, session, named=True)
    known = {ASSISTANT, *offered, *await directory_of(caller).alist()} - {_ASSISTANT_NAME}
    raise NotFound(f"there is no agent {name!r} here; known agents are {', '.join(map(repr, sorted(known)))}")


async def _defined(caller: Caller, session: Session, name: str) -> Agent | None:
    config = await directory_of(caller).aget(canonical(name))
    return None if config is None else Agent.of_config(config, session, named=True)


async def registered(caller: Caller) -> set[str]:
    """The agents that are registered with the workers."""
    return {agent for worker in await workers_of(caller) for agent in worker.agents}


async def workers_of(caller: Caller, *, fresh: bool = False) -> list[WorkerInfo]:
    """The running workers, as they announce themselves."""
    client = caller.gateway.client
    return await client.portal.acall(_living(client, fresh))


async def _living(client: FleetClient, fresh: bool) -> list[WorkerInfo]:
    await client.open()
    return await client.connection.workers(fresh=fresh)


async def _of_session(session: Session) -> list[str]:
    agents: list[str] = (await session.aget_context())["agents"]
    return agents
