"""What a turn is run with: an agent's configuration, what it recalls, and which agents it may ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sessions.protocol.turn_limits import TurnLimits
from sessions.protocol.version import WIRE_VERSION, WireVersion

DELEGATION_DEPTH = 5


class KnowledgeBases(BaseModel):
    """The knowledge that a turn searches besides its session's and its user's: named bases, in one collection."""

    model_config = ConfigDict(frozen=True)

    bases: tuple[str, ...] = ()
    collection: str | None = None


class RecallSettings(BaseModel):
    """What is recalled for a turn and added to its prompt; None: not specified here.

    Attributes:
        memory: memories of the session and its user; extract: facts are extracted from the turn afterwards.
        knowledge: passages; False for none.
    """

    model_config = ConfigDict(frozen=True)

    memory: bool | None = None
    extract: bool | None = None
    knowledge: KnowledgeBases | Literal[False] | None = None

    @property
    def specified(self) -> bool:
        """Whether it specifies anything."""
        return (self.memory, self.extract, self.knowledge) != (None, None, None)

    def with_defaults(self, other: RecallSettings) -> RecallSettings:
        """These settings; those of `other` where these specify nothing."""
        return RecallSettings(
            memory=other.memory if self.memory is None else self.memory,
            extract=other.extract if self.extract is None else self.extract,
            knowledge=other.knowledge if self.knowledge is None else self.knowledge,
        )


class AgentConfig(BaseModel):
    """What a turn is run with, as it was when the turn was accepted."""

    model_config = ConfigDict(frozen=True)

    name: str = "Assistant"
    instructions: str = ""
    tools: tuple[str, ...] = ()
    model: str | tuple[str, ...] | None = Field(
        None, description="A name, or a fallback chain: the first is asked first."
    )
    output_schema: dict[str, Any] | None = None
    output_name: str | None = None
    hooks: tuple[str, ...] = ()
    registered: bool = Field(False, description="`name` is a pydantic-ai agent registered by the worker's imports.")
    delegates: tuple[Delegate, ...] = Field((), description="Agents that this one may ask, as tools.")
    recalls: RecallSettings = Field(
        RecallSettings(), description="Its memory and knowledge; the session's apply where it specifies none."
    )

    limits: TurnLimits | None = Field(
        None,
        exclude_if=lambda limits: limits is None,  # a turn that was open during the upgrade has the digest without it
        description="The most that its turns may do.",
    )

    @property
    def models(self) -> tuple[str, ...]:
        """The names of its models; none for the worker's default."""
        return names_of(self.model)

    @property
    def name_only(self) -> bool:
        """Whether it has only a name, and so stands for the agent that the session or the workers know by it."""
        own = self.instructions or self.tools or self.model or self.output_schema or self.registered or self.hooks
        return not (own or self.delegates or self.recalls.specified or self.limits)

    def with_delegates(self, queue: str) -> Iterator[tuple[AgentConfig, str]]:
        """This agent and all that it may ask, directly or through others; each with the queue that it runs on."""
        yield self, queue
        for delegate in self.delegates:
            yield from delegate.config.with_delegates(delegate.queue or queue)


def names_of(model: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The names in the choice of a model: none, one, or a fallback chain."""
    return (model,) if isinstance(model, str) else model or ()


class Delegate(BaseModel):
    """An agent that another one may ask, as a tool.

    Attributes:
        tool: its name for the model; description: what the model is told about it.
        by_name: prefer the configuration that its session has stored under this name.
        session: the session that the agent belongs to, of which it gets a copy; None for a stand-alone agent.
        queue: its queue; None: that of the agent that asks.
    """

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    tool: str
    description: str
    config: AgentConfig
    by_name: bool = False
    session: str | None = None
    queue: str | None = None
