"""A session behind an agent_url: one of a gateway, with all that sessions have, or a plain remote agent's."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import uuid_utils

from sessions.api.agent import Agent
from sessions.api.middleware import apply, apply_blocking
from sessions.api.session import Session
from sessions.client.arguments.values import message_text, seconds, short_text
from sessions.client.ports import KnowledgeCalls, MemoryCalls, RecordCalls, StateCalls
from sessions.client.result import answer
from sessions.errors import BadRequest, RemoteTimeout, ResultTimeout
from sessions.remote import knowledge, lifecycle, memory, state
from sessions.remote.address import Address, checked_headers
from sessions.remote.client import RemoteClient
from sessions.remote.server import RemoteServer


class RemoteSession(Session):
    """A session by HTTP; `Session(agent_url=...)` makes one. Opening it does no I/O.

    On a Sessionfleet gateway it has all that a local one has. Any other agent's server is asked by `chat` alone; the
    rest raises RemoteUnsupported.

    Args:
        agent_url: of the agent, as `http://host:8000/agent` or `https://host/agent/clerk`; http where it says nothing.
        timeout: seconds for one call, with all its tries.
        headers: sent with every request, as `{"Authorization": "Bearer ..."}`.
        options: of `Session`.

    Raises:
        BadRequest: an argument cannot be used.
    """

    _state_calls: ClassVar[StateCalls] = state
    _record_calls: ClassVar[RecordCalls] = lifecycle
    _memory_calls: ClassVar[MemoryCalls] = memory
    _knowledge_calls: ClassVar[KnowledgeCalls] = knowledge

    def __init__(
        self,
        session_id: str | None = None,
        user_id: str | None = None,
        *,
        agent_url: str | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        for name in ("settings", "tenant"):
            if options.get(name) is not None:
                raise BadRequest(f"{name}= is for sessions of this process's own fleet; agent_url= names a server")
        patience = 30.0 if timeout is None else seconds("timeout", timeout)
        self.server = RemoteServer(Address.of(agent_url), checked_headers(headers), patience)
        super().__init__(session_id, user_id, **options)

    def __repr__(self) -> str:
        return f"RemoteSession({self.session_id!r}, agent_url={str(self.server.address)!r})"

    @property
    def is_remote(self) -> bool:
        """It is."""
        return True

    @property
    def agent_url(self) -> str:
        """The address, without credentials."""
        return str(self.server.address)

    @property
    def timeout(self) -> float:
        """Seconds for one call."""
        return self.server.timeout

    @property
    def client(self) -> RemoteClient:  # type: ignore[override] # what Session's own methods use of one, both have
        """The gateway's side of this session."""
        return RemoteClient(self.server, self.session_id, self.user_id)

    def sibling(self, session_id: str) -> RemoteSession:
        """Another session of the same kind, on the same server, and no user."""
        other = copy.copy(self)
        Session.__init__(
            other,
            session_id,
            queue=self.queue,
            ttl=self.ttl,
            middleware=self.middleware,
            policy=self.policy,
            waiting_blocks=self.waiting_blocks,
            memory=self.memory,
            knowledge=self.knowledge,
        )
        return other

    # --- the agent that the address names ---------------------------------------------------------------

    async def achat(
        self, message: str, *, timeout: float | None = None, idempotency_key: str | None = None, **options: Any
    ) -> Any:
        """Send a message to the agent at agent_url, and wait for the answer: a text, as a rule.

        Args:
            timeout: seconds for this call, instead of the session's. At a gateway it ends the waiting, never the turn.
            idempotency_key: the same call with the same key is answered by the same turn; gateways know it.
            options: at a gateway those of `Agent.chat`; other servers get them as further fields of the body.

        Raises:
            RemoteTimeout: there is no answer in time; `turn_id` names the turn that goes on, at a gateway.
            RemoteError: see `sessions.errors`. TurnFailed and others: at a gateway, as `Agent.chat`.
        """
        work = self._converse(message_text(message), timeout, idempotency_key, options)
        return await apply(self.middleware, message, await self.client.portal.acall(work))

    def chat(
        self, message: str, *, timeout: float | None = None, idempotency_key: str | None = None, **options: Any
    ) -> Any:
        """Send a message to the agent at agent_url, and wait for the answer; see `achat`."""
        work = self._converse(message_text(message), timeout, idempotency_key, options)
        return apply_blocking(self.middleware, message, self.client.portal.call(work))

    async def _converse(
        self, message: str, timeout: float | None, idempotency_key: str | None, options: Mapping[str, Any]
    ) -> Any:
        patience = self.timeout if timeout is None else seconds("timeout", timeout)
        until = time.monotonic() + patience
        key = uuid_utils.uuid4().hex if idempotency_key is None else short_text("idempotency_key", idempotency_key)
        try:
            if await self.server.is_gateway(patience):
                return await self._ask(message, key, patience, until - time.monotonic(), options)
            user = {} if self.user_id is None else {"user_id": self.user_id}
            fields = {**options, "session_id": self.session_id, **user}
            return await self.server.tell(message, fields, key, max(0.001, until - time.monotonic()))
        except RemoteTimeout as error:
            error.detail.setdefault("idempotency_key", key)
            raise

    async def _ask(self, message: str, key: str, patience: float, left: float, options: Mapping[str, Any]) -> Any:
        agent = Agent(self.server.address.agent, session=self, registered=True)  # by its name there, whatever it is
        _, order = agent._order(message, None, stream=False, idempotency_key=key, **options)  # noqa: SLF001
        client = self.client
        try:
            record = await client.ask_within(self.keys, order, left)
        except ResultTimeout as error:
            turn_id = error.detail["turn_id"]
            raise RemoteTimeout(
                f"{error}, or session.turn({turn_id!r}).result() from elsewhere",
                turn_id=turn_id,
            ) from error
        return answer(record, self.keys.public_id(record.part), None)
