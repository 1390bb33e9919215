"""`Agent`: an agent in a session, and the methods that send it messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from copy import copy
from datetime import datetime
from typing import Any, ClassVar, Final, Unpack

from pydantic_core import PydanticSerializationError

from sessions.api.delegation import AgentTool, agent_tool, delegates_of, split_tools
from sessions.api.middleware import apply, apply_blocking
from sessions.api.turn import Turn
from sessions.client.arguments.additions import turn_additions
from sessions.client.arguments.message import Content, MessageInput, message_content
from sessions.client.arguments.model_options import model_settings as settings_of
from sessions.client.arguments.model_options import models_named
from sessions.client.arguments.options import TurnOptions, takes
from sessions.client.arguments.retrieval import bases_to_search, knowledge_config, memory_config
from sessions.client.arguments.times import start_time
from sessions.client.arguments.turn_limits import turn_limits
from sessions.client.arguments.turns import OnDisconnect, cancels
from sessions.client.arguments.values import (
    boolean,
    json_object,
    policy_named,
    seconds,
    short_string,
    webhook_url,
)
from sessions.client.blocking import blocking, iterating
from sessions.client.output_type import OutputType
from sessions.client.portal import Portal
from sessions.client.ports import AgentHome
from sessions.client.result import result_of
from sessions.errors import BadRequest, SessionfleetError
from sessions.protocol.agent import AgentConfig, RecallSettings
from sessions.protocol.event import Event
from sessions.protocol.text import is_encodable
from sessions.protocol.turn import Policy, TurnRequest
from sessions.store.submission import Submission

_LARGEST_METADATA: Final = 4096


class Agent:
    """An agent, with its own session or (made by `session.Agent(...)`) in an existing one.

    Example:
        agent = Agent(name="Assistant", instructions="You are helpful", memory={"session_id": "chat-1"})
        agent.chat("My name is Alice")     # later, in any process: agent.chat("What's my name?")

    Args:
        name: the agent's name. With no other argument it refers to the agent that this session has stored under this
            name, or to a pydantic-ai agent that the workers registered under it.
        instructions: the system prompt.
        tools: functions marked `@tool`, names of tools that the workers know, or agents that it may ask.
        model: `provider:model`, a registered name, or None for the worker's SESSIONFLEET_MODEL. Of a list of names,
            each is asked if the ones before it failed.
        output_type: a pydantic model, or any type that pydantic validates; answers are objects of this type.
        hooks: names of hooks that the workers registered (`workers.register_hooks`); they run in addition to the
            worker's own.
        registered: run the pydantic-ai agent that the workers registered under this name, unchanged.
        max_model_calls, max_tool_calls, budget: how often its turns may ask a model and call tools, and what each may
            spend; see `TurnOptions`.
        memory: True adds relevant memories of the session and its user to the prompt, and gives the agent tools to
            search and add memories. `{"session_id": ...}` names the session of a stand-alone agent. None: the
            session's setting.
        knowledge: True adds relevant passages of the session's documents to the prompt, and gives the agent a tool to
            search them; the name of a knowledge base includes that base. None: the session's setting.

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
        model: str | Sequence[str] | None = None,
        output_type: Any = None,
        hooks: Sequence[str] = (),
        registered: bool = False,
        max_model_calls: int | None = None,
        max_tool_calls: int | None = None,
        budget: Mapping[str, Any] | None = None,
        memory: Mapping[str, Any] | bool | None = None,
        knowledge: object = None,
        session: AgentHome | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or not is_encodable(name):
            raise BadRequest(f"agent name {name!r}: use a non-empty string of valid UTF-8")
        if instructions is not None and not isinstance(instructions, str):
            raise BadRequest(f"instructions of {name!r} must be a string, not {type(instructions).__name__}")
        self.name = name
        self.output = OutputType.of(output_type)
        # The caller named no session, so a team may run the agent in a session of its own.
        self.stand_alone = session is None and not (isinstance(memory, Mapping) and memory.get("session_id"))
        self.session = session or _own_session(memory)
        functions, agents = split_tools(_with_agents(tools))
        self.config = AgentConfig(
            name=name,
            instructions=instructions or "",
            tools=functions,
            model=models_named("model", model),
            output_schema=self.output.schema if self.output else None,
            output_name=self.output.name if self.output else None,
            hooks=_hook_names(hooks),
            registered=registered,
            delegates=delegates_of(name, self.session.user_id, agents),
            recalls=_recalls(memory, knowledge, self.session),
            limits=turn_limits(max_model_calls, max_tool_calls, budget),
        )
        # Empty for a name without configuration: the session's stored configuration of that name is used.
        self._config_json = b"" if self.config.name_only and instructions is None else _as_json(self.config)
        self._named = False

    @classmethod
    def of_config(cls, config: AgentConfig, session: AgentHome, *, named: bool = False) -> Agent:
        """An agent with this configuration, which may come from another process; answers are plain JSON.

        Args:
            named: whether callers only know its name. Then a repeat under the same idempotency key is the same turn
                even if the agent was redefined in between.
        """
        agent = cls(config.name, session=session)
        agent.config = config
        agent._config_json = _as_json(config)
        agent._named = named
        return agent

    @property
    def portal(self) -> Portal:
        """The loop of this process."""
        return self.session.portal

    def alone(self) -> Agent:
        """A copy that a team may run in sessions of its own; of its session only the fleet and the tenant count."""
        agent = copy(self)
        agent.stand_alone = True
        return agent

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, session={self.session.session_id!r})"

    @property
    def own_config(self) -> AgentConfig:
        """Its configuration with the session's settings for memory and knowledge, for turns outside that session."""
        return self.config.model_copy(update={"recalls": self.config.recalls.with_defaults(self.session.recalls)})

    @property
    def by_name(self) -> bool:
        """Whether it has only a name, and so stands for the configuration that its session has stored under it."""
        return not self._config_json

    def as_tool(self, name: str | None = None, description: str | None = None) -> AgentTool:
        """This agent as a tool of another agent, optionally with another name or description.

        Args:
            name: the tool's name for the asking model; `ask_<its name>` by default.
            description: the tool's description for the asking model; by default the agent's name and instructions.

        Raises:
            InvalidTool: model providers do not accept this name for a tool.
        """
        return agent_tool(self, name, description)

    # --- send and wait -----------------------------------------------------------------------------------

    @takes(TurnOptions)
    async def achat(
        self,
        message: MessageInput,
        *,
        stream: bool = False,
        session_id: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> Any:
        """Send a message and wait for the answer: a string, or an object of the output type.

        Args:
            message: a text, or a list of texts and files: `["What is this?", Image("photo.jpg")]`.
            stream: whether those who follow the turn get the answer's text as deltas.
            session_id: the session, for a stand-alone agent that serves many.
            options: see `sessions.TurnOptions`.

        Raises:
            TurnFailed, SessionBusy, BackendError, BadRequest: see `sessions.errors`.
        """
        session, content = self._session(session_id), message_content(message)
        response = await self.portal.acall(self._run(session, content, stream, options))
        return await apply(session.middleware, content.text, response)

    @takes(TurnOptions)
    def chat(
        self,
        message: MessageInput,
        *,
        stream: bool = False,
        session_id: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> Any:
        """Send a message and wait for the answer; see `achat`. Middleware runs outside the client's event loop."""
        session, content = self._session(session_id), message_content(message)
        response = self.portal.call(self._run(session, content, stream, options))
        return apply_blocking(session.middleware, content.text, response)

    def _session(self, session_id: str | None) -> AgentHome:
        return self.session if session_id is None else self.session.sibling(session_id)

    async def _run(self, session: AgentHome, content: Content, stream: bool, options: TurnOptions) -> Any:
        """The answer, before the middleware sees it."""
        submission = self.submission(session, content, stream=stream, **options)
        record = await session.client.turns.run(session.keys, submission)
        return result_of(record, session.keys.public_id(record.part), self.output)

    @takes(TurnOptions)
    async def astart(
        self,
        message: MessageInput,
        *,
        stream: bool = False,
        session_id: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> str:
        """`achat` under PraisonAI's name; always returns a string."""
        return str(await self.achat(message, stream=stream, session_id=session_id, **options))

    @takes(TurnOptions)
    def start(
        self,
        message: MessageInput,
        *,
        stream: bool = False,
        session_id: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> str:
        """`chat` under PraisonAI's name; always returns a string."""
        return str(self.chat(message, stream=stream, session_id=session_id, **options))

    # --- send and stream ---------------------------------------------------------------------------------

    @takes(TurnOptions)
    async def astream(
        self,
        /,
        message: MessageInput,
        *,
        session_id: str | None = None,
        on_disconnect: OnDisconnect = "continue",
        **options: Unpack[TurnOptions],
    ) -> AsyncIterator[Event]:
        """Send a message and iterate over the turn's events; `event.text` is the text of a delta, otherwise ''.

        Args:
            on_disconnect: what happens to the turn when the iteration is closed before its end: "continue", or "cancel"
                as for `Turn.aevents`. Not with policy "steer", where the turn is somebody else's.
            session_id: the session, for a stand-alone agent that serves many.
            options: see `sessions.TurnOptions`.

        Raises:
            As `asubmit`.
        """
        cancel = cancels(on_disconnect)
        if cancel and (options.get("policy") or self._session(session_id).policy) == Policy.STEER:
            raise BadRequest('on_disconnect="cancel" is for the one who starts a turn, and "steer" joins another one')
        submit = self.asubmit(message, stream=True, session_id=session_id, **options)
        turn = await (_submitted_or_cancelled(submit) if cancel else submit)
        events = turn.aevents(on_disconnect=on_disconnect)
        async with aclosing(events):  # type: ignore[type-var] # an async generator
            async for event in events:
                yield event

    stream = takes(TurnOptions)(iterating(astream))

    # --- send without waiting ----------------------------------------------------------------------------

    @takes(TurnOptions)
    async def asubmit(
        self,
        /,
        message: MessageInput,
        *,
        stream: bool = False,
        session_id: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> Turn:
        """Send a message and return once its turn is accepted; the turn will end, whatever happens to this process.

        Args:
            message: a text, or a list of texts and files: `["What is this?", Image("photo.jpg")]`.
            stream: whether the answer's text arrives as deltas (otherwise as one event).
            session_id: the session, for a stand-alone agent that serves many.
            options: see `sessions.TurnOptions`.

        Raises:
            IdempotencyConflict: the key was used with a different request.
            SessionBusy, SessionOwnerError, BadRequest, BackendError: nothing was accepted.
        """
        session = self._session(session_id)
        client, submission = session.client, self.submission(session, message, stream=stream, **options)
        part = await self.portal.acall(client.turns.submit(session.keys, submission))
        return Turn(client, session.keys, part, self.output, submission.sender or session.user_id)

    submit = takes(TurnOptions)(blocking(asubmit))

    def submission(
        self,
        session: AgentHome,
        message: MessageInput | Content,
        *,
        stream: bool = False,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        policy: str | None = None,
        waiting_blocks: bool | None = None,
        approval_timeout: float | None = None,
        webhook: str | None = None,
        not_before: datetime | float | None = None,
        model: str | Sequence[str] | None = None,
        model_settings: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        max_model_calls: int | None = None,
        max_tool_calls: int | None = None,
        budget: Mapping[str, Any] | None = None,
        user_id: str | None = None,
        instructions: str | None = None,
        outside_tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Sequence[str] | None = None,
        output_schema: Mapping[str, Any] | None = None,
    ) -> Submission:
        """The submission of a message to this agent in this session; options as for `asubmit`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        client = session.client
        settings = client.settings
        content = message_content(message)
        client.turns.check_message(content.text)
        return Submission(
            request=TurnRequest(
                message=content.text,
                agent=self.name,
                stream=stream,
                recalls=session.recalls,
                model=models_named("model", model),
                model_settings=settings_of(model_settings),
                metadata=json_object("metadata", metadata, limit=_LARGEST_METADATA) or None,
                limits=turn_limits(max_model_calls, max_tool_calls, budget),
                additions=turn_additions(instructions, outside_tools, tool_choice, output_schema),
            ),
            content=content.parts,
            agent=self.config,
            config=self._config_json,
            user_id=session.user_id,
            sender=_sender(session, user_id),
            queue=session.queue,
            timeout=settings.turn_timeout if timeout is None else seconds("timeout", timeout),
            idempotency_key=None if idempotency_key is None else short_string("idempotency_key", idempotency_key),
            session_ttl=session.ttl,
            searchable=session.searchable,
            compact=session.compact,
            policy=_policy(session, policy, scheduled=not_before is not None),
            waiting_blocks=(
                session.waiting_blocks if waiting_blocks is None else boolean("waiting_blocks", waiting_blocks)
            ),
            approval_timeout=(
                settings.approval_timeout if approval_timeout is None else seconds("approval_timeout", approval_timeout)
            ),
            webhook="" if webhook is None else webhook_url(webhook),
            not_before=None if not_before is None else start_time("not_before", not_before),
            named=self._named,
        )


async def _submitted_or_cancelled(submit: Coroutine[Any, Any, Turn]) -> Turn:
    """The accepted turn. If the caller leaves meanwhile, it may be accepted all the same: then it is cancelled."""
    submitting = asyncio.ensure_future(submit)
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        with suppress(SessionfleetError):
            await (await submitting).acancel()
        raise


def _policy(session: AgentHome, policy: object, *, scheduled: bool) -> Policy:
    """What to do if the session is busy. A scheduled turn waits for its place: until it is due, nobody knows."""
    if scheduled:
        if policy is not None and policy_named(policy) is not Policy.ENQUEUE:
            raise BadRequest(
                f"policy {policy!r} decides when a message is accepted, and this one begins later: with not_before=, "
                "use 'enqueue'"
            )
        return Policy.ENQUEUE
    return session.policy if policy is None else policy_named(policy)


def _sender(session: AgentHome, user_id: object) -> str | None:
    """Who sends a message: the session's user, or for a session that was opened without one, the one named here."""
    if user_id is None:
        return session.user_id
    if session.user_id not in (None, user_id):
        raise BadRequest(
            f"user_id {user_id!r}: the session was opened for user {session.user_id!r}; open it without user_id= to "
            "send messages of several users"
        )
    return short_string("user_id", user_id)


def _as_json(config: AgentConfig) -> bytes:
    try:
        return config.model_dump_json().encode()
    except PydanticSerializationError as error:
        raise BadRequest(f"agent {config.name!r} cannot be encoded as UTF-8: {error}") from error


def _with_agents(tools: Sequence[Any]) -> Sequence[Any]:
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        return tools
    return [item.as_tool() if isinstance(item, Agent) else item for item in tools]


def _hook_names(hooks: Sequence[str]) -> tuple[str, ...]:
    if isinstance(hooks, str) or not all(isinstance(name, str) for name in hooks):
        raise BadRequest(f"hooks={hooks!r}: use a list of the names under which the workers registered them")
    return tuple(hooks)


def _recalls(memory: object, knowledge: object, session: AgentHome) -> RecallSettings:
    """The agent's own settings; `session_id` and `user_id` only name its session."""
    options = dict(memory) if isinstance(memory, Mapping) else memory
    if isinstance(options, dict):
        options = {key: value for key, value in options.items() if key not in ("session_id", "user_id")} or None
    remembers = None if options is None else memory_config(options)
    return RecallSettings(
        memory=None if remembers is None else remembers.on,
        extract=None if remembers is None else remembers.extract,
        knowledge=None if knowledge is None else bases_to_search(knowledge_config(knowledge), session.knowledge),
    )


def _own_session(memory: Mapping[str, Any] | bool | None) -> AgentHome:
    if isinstance(memory, Mapping):
        return Agent.open_session(memory.get("session_id"), user_id=memory.get("user_id"))
    if memory is None or isinstance(memory, bool):
        return Agent.open_session()
    raise BadRequest(f'memory={memory!r}: use {{"session_id": ...}}, True or False')
