"""Agents: those that the tenant defines by name, and those that the workers register."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.errors import NotFound
from sessions.gateway.agents import ASSISTANT, AgentDefinition, canonical, directory_of, registered
from sessions.gateway.caller import Caller, Configurer, Reader
from sessions.gateway.principal import Right
from sessions.gateway.problems import responses
from sessions.gateway.segments import segment
from sessions.gateway.strict_json import StrictRoute
from sessions.protocol.agent import AgentConfig

router = APIRouter(prefix="/v1/agents", tags=["agents"], route_class=StrictRoute)
AgentName = Annotated[
    str, Path(description="For `assistant`, capitalisation does not matter.", max_length=256, examples=["Travel desk"])
]


class AgentResource(BaseModel):
    """An agent that turns can name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Travel desk",
                    "source": "tenant",
                    "definition": {"instructions": "You book trains.", "knowledge": "handbook"},
                },
                {"name": "assistant", "source": "default", "definition": None},
            ]
        }
    )

    name: str
    source: Literal["default", "tenant", "workers"] = Field(
        description="Where its definition comes from: nowhere, the tenant's PUT, or the workers' own code."
    )
    definition: AgentDefinition | None = Field(
        None, description="The tenant's definition; shown to callers with the right `configure`."
    )


class AgentList(BaseModel):
    """The agents that turns can name."""

    agents: list[AgentResource] = Field(description="By name.")


@router.get("", summary="List the agents")
async def list_agents(caller: Reader) -> AgentList:
    """Those of the tenant and of the running workers; `assistant` always exists."""
    return AgentList(agents=await _agents(caller))


@router.get("/{name:anything}", summary="Show an agent", responses=responses(404))
async def get_agent(name: AgentName, caller: Reader) -> AgentResource:
    """Agents that only a session knows are not shown here."""
    for agent in await _agents(caller):
        if canonical(agent.name) == canonical(name):
            return agent
    raise NotFound(f"there is no agent {name!r}; GET /v1/agents lists the agents")


@router.put(
    "/{name:anything}",
    summary="Define an agent",
    responses={201: {"model": AgentResource, "description": "It is new."}},
)
async def define_agent(name: AgentName, body: AgentDefinition, caller: Configurer, response: Response) -> AgentResource:
    """For all sessions of the tenant, from the next turn on. It overrides a registered agent of this name."""
    agent = body.as_agent(canonical(name), caller.session(None))
    if await directory_of(caller).aput(agent):
        response.status_code = status.HTTP_201_CREATED
        response.headers["Location"] = f"/v1/agents/{segment(name)}"
    return _defined(caller, agent.config)


@router.delete(
    "/{name:anything}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete an agent's definition",
    responses=responses(404),
)
async def delete_agent(name: AgentName, caller: Configurer) -> None:
    """Sessions that used the definition keep it. `assistant` becomes the default agent again."""
    if not await directory_of(caller).adelete(canonical(name)):
        raise NotFound(f"the tenant defines no agent {name!r}; agents that workers register cannot be deleted here")


async def _agents(caller: Caller) -> list[AgentResource]:
    found = {name: AgentResource(name=name, source="workers") for name in await registered(caller)}
    found[ASSISTANT] = AgentResource(name=ASSISTANT, source="default")
    for config in (await directory_of(caller).alist()).values():
        shown = _defined(caller, config)
        found[shown.name] = shown
    return [found[name] for name in sorted(found)]


def _defined(caller: Caller, config: AgentConfig) -> AgentResource:
    """A definition, without the prompt for callers who may only talk to it."""
    open_to = Right.CONFIGURE in caller.principal.rights
    name = ASSISTANT if config.name == canonical(ASSISTANT) else config.name
    return AgentResource(name=name, source="tenant", definition=AgentDefinition.of(config) if open_to else None)
