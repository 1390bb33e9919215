"""The words that cross the wire: statuses, events, requests and results, and the turn's state machine.

The Lua scripts in `store/lua/` speak these words; a test compares them with `TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

WIRE_VERSION = 1
DELEGATION_DEPTH = 5
TASK_NAME = "sessionfleet.run_session"


class TurnStatus(StrEnum):
    """Where a turn is. The last four are final: a turn gets exactly one of them, once."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD_LETTERED = "dead_lettered"

    @property
    def final(self) -> bool:
        """Whether the turn has ended."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[TurnStatus, frozenset[TurnStatus]] = {
    # A queued turn ends without running when it is cancelled, or when its deadline passed before a worker came.
    TurnStatus.QUEUED: frozenset({TurnStatus.RUNNING, TurnStatus.CANCELLED, TurnStatus.FAILED}),
    # Back to queued: backoff after a passing model error, or handed over by a worker that shuts down.
    TurnStatus.RUNNING: frozenset(
        {
            TurnStatus.RUNNING,
            TurnStatus.QUEUED,
            TurnStatus.WAITING,
            TurnStatus.SUCCEEDED,
            TurnStatus.FAILED,
            TurnStatus.CANCELLED,
            TurnStatus.DEAD_LETTERED,
        }
    ),
    # Back to queued: every pending call is answered, or an interrupt wants what it finished written down.
    TurnStatus.WAITING: frozenset({TurnStatus.QUEUED, TurnStatus.RUNNING, TurnStatus.CANCELLED, TurnStatus.FAILED}),
    TurnStatus.SUCCEEDED: frozenset(),
    TurnStatus.FAILED: frozenset(),
    TurnStatus.CANCELLED: frozenset(),
    TurnStatus.DEAD_LETTERED: frozenset(),
}


class Policy(StrEnum):
    """What becomes of a new message when its session is busy."""

    ENQUEUE = "enqueue"  # it waits for its turn
    REJECT = "reject"  # SessionBusy
    INTERRUPT = "interrupt"  # the running turn ends; what it finished stays in the history
    ROLLBACK = "rollback"  # the running turn ends, and leaves nothing
    STEER = "steer"  # it joins the running turn before that one's next model call


class EventType(StrEnum):
    """What an event of a turn's stream says."""

    STARTED = "started"
    ATTEMPT_RESET = "attempt_reset"
    TEXT_DELTA = "text_delta"
    THINKING_DELTA = "thinking_delta"
    TEXT = "text"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    RETRYING = "retrying"
    HANDED_OVER = "handed_over"
    STEERED = "steered"
    WAITING = "waiting"
    ANSWERED = "answered"
    RESUMED = "resumed"
    PROGRESS = "progress"
    RETRIEVED = "retrieved"
    TASK_STARTED = "task_started"
    TASK_ENDED = "task_ended"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Event:
    """One item of a turn's stream.

    Attributes:
        id: the cursor, `<fencing token>-<sequence>`; grows within a turn, over all its attempts.
        type: what it says.
        data: its content: `text` for deltas and texts; `tool`, `call_id`, `args` for a call; `tool`, `call_id`,
            `result`, `outcome` for a result; `attempt`, `worker` for started; `attempt`, `valid_through` (the last
            event id that stays valid, or None when nothing does) for attempt_reset; `index`, `name`, `agent`, `turn`
            for task_started of a team's run, and `status`, `text` (its beginning) besides for task_ended; `tool`,
            `call_id`, `agent`, `turn` for task_started of an agent that another one asks (and `turn` in the result);
            `stage`, `done`, `total`, `pages`, `chunks` for progress of a document; `memories`, `chunks` (how many
            reached the prompt), `why` (what could not be searched, and why) for retrieved;
            `text` for steered; `calls` for waiting; `call_id`, `action` for answered; `status`, `error`,
            `finish_reason` (why the model stopped, where it says so) for ended.
    """

    id: str
    type: EventType
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of a delta, else ''. Joining the texts of all events gives the streamed answer."""
        return str(self.data.get("text", "")) if self.type is EventType.TEXT_DELTA else ""

    @property
    def final(self) -> bool:
        """Whether this is the stream's last event."""
        return self.type is EventType.ENDED


class KnowledgeAt(BaseModel):
    """Which knowledge a turn searches beside its session's and its user's: named bases, in one collection."""

    model_config = ConfigDict(frozen=True)

    bases: tuple[str, ...] = ()
    collection: str | None = None


