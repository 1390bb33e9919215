"""The methods of `Session` that change what was said: regenerate an answer, edit a message, delete a turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Protocol, Unpack

from sessions.api.agent import Agent
from sessions.api.middleware import apply, apply_blocking
from sessions.api.turn import Turn
from sessions.client.arguments.message import MessageInput
from sessions.client.arguments.options import TurnOptions, takes
from sessions.client.arguments.turns import own_part
from sessions.client.backend import BackedSession, Backend
from sessions.client.blocking import blocking
from sessions.client.output_type import OutputType
from sessions.client.ports import AgentHome
from sessions.client.result import result_of
from sessions.client.transcript import Branch
from sessions.errors import BadRequest
from sessions.protocol.turn import Policy
from sessions.store.submission import Replacement, Submission

_SAME: Final = "(the message of the replaced turn)"
"""Stands for the message until the store has looked it up."""


class _Home(AgentHome, Protocol):
    """A session, as these methods use it."""

    @property
    def backend(self) -> Backend:
        """Its back end."""
        ...


class BranchMethods:
    """The methods of `Session` that replace and delete turns, each with an async form."""

    @takes(TurnOptions)
    async def aregenerate(
        self: _Home,
        turn_id: str | None = None,
        message: MessageInput | None = None,
        *,
        agent: Agent | str | None = None,
        stream: bool = False,
        **options: Unpack[TurnOptions],
    ) -> Any:
        """Run a turn in the place of another one and wait for its answer, as `chat` does.

        The model sees the history before that turn. In the same step that writes the new answer, the turn and all that
        came after it leave the history for a branch (`branches`, `history(branch=...)`). If the new turn fails or is
        cancelled, nothing changes. What the replaced turns' tools did, changed in the state, or had remembered stays.

        Args:
            turn_id: the turn to replace, with all that are committed after it until the new one begins. None: the last
                committed turn, only if no other turn is committed before the new one begins.
            message: a new message, a text or a list of texts and files; None sends the same one again, with its files.
            agent: who answers, an agent or its name; None for the agent of the replaced turn.
            stream: whether those who follow the turn get the answer's text as deltas.
            options: see `sessions.TurnOptions`. The turn always holds up later turns while it waits for an answer.

        Raises:
            TurnNotFound: the history has no such turn: it was not committed, was replaced, or was deleted.
            HistoryChanged: the turn was replaced or deleted before the new one began, or turn_id is None and another
                turn was committed, or an open turn waits for an answer that has seen it.
            TurnFailed, SessionBusy, BackendError, BadRequest: see `sessions.errors`.
        """
        wanted = _submission(self, turn_id, message, agent, stream, options)
        sent, response = await self.portal.acall(_run(self, wanted, _output(agent)))
        return await apply(self.middleware, sent, response)

    @takes(TurnOptions)
    def regenerate(
        self: _Home,
        turn_id: str | None = None,
        message: MessageInput | None = None,
        *,
        agent: Agent | str | None = None,
        stream: bool = False,
        **options: Unpack[TurnOptions],
    ) -> Any:
        """Run a turn in the place of another one; see `aregenerate`. Middleware runs outside the client's loop."""
        wanted = _submission(self, turn_id, message, agent, stream, options)
        sent, response = self.portal.call(_run(self, wanted, _output(agent)))
        return apply_blocking(self.middleware, sent, response)

    @takes(TurnOptions)
    async def asubmit_regenerate(
        self: _Home,
        turn_id: str | None = None,
        message: MessageInput | None = None,
        *,
        agent: Agent | str | None = None,
        stream: bool = False,
        **options: Unpack[TurnOptions],
    ) -> Turn:
        """`aregenerate` without waiting: returns once the new turn is accepted. Its `events` stream the answer.

        Raises:
            TurnNotFound, SessionBusy, SessionOwnerError, BadRequest, BackendError: nothing was accepted.
        """
        wanted, client = _submission(self, turn_id, message, agent, stream, options), self.client
        part = await self.portal.acall(client.turns.submit(self.keys, wanted))
        return Turn(client, self.keys, part, _output(agent), wanted.sender or self.user_id)

    submit_regenerate = takes(TurnOptions)(blocking(asubmit_regenerate))

    async def abranches(self: BackedSession) -> list[Branch]:
        """The branches of the transcript, one for each time that a turn took the place of others; the oldest first."""
        return await self.portal.acall(self.backend.lifecycle.branches(self))

    branches = blocking(abranches)

    async def adelete_turn(self: BackedSession, turn_id: str) -> dict[str, int]:
        """Delete one turn: its messages, wherever they are, its record, events and idempotency keys.

        No error if there is nothing (any more). What its tools did, the state that it changed, the memories that were
        extracted from it, its files, and copies in forks are not deleted.

        Returns:
            The number of `keys` and `messages` that were deleted.

        Raises:
            SessionBusy: the turn has not ended, or an open turn has seen it.
            SessionOwnerError: the session belongs to another user. InvalidTurnId: it is not a turn of this session.
        """
        part = own_part(self.session_id, turn_id)
        return await self.portal.acall(self.backend.lifecycle.delete_turn(self, part))

    delete_turn = blocking(adelete_turn)


