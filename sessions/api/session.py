"""`Session`: one conversation, kept in the store, that any process can continue."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, Self, Unpack

from broker_config.settings import RETRIEVAL, Settings, SettingsError, queue_name
from sessions.api.agent import Agent
from sessions.api.approvals import ApprovalMethods
from sessions.api.branches import BranchMethods
from sessions.api.delegation import AgentTool
from sessions.api.files import FileMethods
from sessions.api.history_search import HistorySearchMethods
from sessions.api.importing import ImportMethods
from sessions.api.knowledge import KnowledgeMethods
from sessions.api.lifecycle import LifecycleMethods
from sessions.api.listing import ListingMethods
from sessions.api.many_sessions import ManySessions
from sessions.api.memory import MemoryMethods
from sessions.api.middleware import Middleware, apply, apply_blocking, checked
from sessions.api.schedules import ScheduleMethods
from sessions.api.sharing import SharingMethods
from sessions.api.state import StateMethods
from sessions.api.transfer import TransferMethods
from sessions.api.turn import Turn
from sessions.api.turns import TurnMethods
from sessions.client.arguments.message import Content, MessageInput, message_content
from sessions.client.arguments.options import TurnOptions, takes
from sessions.client.arguments.retrieval import bases_to_search
from sessions.client.arguments.retrieval import knowledge_config as knowledge_of
from sessions.client.arguments.retrieval import memory_config as memory_of
from sessions.client.arguments.turns import own_part
from sessions.client.arguments.values import boolean, compact_named, policy_named, seconds, short_string
from sessions.client.backend import Backend
from sessions.client.blocking import blocking
from sessions.client.portal import Portal
from sessions.client.ports import SessionClient
from sessions.errors import BadRequest
from sessions.local.backend import LocalBackend
from sessions.protocol.agent import RecallSettings
from sessions.protocol.compaction_requests import Compact
from sessions.store.keys import new_session_id, valid_session_id, valid_tenant

AnAgent = Agent
"""The class: in `Session`, the name is that of the method."""


def _is_remote(session: Session) -> bool:
    return session.is_remote


class Session(
    StateMethods,
    LifecycleMethods,
    TurnMethods,
    ManySessions,
    ApprovalMethods,
    ImportMethods,
    ScheduleMethods,
    ListingMethods,
    HistorySearchMethods,
    SharingMethods,
    TransferMethods,
    MemoryMethods,
    KnowledgeMethods,
    BranchMethods,
    FileMethods,
):
    """A conversation. Its turns run one at a time, in the order of acceptance, on any worker of the fleet.

    Opening a session does no I/O; its first turn creates it.

    Args:
        session_id: 1 to 256 visible characters of any alphabet, without spaces or `~`; generated if None.
        tenant: for a process that serves several tenants; None for SESSIONFLEET_TENANT. A tenant never sees the
            records of another one.
        user_id: who uses it. The first user owns the session, any other gets SessionOwnerError. None claims no
            identity: a trusted backend acts as the owner.
        queue: which workers serve it: "vip" means those of `turns.vip`. Fixed by the session's first turn.
        ttl: seconds for which the session is kept after its last use; None keeps it until it is deleted.
            `session_ttl` is the same under PraisonAI's name.
        middleware: functions `fn(message, response)`, run in order after each `chat`; what one returns replaces the
            response, None keeps it.
        policy: what to do with a message if the session is busy: `enqueue` (wait), `reject` (SessionBusy), `interrupt`
            (cancel the running turn, keep what it completed), `rollback` (cancel the running turn, keep nothing) or
            `steer` (join the running turn before its next model request).
        waiting_blocks: whether later turns wait while a turn waits for an approval or an outside result.
        memory: whether agents use memory, unless they set it themselves: True, False, or a dict such as
            `{"provider": "rag", "extract": True}`. `memory_config` is the same under PraisonAI's name.
        knowledge: the same for documents: True, the name of a knowledge base that sessions share (or a list of
            names), or a dict such as `{"vector_store": {"provider": "qdrant", "config": {"collection_name": ...}}}`.
            `knowledge_config` is the same under PraisonAI's name.
        searchable: True makes its transcript searchable (`search_history`, `Session.search`), from its next message on
            and with all of its history; False ends that. None leaves it as it is: off, unless
            SESSIONFLEET_HISTORY_SEARCH is on.
        compact: "auto" has a model summarise the turns that leave the window of history, in the background, and gives
            later turns the summary; "off" ends that, and deletes the summary. None leaves it as it is: off, unless
            SESSIONFLEET_COMPACT is auto.
        agent_url: the URL of an agent on a server, such as "http://host:8000/agent" or "https://host/agent/clerk": the
            session has the same methods, over HTTP. With a Sessionfleet gateway all of them work; with any other agent
            server only `chat` does, and the rest raises RemoteUnsupported.
        timeout: seconds for one call of a remote session, retries included; 30 by default.
        headers: sent with each request of a remote session, such as `{"Authorization": "Bearer ..."}`.
        settings: of another fleet than the environment's.

    Raises:
        InvalidSessionId, BadRequest: an argument cannot be used.
    """

    def __init__(
        self,
        session_id: str | None = None,
        user_id: str | None = None,
        *,
        queue: str = "turns",
        ttl: float | None = None,
        middleware: Sequence[Middleware] | None = None,
        session_ttl: float | None = None,
        policy: str = "enqueue",
        waiting_blocks: bool = True,
        memory: object = None,
        memory_config: object = None,
        knowledge: object = None,
        knowledge_config: object = None,
        searchable: bool | None = None,
        compact: Compact | None = None,
        agent_url: str | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        tenant: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.backend = _backend(agent_url, timeout, headers, tenant, settings)
        self.session_id = new_session_id() if session_id is None else valid_session_id(session_id)
        self.user_id = None if user_id is None else short_string("user_id", user_id)
        self.queue = _queue(queue)
        lifetime = session_ttl if ttl is None else ttl
        self.ttl = None if lifetime is None else seconds("ttl", lifetime)
        self.middleware = checked(middleware)
        self.policy = policy_named(policy)
        self.waiting_blocks = boolean("waiting_blocks", waiting_blocks)
        self.memory = memory_of(memory_config if memory is None else memory)
        self.knowledge = knowledge_of(knowledge_config if knowledge is None else knowledge)
        self.searchable = None if searchable is None else boolean("searchable", searchable)
        self.compact = None if compact is None else compact_named(compact)
        self.keys = self.client.keys(self.session_id, None if tenant is None else valid_tenant(tenant))

    def __repr__(self) -> str:
        server = "" if self.agent_url is None else f", agent_url={self.agent_url!r}"
        return f"{type(self).__name__}({self.session_id!r}{server})"

    @property
    def client(self) -> SessionClient:
        """The client that sends its requests; looked up at each use, because a forked child needs its own."""
        return self.backend.client(self)

    @property
    def portal(self) -> Portal:
        """The event loop of this process, on which all I/O runs."""
        return self.client.portal

    @property
    def settings(self) -> Settings | None:
        """The settings that it was opened with; None for the environment's."""
        return self.backend.settings

    @property
    def is_remote(self) -> bool:
        """Whether it is a remote session (`agent_url=`)."""
        return self.backend.agent_url is not None

    @property
    def agent_url(self) -> str | None:
        """The server's address, without credentials; None for a local session."""
        return self.backend.agent_url

    @property
    def timeout(self) -> float | None:
        """Seconds for one call of a remote session; None for a local one."""
        return self.backend.timeout

    def sibling(self, session_id: str) -> Self:
        """Another session with the same back end, tenant, queue and options, and without a user."""
        other = copy(self)
        other.session_id, other.user_id = valid_session_id(session_id), None
        other.keys = other.client.keys(session_id, self.keys.tenant)
        return other

    @property
    def recalls(self) -> RecallSettings:
        """What its agents recall, unless they set it themselves."""
        knowledge = bases_to_search(self.knowledge, self.knowledge) if self.knowledge.on else None
        return RecallSettings(memory=self.memory.on or None, extract=self.memory.extract or None, knowledge=knowledge)

    def Agent(  # noqa: N802 - the documented name: session.Agent(...)
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
    ) -> Agent:
        """An agent in this session; see `sessions.Agent` for the arguments."""
        return Agent(
            name,
            instructions=instructions,
            tools=tools,
            model=model,
            output_type=output_type,
            hooks=hooks,
            registered=registered,
            max_model_calls=max_model_calls,
            max_tool_calls=max_tool_calls,
            budget=budget,
            memory=memory,
            knowledge=knowledge,
            session=self,
        )

    @takes(TurnOptions, more=_is_remote)
    async def achat(self, message: MessageInput, *, stream: bool = False, **options: Unpack[TurnOptions]) -> Any:
        """Send a message to the session's default agent and wait for the answer; see `sessions.TurnOptions`.

        In a remote session that is the agent at agent_url, and `timeout` replaces the session's for this call (with a
        gateway it ends the wait, not the turn). A server that is not a gateway gets the other options, and any further
        keywords, as fields of the body.

        Raises:
            As `Agent.achat`. RemoteTimeout: a remote session got no answer in time; with a gateway the turn continues,
            and `turn_id` names it. RemoteError: see `sessions.errors`.
        """
        content = message_content(message)
        response = await self.portal.acall(self._converse(content, stream, options))
        return await apply(self.middleware, content.text, response)

    @takes(TurnOptions, more=_is_remote)
    def chat(self, message: MessageInput, *, stream: bool = False, **options: Unpack[TurnOptions]) -> Any:
        """Send a message to the session's default agent; see `achat`. Middleware runs outside the client's loop."""
        content = message_content(message)
        response = self.portal.call(self._converse(content, stream, options))
        return apply_blocking(self.middleware, content.text, response)

    def default_agent(self) -> AnAgent:
        """The agent that `chat` sends messages to: "Assistant", or the one that a remote session's URL names."""
        name = self.backend.agent_name
        return self.Agent() if name is None else self.Agent(name, registered=True)

    def _converse(self, content: Content, stream: bool, options: TurnOptions) -> Coroutine[Any, Any, Any]:
        agent = self.default_agent()
        streamed = {"stream": True} if stream else {}
        return self.backend.converse(self, content, partial(agent.submission, self), {**options, **streamed})

    @takes(TurnOptions, more=_is_remote)
    async def asend_message(
        self, message: MessageInput, *, stream: bool = False, **options: Unpack[TurnOptions]
    ) -> Any:
        """`achat` under PraisonAI's name."""
        return await self.achat(message, stream=stream, **options)

    @takes(TurnOptions, more=_is_remote)
    def send_message(self, message: MessageInput, *, stream: bool = False, **options: Unpack[TurnOptions]) -> Any:
        """`chat` under PraisonAI's name."""
        return self.chat(message, stream=stream, **options)

    async def aturn(self, turn_id: str) -> Turn:
        """A turn of this session by its id, from any process.

        Raises:
            InvalidTurnId: it is not a turn id, or it is one of another session.
            SessionOwnerError: the session belongs to another user, or did so when the turn was accepted.
        """
        part = own_part(self.session_id, turn_id)
        await self.portal.acall(self.backend.lifecycle.check_turn(self, part))
        return Turn(self.client, self.keys, part, user_id=self.user_id)

    turn = blocking(aturn)

    async def afork(self, session_id: str | None = None, *, at: str | None = None) -> Self:
        """A new session with a copy of this one's history up to a turn, state, memories, files, documents and agents.

        Args:
            session_id: of the new session; generated if None.
            at: id of the last turn to copy; None for all committed turns. A turn that was replaced is copied with what
                was before it then, so that a conversation can go on from there.

        Raises:
            TurnNotFound: `at` is not a committed turn of this session. SessionExists: the id is taken.
            ResultTimeout, NoWorkerAlive: its documents could not be copied; the new session exists without them.
        """
        new_id = new_session_id() if session_id is None else valid_session_id(session_id)
        made = await self.portal.acall(self.backend.lifecycle.fork(self, new_id, at))
        forked = self.sibling(made.session_id)
        forked.user_id = made.user_id
        return forked

    fork = blocking(afork)

    async def adelete(self) -> dict[str, int]:
        """Delete the session and all its records; returns the number of keys, turns, files and documents.

        Raises:
            SessionOwnerError: it belongs to another user. ResultTimeout, NoWorkerAlive: its documents could not be
                removed.
        """
        return await self.portal.acall(self.backend.lifecycle.delete(self))

    delete = blocking(adelete)


def _queue(queue: object) -> str:
    if not isinstance(queue, str):
        raise BadRequest(f"queue {queue!r}: use its name, a string")
    if queue == RETRIEVAL:
        raise BadRequest(
            f"queue {queue!r} is for searches and documents, and its workers run no agents: use another one"
        )
    try:
        return queue_name(queue)
    except SettingsError as error:
        raise BadRequest(str(error)) from error


def _backend(
    agent_url: str | None,
    timeout: float | None,
    headers: Mapping[str, str] | None,
    tenant: str | None,
    settings: Settings | None,
) -> Backend:
    if agent_url is None:
        if timeout is not None or headers is not None:
            raise BadRequest("timeout= and headers= are for remote sessions: pass agent_url= as well")
        return LocalBackend(settings)
    for name, value in (("settings", settings), ("tenant", tenant)):
        if value is not None:
            raise BadRequest(
                f"{name}= is for local sessions, and agent_url= makes it a remote one: pass only one of them"
            )
    from sessions.remote.backend import RemoteBackend  # noqa: PLC0415 - loads httpx, which local sessions do not need

    return RemoteBackend(agent_url, timeout, headers)


Agent.open_session = Session
