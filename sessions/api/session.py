"""A session: one conversation, kept in the store, that any process can go on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker_config.settings import RETRIEVAL, Settings, SettingsError, queue_name
from sessions.api.agent import Agent
from sessions.api.delegation import AgentTool
from sessions.api.knowledge import KnowledgeMethods
from sessions.api.lifecycle import RecordMethods
from sessions.api.memory import MemoryMethods
from sessions.api.middleware import Middleware, checked
from sessions.api.state import StateMethods
from sessions.api.turn import Turn
from sessions.client.arguments.retrieval import knowledge_at
from sessions.client.arguments.retrieval import knowledge_config as knowledge_of
from sessions.client.arguments.retrieval import memory_config as memory_of
from sessions.client.arguments.values import flag, policy_named, seconds, short_text
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.errors import BadRequest, InvalidTurnId
from sessions.protocol.agent import Recalls
from sessions.store.keys import new_session_id, split_turn_id, valid_session_id, valid_tenant


class Session(StateMethods, RecordMethods, MemoryMethods, KnowledgeMethods):
    """A conversation. Its turns run one at a time, in the order of acceptance, on any worker of the fleet.

    Opening one does no I/O; the first turn creates it.

    Args:
        session_id: 1 to 256 visible characters of any alphabet, without spaces and `~`; made up when None.
        tenant: whose sessions these are, where one process serves several; SESSIONFLEET_TENANT when None. What one
            tenant has, no other one sees.
        user_id: who uses it. The first user owns the session, another one gets SessionOwnerError. None claims no
            identity: a trusted backend acts as whoever owns it.
        queue: the workers that serve it: "vip" means those of `turns.vip`. Fixed by the session's first turn.
        ttl: seconds the session lives after its last use; None keeps it until it is deleted. `session_ttl` is the
            same under PraisonAI's name.
        middleware: functions `fn(message, response)`, run in order after each `chat`; what one returns replaces the
            response, None keeps it.
        policy: what becomes of a message when the session is busy: `enqueue` (wait), `reject` (SessionBusy),
            `interrupt` (end the running turn and keep what it finished), `rollback` (end and forget it) or `steer`
            (join the running turn before its next model call).
        waiting_blocks: whether later turns wait while a turn waits for an approval or an outside result.
        memory: whether its agents use memory where they do not say themselves: True, False, or a dict such as
            `{"provider": "rag", "extract": True}`. `memory_config` is the same under PraisonAI's name.
        knowledge: likewise for documents: True, the name of a knowledge base that sessions share (or a list of
            names), or a dict such as `{"vector_store": {"provider": "qdrant", "config": {"collection_name": ...}}}`.
            `knowledge_config` is the same under PraisonAI's name.
        agent_url: of an agent behind a server, as "http://host:8000/agent": the session is a RemoteSession, with the
            same methods over HTTP. timeout: seconds for one call of it, 30 by default; headers: sent with each request.
        settings: another fleet than the environment's.

    Raises:
        InvalidSessionId, BadRequest: an argument cannot be used.
    """

    def __new__(cls, *_: Any, agent_url: str | None = None, **__: Any) -> Session:
        """With agent_url, a session behind a server. HTTP is loaded for these alone."""
        if agent_url is None or cls is not Session:
            return super().__new__(cls)
        from sessions.remote import RemoteSession  # noqa: PLC0415 - most sessions are not remote

        return super().__new__(RemoteSession)

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
        agent_url: str | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        tenant: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if agent_url is not None:  # where one is given, `__new__` has made a RemoteSession, but not of a subclass
            raise BadRequest(f"{type(self).__name__}(agent_url=...): subclass sessions.remote.RemoteSession for that")
        if timeout is not None or headers is not None:
            raise BadRequest("timeout= and headers= are for remote sessions: give agent_url=, too")
        self.session_id = new_session_id() if session_id is None else valid_session_id(session_id)
        self.user_id = None if user_id is None else short_text("user_id", user_id)
        self.queue = _queue(queue)
        lifetime = session_ttl if ttl is None else ttl
        self.ttl = None if lifetime is None else seconds("ttl", lifetime)
        self.middleware = checked(middleware)
        self.policy = policy_named(policy)
        self.waiting_blocks = flag("waiting_blocks", waiting_blocks)
        self.memory = memory_of(memory_config if memory is None else memory)
        self.knowledge = knowledge_of(knowledge_config if knowledge is None else knowledge)
        self._settings = settings
        self.keys = self.client.keys(self.session_id, None if tenant is None else valid_tenant(tenant))

    def __repr__(self) -> str:
        return f"Session({self.session_id!r})"

    @property
    def client(self) -> FleetClient:
        """This process's client: looked up at each use, so that a forked child gets its own."""
        return get_client(self._settings)

    @property
    def settings(self) -> Settings | None:
        """The fleet that it was opened on; None for the environment's."""
        return self._settings

    @property
    def is_remote(self) -> bool:
        """Whether it is behind a server (`agent_url=`)."""
        return False

    def sibling(self, session_id: str) -> Session:
        """Another session of the same kind: same tenant, queue, ttl and fleet, and no user."""
        return Session(
            session_id,
            queue=self.queue,
            ttl=self.ttl,
            middleware=self.middleware,
            policy=self.policy,
            waiting_blocks=self.waiting_blocks,
            memory=self.memory,
            knowledge=self.knowledge,
            tenant=self.keys.tenant,
            settings=self._settings,
        )

    @property
    def recalls(self) -> Recalls:
        """What its agents look up where they do not say themselves."""
        knowledge = knowledge_at(self.knowledge, self.knowledge) if self.knowledge.on else None
        return Recalls(memory=self.memory.on or None, extract=self.memory.extract or None, knowledge=knowledge)

    def Agent(  # noqa: N802 - the documented name: session.Agent(...)
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
    ) -> Agent:
        """An agent within this session; see `sessions.Agent` for the arguments."""
        return Agent(
            name,
            instructions=instructions,
            tools=tools,
            model=model,
            output_type=output_type,
            hooks=hooks,
            registered=registered,
            memory=memory,
            knowledge=knowledge,
            session=self,
        )

    async def achat(self, message: str, **options: Any) -> Any:
        """Send a message to the session's default agent, and wait for the answer; options as `Agent.achat`.

        In a remote session that is the agent at agent_url; see `sessions.remote.RemoteSession.achat`.
        """
        return await self.Agent().achat(message, **options)

    def chat(self, message: str, **options: Any) -> Any:
        """Send a message to the session's default agent; see `achat`."""
        return self.Agent().chat(message, **options)

    async def asend_message(self, message: str, **options: Any) -> Any:
        """`achat` under PraisonAI's name."""
        return await self.achat(message, **options)

    def send_message(self, message: str, **options: Any) -> Any:
        """`chat` under PraisonAI's name."""
        return self.chat(message, **options)

    async def aturn(self, turn_id: str) -> Turn:
        """A turn of this session by its id, from any process.

        Raises:
            InvalidTurnId: it is no turn id, or one of another session.
            SessionOwnerError: the session belongs to another user, or did when the turn was accepted.
        """
        part = self._part(turn_id)
        await self.client.portal.acall(self.client.check_turn(self.keys, part, self.user_id))
        return Turn(self.client, self.keys, part)

    def turn(self, turn_id: str) -> Turn:
        """A turn of this session by its id; see `aturn`."""
        part = self._part(turn_id)
        self.client.portal.call(self.client.check_turn(self.keys, part, self.user_id))
        return Turn(self.client, self.keys, part)

    async def adelete(self) -> dict[str, int]:
        """Remove the session with all it has; says how many keys and turns that were."""
        return await self.client.portal.acall(self.client.delete_session(self.keys, self.user_id))

    def delete(self) -> dict[str, int]:
        """Remove the session; see `adelete`."""
        return self.client.portal.call(self.client.delete_session(self.keys, self.user_id))

    def _part(self, turn_id: str) -> str:
        session_id, part = split_turn_id(turn_id)
        if session_id != self.session_id:
            raise InvalidTurnId(f"turn {turn_id!r} belongs to session {session_id!r}, not to {self.session_id!r}")
        return part


def _queue(queue: object) -> str:
    if not isinstance(queue, str):
        raise BadRequest(f"queue {queue!r}: give its name as a text")
    if queue == RETRIEVAL:
        raise BadRequest(f"queue {queue!r} is that of searches and documents, whose workers run no agents: use another")
    try:
        return queue_name(queue)
    except SettingsError as error:
        raise BadRequest(str(error)) from error
