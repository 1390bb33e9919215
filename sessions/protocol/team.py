"""A team as it goes over the wire: its members and its tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from sessions.protocol.agent import AgentConfig


class MemberSpec(BaseModel):
    """One agent of a team.

    Attributes:
        by_name: prefer the configuration that its session has stored under this name.
        session: the session that the agent belongs to; None for a stand-alone agent.
        ttl: seconds after its last use until that session expires; None keeps its ttl.
    """

    model_config = ConfigDict(frozen=True)

    config: AgentConfig
    by_name: bool = False
    session: str | None = None
    queue: str = "turns"
    ttl: float | None = None


class TaskSpec(BaseModel):
    """One task of a team. `agent` and `context` are positions in the team; no agent: the manager chooses one."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    expected_output: str | None = None
    agent: int | None = None
    context: tuple[int, ...] = ()


class TeamSpec(BaseModel):
    """A team's run: the body of its turn's request."""

    model_config = ConfigDict(frozen=True)

    process: Literal["sequential", "parallel", "hierarchical"]
    members: tuple[MemberSpec, ...]
    tasks: tuple[TaskSpec, ...]
    manager: AgentConfig | None = None
    queue: str = "turns"