def _submission(
    session: _Home,
    turn_id: str | None,
    message: MessageInput | None,
    agent: Agent | str | None,
    stream: bool,
    options: TurnOptions,
) -> Submission:
    """The submission of a turn that replaces another one."""
    replacement = Replacement(
        turn=None if turn_id is None else own_part(session.session_id, turn_id),
        same_message=message is None,
        same_agent=agent is None,
    )
    who = agent if isinstance(agent, Agent) else Agent(agent or "Assistant", session=session)
    made = who.submission(session, _SAME if message is None else message, stream=stream, **_checked(session, options))
    replacement = replace(replacement, same_sender=message is None and made.sender is None)
    unknown: dict[str, Any] = {"message": ""} if message is None else {}
    if agent is None:
        made, unknown = replace(made, agent=None, config=b""), {**unknown, "agent": ""}
    return replace(made, request=made.request.model_copy(update=unknown), replacement=replacement)


def _checked(session: _Home, options: TurnOptions) -> TurnOptions:
    """The options, with those that a replacing turn cannot have checked or set.

    Raises:
        BadRequest: policy `steer`, or waiting_blocks=False.
    """
    if options.get("policy") == Policy.STEER:
        raise BadRequest(
            "policy 'steer': a turn that replaces another one cannot join a running one; use another policy"
        )
    if options.get("waiting_blocks") is False:
        raise BadRequest(
            "waiting_blocks=False: from the beginning of a turn that replaces others to its end, no other turn can run"
        )
    changed: TurnOptions = {**options, "waiting_blocks": True}
    if options.get("policy") is None and session.policy is Policy.STEER:
        changed["policy"] = Policy.ENQUEUE
    return changed


def _output(agent: Agent | str | None) -> OutputType | None:
    return agent.output if isinstance(agent, Agent) else None


async def _run(session: _Home, wanted: Submission, output: OutputType | None) -> tuple[str, Any]:
    """The text of the message, and the answer, before the middleware sees them."""
    record = await session.client.turns.run(session.keys, wanted)
    turn_id, sent = session.keys.public_id(record.part), wanted.request.message
    response = result_of(record, turn_id, output)
    if wanted.replacement is not None and wanted.replacement.same_message and session.middleware:
        sent = await _message_of(session, turn_id)
    return sent, response


async def _message_of(session: _Home, turn_id: str) -> str:
    """What the user said in the turn, which is one of the newest."""
    page = await session.backend.lifecycle.history(session, 10, "newest", None, None)
    return next((each.text for each in page if each.turn_id == turn_id and each.role == "user"), "")
