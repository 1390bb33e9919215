"""`RemoteBackend`: the back end of a session with an agent_url, at a gateway or another agent server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import uuid_utils

from sessions.client.arguments.message import Content
from sessions.client.arguments.options import TurnOptions
from sessions.client.arguments.values import seconds, short_string
from sessions.client.backend import SubmissionOf
from sessions.client.ports import SessionRef
from sessions.client.result import result_of
from sessions.errors import RemoteTimeout, RemoteUnsupported, ResultTimeout
from sessions.remote.address import Address, checked_headers
from sessions.remote.approvals import RemoteApprovals
from sessions.remote.client import RemoteClient
from sessions.remote.deletion import RemoteDeletion
from sessions.remote.files import RemoteFiles
from sessions.remote.history_search import RemoteHistorySearch
from sessions.remote.knowledge import RemoteKnowledge
from sessions.remote.lifecycle import RemoteLifecycle
from sessions.remote.listing import RemoteListing
from sessions.remote.memory import RemoteMemory
from sessions.remote.schedules import RemoteSchedules
from sessions.remote.server import RemoteServer
from sessions.remote.sharing import RemoteSharing
from sessions.remote.state import RemoteState
from sessions.remote.transfer import RemoteTransfer
from sessions.remote.turns import RemoteTurnLists
from sessions.remote.usage import RemoteUsage
from sessions.store.submission import Submission

_CALL_SECONDS: Final = 30.0


class RemoteBackend:
    """A `Backend` over HTTP. Creating one does no I/O.

    With a Sessionfleet gateway everything works as in a local session. With any other agent server only `chat` does;
    the rest raises RemoteUnsupported.

    Args:
        agent_url: such as `http://host:8000/agent` or `https://host/agent/clerk`; http if there is no scheme.
        timeout: seconds for one call, retries included; None for 30.
        headers: sent with every request, such as `{"Authorization": "Bearer ..."}`.

    Raises:
        BadRequest: an argument cannot be used.
    """

    settings = None

    def __init__(self, agent_url: object, timeout: float | None, headers: Mapping[str, str] | None) -> None:
        limit = _CALL_SECONDS if timeout is None else seconds("timeout", timeout)
        self._server = RemoteServer(Address.of(agent_url), checked_headers(headers), limit)
        self.state = RemoteState(self.client)
        self.lifecycle = RemoteLifecycle(self.client)
        self.turns = RemoteTurnLists(self.client)
        self.deletion = RemoteDeletion(self.client)
        self.listing = RemoteListing(self.client)
        self.approvals = RemoteApprovals(self.client)
        self.usage = RemoteUsage(self.client)
        self.history_search = RemoteHistorySearch(self.client)
        self.sharing = RemoteSharing(self.client)
        self.schedules = RemoteSchedules(self.client)
        self.memory = RemoteMemory(self.client)
        self.knowledge = RemoteKnowledge(self.client)
        self.files = RemoteFiles(self.client)
        self.transfer = RemoteTransfer(self.client)

    @property
    def agent_url(self) -> str:
        """The URL, without credentials."""
        return str(self._server.address)

    @property
    def timeout(self) -> float:
        """Seconds for one call."""
        return self._server.timeout

    @property
    def agent_name(self) -> str:
        """The agent that the URL names."""
        return self._server.address.agent

    def client(self, session: SessionRef) -> RemoteClient:
        """The client that sends the session's requests."""
        return RemoteClient(self._server, session.session_id, session.user_id)

    async def converse(
        self, session: SessionRef, message: Content, submission_of: SubmissionOf, options: Mapping[str, Any]
    ) -> Any:
        """Send a message to the agent at agent_url and wait for the answer; see `Session.achat`."""
        others = dict(options)
        timeout, key = others.pop("timeout", None), others.pop("idempotency_key", None)
        limit = self.timeout if timeout is None else seconds("timeout", timeout)
        until = time.monotonic() + limit
        key = uuid_utils.uuid4().hex if key is None else short_string("idempotency_key", key)
        try:
            if await self._server.is_gateway(limit):
                _check_names(others)
                submission = submission_of(message, idempotency_key=key, **others)
                return await self._ask(session, submission, until - time.monotonic())
            user = {} if session.user_id is None else {"user_id": session.user_id}
            fields = {**others, "session_id": session.session_id, **user}
            if message.parts:
                raise RemoteUnsupported(f"{self._server.address} takes only text: files need a Sessionfleet gateway")
            return await self._server.send_message(message.text, fields, key, max(0.001, until - time.monotonic()))
        except RemoteTimeout as error:
            error.detail.setdefault("idempotency_key", key)
            raise

    async def _ask(self, session: SessionRef, submission: Submission, left: float) -> Any:
        """Send a message to a gateway's agent. If the call times out, the error names the turn, which continues."""
        try:
            record = await self.client(session).turns.run_within(session.keys, submission, left)
        except ResultTimeout as error:
            turn_id = error.detail["turn_id"]
            raise RemoteTimeout(
                f"{error}, or session.turn({turn_id!r}).result() from elsewhere",
                turn_id=turn_id,
            ) from error
        return result_of(record, session.keys.public_id(record.part), None)


def _check_names(options: Mapping[str, Any]) -> None:
    """Refuse keywords that only a server that is not a gateway would get, as fields of the body.

    Raises:
        TypeError: there is one.
    """
    if unknown := options.keys() - {*TurnOptions.__annotations__, "stream"}:
        raise TypeError(
            f"Session.chat() got an unexpected keyword argument {min(unknown)!r}: the server is a Sessionfleet "
            "gateway, so the options are those of sessions.TurnOptions"
        )
