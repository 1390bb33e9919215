"""An agent within a session: what a web backend talks to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar

from pydantic_core import PydanticSerializationError

from sessions.api.delegation import AgentTool, agent_tool, delegates_of, split_tools
from sessions.api.middleware import apply, apply_blocking
from sessions.api.turn import Turn
from sessions.client.arguments.retrieval import knowledge_at, knowledge_config, memory_config
from sessions.client.arguments.values import flag, message_text, policy_named, seconds, short_text, webhook_url
from sessions.client.blocking import blocking, iterating
from sessions.client.output_type import OutputType
from sessions.client.portal import Portal
from sessions.client.ports import AgentHome
from sessions.client.result import result_of
from sessions.errors import BadRequest
from sessions.protocol.agent import AgentConfig, Recalls
from sessions.protocol.event import Event
from sessions.protocol.text import encodes
from sessions.protocol.turn import TurnRequest
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord


class Agent:
    """An agent, in a session of its own or (by `session.Agent(...)`) in one that exists.

    Example:
        agent = Agent(name="Assistant", instructions="You are helpful", memory={"session_id": "chat-1"})
        agent.chat("My name is Alice")     # later, in any process: agent.chat("What's my name?")

    Args:
        name: how the agent is called. Given alone, it means the agent that this session knows by that name, or a
            pydantic-ai agent that the workers registered under it.
        instructions: the system prompt.
        tools: functions marked `@tool`, names of tools that the workers know, or agents, which it may ask.
        model: `provider:model`, a registered name, or None for the worker's SESSIONFLEET_MODEL.
        output_type: a pydantic model (or any type pydantic validates): answers are objects of it.
        hooks: names of hooks that the workers registered (`workers.register_hooks`), beside those of the worker.
        registered: run the workers' own pydantic-ai agent of this name, as it is.
        memory: True: what the session and its user are remembered to have said reaches the prompt, and the agent may
            search it and remember more. `{"session_id": ...}` names the session of a stand-alone agent. None: as the
            session says.
        knowledge: True: passages of the session's documents reach the prompt, and the agent may search them; the name
            of a knowledge base: those of that base, too. None: as the session says.

    Raises:
        BadRequest: an argument cannot be used; InvalidTool and InvalidSessionId are kinds of it.
    """

    open_session: ClassVar[Callable[..., AgentHome]]
    """How a stand-alone agent opens its session; `sessions.api.session`, which imports this module, sets it."""

    def __init__(
        self,
        name: str = "Assistant",
        *,
        instructions: str | None = None,
        tools: Sequence[str | Callable[..., Any] | Agent | AgentTool] = (),
        model: str | None = None,
        output_type: Any = None,
        hooks: Sequence[str] = (),
        registered: bool = False,
        memory: Mapping[str, Any] | bool | None = None,
        knowledge: object = None,
        session: AgentHome | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or not encodes(name):
            raise BadRequest(f"agent name {name!r}: give it a name that is a text")
        if instructions is not None and not isinstance(instructions, str):
            raise BadRequest(f"instructions of {name!r} must be a text, not {type(instructions).__name__}")
        if model is not None and not isinstance(model, str):
            raise BadRequest(
                f"model of {name!r} must be a name, not {type(model).__name__}: register it with the workers"
            )
        self.name = name
        self._output = OutputType.of(output_type)
        # Nothing ties it to a session that others know: a team gives its tasks sessions of their own.
        self.stand_alone = session is None and not (isinstance(memory, Mapping) and memory.get("session_id"))
        self.session = session or _own_session(memory)
        functions, agents = split_tools(_with_agents(tools))
        self.config = AgentConfig(
            name=name,
            instructions=instructions or "",
            tools=functions,
            model=model,
            output_schema=self._output.schema if self._output else None,
            output_name=self._output.name if self._output else None,
            hooks=_hook_names(hooks),
            registered=registered,
            delegates=delegates_of(name, self.session.user_id, agents),
            recalls=_recalls(memory, knowledge, self.session),
        )
        # Given by name only, the agent means the session's stored configuration of that name.
        self._stored = b"" if self.config.plain and instructions is None else _as_json(self.config)
        self._named = False

    @classmethod
    def of_config(cls, config: AgentConfig, session: AgentHome, *, named: bool = False) -> Agent:
        """An agent as it is configured, which need not have come from this process; answers are plain JSON.

        Args:
            named: whether callers know its name alone: the same idempotency key means the same turn, then, although
                somebody configured the agent anew in between.
        """
        agent = cls(config.name, session=session)
        agent.config = config
        agent._stored = _as_json(config)
        agent._named = named
        return agent

    @property
    def portal(self) -> Portal:
        """The loop of this process."""
        return self.session.portal

    def alone(self) -> Agent:
        """This agent without its session, of which only fleet and tenant count: a team gives its tasks their own."""
        agent = copy(self)
        agent.stand_alone = True
        return agent

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, session={self.session.session_id!r})"

    @property
    def own_config(self) -> AgentConfig:
        """Its configuration with what its session says of memory and knowledge: for turns outside of that session."""
        return self.config.model_copy(update={"recalls": self.config.recalls.over(self.session.recalls)})

    @property
    def by_name(self) -> bool:
        """Whether it was given by its name alone: its session's configuration of that name is meant."""
        return not self._stored

    def as_tool(self, name: str | None = None, description: str | None = None) -> AgentTool:
        """This agent as a tool of another one, under another name or description than its own.

        Args:
            name: what the asking model calls it; `ask_<its name>` by default.
            description: what the asking model is told of it; by default its name and instructions.

        Raises:
            InvalidTool: model providers take no tool of this name.
        """
        return agent_tool(self, name, description)

    # --- ask and wait -----------------------------------------------------------------------------------

    async def achat(self, message: str, *, session_id: str | None = None, **options: Any) -> Any:
        """Send a message and wait for the answer: a text, or an object of the output type.

        Args:
            session_id: the session, for a stand-alone agent that serves many.
            options: `timeout` (seconds to the turn's deadline), `policy` and others, as `asubmit`.

        Raises:
            TurnFailed, SessionBusy, BackendError, BadRequest: see `sessions.errors`.
        """
        session = self._session(session_id)
        work = session.client.turns.ask(session.keys, self.submission(session, message, **options))
        response = self._response(session, await self.portal.acall(work))
        return await apply(session.middleware, message, response)

    def chat(self, message: str, *, session_id: str | None = None, **options: Any) -> Any:
        """Send a message and wait for the answer; see `achat`. Middleware runs outside the client's event loop."""
        session = self._session(session_id)
        work = session.client.turns.ask(session.keys, self.submission(session, message, **options))
        response = self._response(session, self.portal.call(work))
        return apply_blocking(session.middleware, message, response)

    def _session(self, session_id: str | None) -> AgentHome:
        return self.session if session_id is None else self.session.sibling(session_id)

    def _response(self, session: AgentHome, record: TurnRecord) -> Any:
        return result_of(record, session.keys.public_id(record.part), self._output)

    async def astart(self, message: str, **options: Any) -> str:
        """`achat` under PraisonAI's name; always a text."""
        return str(await self.achat(message, **options))

    def start(self, message: str, **options: Any) -> str:
        """`chat` under PraisonAI's name; always a text."""
        return str(self.chat(message, **options))

    # --- ask and stream ---------------------------------------------------------------------------------

    async def astream(self, /, message: str, **options: Any) -> AsyncIterator[Event]:
        """Send a message and iterate the turn's events; `event.text` is the text of a delta, else ''."""
        turn = await self.asubmit(message, stream=True, **options)
        async for event in turn.aevents():
            yield event

    stream = iterating(astream)

    # --- ask and go -------------------------------------------------------------------------------------

    async def asubmit(
        self, /, message: str, *, stream: bool = False, session_id: str | None = None, **options: Any
    ) -> Turn:
        """Send a message and return at once; the turn is accepted and will end, whatever happens to this process.

        Args:
            stream: whether the answer's text comes as deltas (else as one event).
            session_id: the session, for a stand-alone agent that serves many.
            options: `timeout`: seconds to the turn's deadline (SESSIONFLEET_TURN_TIMEOUT by default);
                `idempotency_key`: the same key with the same message gives the same turn, for a day after its end;
                `policy`: what becomes of the message when the session is busy, `enqueue`, `reject`, `interrupt`,
                `rollback` or `steer` (which returns the turn that it joined); the session's by default;
                `waiting_blocks`: whether later turns wait while this one waits for an answer to a call;
                `approval_timeout`: seconds until it fails when nobody answers (SESSIONFLEET_APPROVAL_TIMEOUT);
                `webhook`: the URL that is told of the turn's end, signed, until it says 2xx (docs/webhooks.md).

        Raises:
            IdempotencyConflict: the key was used for another request.
            SessionBusy, SessionOwnerError, BadRequest, BackendError: nothing was accepted.
        """
        session = self._session(session_id)
        client, submission = session.client, self.submission(session, message, stream=stream, **options)
        part = await self.portal.acall(client.turns.submit(session.keys, submission))
        return Turn(client, session.keys, part, self._output)

    submit = blocking(asubmit)

    def submission(
        self,
        session: AgentHome,
        message: str,
        *,
        stream: bool = False,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        policy: str | None = None,
        waiting_blocks: bool | None = None,
        approval_timeout: float | None = None,
        webhook: str | None = None,
    ) -> Submission:
        """What is sent for a message of this session; options as `asubmit`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        client, settings = session.client, session.client.settings
        client.turns.check_message(message_text(message))
        return Submission(
            request=TurnRequest(message=message, agent=self.name, stream=stream, recalls=session.recalls),
            agent=self.config,
            config=self._stored,
            user_id=session.user_id,
            queue=session.queue,
            timeout=settings.turn_timeout if timeout is None else seconds("timeout", timeout),
            idempotency_key=None if idempotency_key is None else short_text("idempotency_key", idempotency_key),
            session_ttl=session.ttl,
            policy=session.policy if policy is None else policy_named(policy),
            waiting_blocks=session.waiting_blocks if waiting_blocks is None else flag("waiting_blocks", waiting_blocks),
            approval_timeout=(
                settings.approval_timeout if approval_timeout is None else seconds("approval_timeout", approval_timeout)
            ),
            webhook="" if webhook is None else webhook_url(webhook),
            named=self._named,
        )


def _as_json(config: AgentConfig) -> bytes:
    try:
        return config.model_dump_json().encode()
    except PydanticSerializationError as error:
        raise BadRequest(f"agent {config.name!r} has a text that is no UTF-8: {error}") from error


def _with_agents(tools: Sequence[Any]) -> Sequence[Any]:
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        return tools
    return [item.as_tool() if isinstance(item, Agent) else item for item in tools]


def _hook_names(hooks: Sequence[str]) -> tuple[str, ...]:
    if isinstance(hooks, str) or not all(isinstance(name, str) for name in hooks):
        raise BadRequest(f"hooks={hooks!r}: give a list of the names under which the workers registered them")
    return tuple(hooks)


def _recalls(memory: object, knowledge: object, session: AgentHome) -> Recalls:
    """What the agent itself says of memory and knowledge; a bare `session_id` only names its session."""
    options = dict(memory) if isinstance(memory, Mapping) else memory
    if isinstance(options, dict):
        options = {key: value for key, value in options.items() if key not in ("session_id", "user_id")} or None
    remembers = None if options is None else memory_config(options)
    return Recalls(
        memory=None if remembers is None else remembers.on,
        extract=None if remembers is None else remembers.extract,
        knowledge=None if knowledge is None else knowledge_at(knowledge_config(knowledge), session.knowledge),
    )


def _own_session(memory: Mapping[str, Any] | bool | None) -> AgentHome:
    if isinstance(memory, Mapping):
        return Agent.open_session(memory.get("session_id"), user_id=memory.get("user_id"))
    if memory is None or isinstance(memory, bool):
        return Agent.open_session()
    raise BadRequest(f'memory={memory!r}: give {{"session_id": ...}}, True or False')