class Recalls(BaseModel):
    """What is looked up for a turn, and put before the model; None: not said.

    Attributes:
        memory: memories of the session and its user; extract: facts are taken from the turn afterwards.
        knowledge: passages; None leaves it to others to say.
    """

    model_config = ConfigDict(frozen=True)

    memory: bool | None = None
    extract: bool | None = None
    knowledge: KnowledgeAt | Literal[False] | None = None

    @property
    def said(self) -> bool:
        """Whether it says anything."""
        return (self.memory, self.extract, self.knowledge) != (None, None, None)

    def over(self, other: Recalls) -> Recalls:
        """This, and where it says nothing, the other."""
        return Recalls(
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
    model: str | None = None
    output_schema: dict[str, Any] | None = None
    output_name: str | None = None
    hooks: tuple[str, ...] = ()
    registered: bool = Field(False, description="`name` is a pydantic-ai agent registered by the worker's imports.")
    delegates: tuple[Delegate, ...] = Field((), description="Agents that this one may ask, as tools.")
    recalls: Recalls = Field(Recalls(), description="Its memory and knowledge; what it leaves open, its session says.")

    @property
    def plain(self) -> bool:
        """Whether it says nothing but a name: then what the session or the workers know by that name is meant."""
        own = self.instructions or self.tools or self.model or self.output_schema or self.registered or self.hooks
        return not (own or self.delegates or self.recalls.said)

    def reached(self, queue: str) -> Iterator[tuple[AgentConfig, str]]:
        """This agent and all that it may ask, by itself or through others; each with the queue that it runs on."""
        yield self, queue
        for delegate in self.delegates:
            yield from delegate.config.reached(delegate.queue or queue)


class Delegate(BaseModel):
    """An agent that another one may ask, as a tool.

    Attributes:
        tool: what the model calls it; description: what the model is told of it.
        by_name: the configuration that its session knows by this name is meant, where there is one.
        session: the session that the agent belongs to, of which it is given a copy; None for a stand-alone agent.
        queue: the workers that serve it; None: those of the agent that asks.
    """

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    tool: str
    description: str
    config: AgentConfig
    by_name: bool = False
    session: str | None = None
    queue: str | None = None


class MemberSpec(BaseModel):
    """One agent of a team.

    Attributes:
        by_name: the configuration that its session knows by this name is meant, where there is one.
        session: the session that the agent belongs to; None for a stand-alone agent.
        ttl: seconds that session lives after its last use; None leaves what it has.
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
    """What a team is to do: the body of a run."""

    model_config = ConfigDict(frozen=True)

    process: Literal["sequential", "parallel", "hierarchical"]
    members: tuple[MemberSpec, ...]
    tasks: tuple[TaskSpec, ...]
    manager: AgentConfig | None = None
    queue: str = "turns"


class OperationSpec(BaseModel):
    """A search, or another piece of work for the retrieval role: `kind` says what its body holds."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    kind: str
    body: dict[str, Any] = Field(default_factory=dict)


class Extraction(BaseModel):
    """Whose memory the facts are for that a turn takes from another turn's exchange; no user: the session's."""

    model_config = ConfigDict(frozen=True)

    turn: str
    user: str | None = None


class TurnRequest(BaseModel):
    """What a client asks for: the body of a turn, as it is stored. The agent's configuration stands apart."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    message: str
    agent: str = "Assistant"
    stream: bool = False
    team: TeamSpec | None = Field(None, description="A team's run: its tasks are turns of their own.")
    recalls: Recalls = Field(Recalls(), description="Memory and knowledge of its session, where the agent says none.")
    home: str | None = Field(None, description="The session whose memory and knowledge it uses; None: its own.")
    operation: OperationSpec | None = Field(None, description="Work for the retrieval role instead of an agent's.")
    extraction: Extraction | None = Field(None, description="Takes facts from a turn; leaves nothing in a history.")
    parent: str | None = Field(None, description="Id of the turn that waits for this one: a team's run, or an asker.")
    depth: int = Field(0, description="How many agents asked one another until it came to this turn.")


class AskKind(StrEnum):
    """What a call waits for."""

    APPROVAL = "approval"  # somebody's leave to run it
    RESULT = "result"  # a result that comes from elsewhere
    IN_DOUBT = "in_doubt"  # a person's word on whether it took effect, for its worker died while it ran
    TURN = "turn"  # the answer of another agent, in a turn of its own; nobody else can give it


class Ask(BaseModel):
    """A call of a tool that its turn waits for, as it is stored.

    Attributes:
        place: among the calls that the turn was put to waiting for; the journal, a hash, keeps no order.
        waits_for: may name what is to bring the result.
    """

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    key: str
    call_id: str
    tool: str
    args: Any = None
    kind: AskKind
    metadata: dict[str, Any] = Field(default_factory=dict)
    waits_for: str | None = None
    place: int = 0


class Answer(BaseModel):
    """What somebody decided of an `Ask`."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1
    action: Literal["approve", "deny", "provide"]
    args: dict[str, Any] | None = None
    reason: str = ""
    result: Any = None


class Usage(BaseModel):
    """What a turn cost: in requests and tokens, and in US dollars as far as the model's price is known."""

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    tool_calls: int = 0
    cost: float = 0.0


def total(spent: Iterable[Usage]) -> Usage:
    """Usages added up."""
    every = list(spent)
    return Usage(**{field: sum(getattr(usage, field) for usage in every) for field in Usage.model_fields})


class TurnError(BaseModel):
    """Why a turn failed, as it is stored: `type` names a class of `sessions.errors`."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str
    detail: dict[str, Any] = Field(default_factory=dict)
