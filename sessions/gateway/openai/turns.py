"""From a request to the leg of a turn that answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.errors import BadRequest, NotFound
from sessions.gateway.agents import named_agent
from sessions.gateway.answers import answer_calls
from sessions.gateway.caller import Caller
from sessions.gateway.narration import Told, told
from sessions.gateway.openai.ids import APPROVAL, CallRef
from sessions.gateway.openai.items import Posted, import_history
from sessions.gateway.principal import Right
from sessions.store.keys import keyed_session_id, new_session_id

FRESH_TTL: Final = 7 * 86400.0
"""Seconds for which a session is kept that no client has named, since its last use."""
SLACK: Final = 5.0
"""Seconds within which a turn ends that is past its deadline."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What answers a request: a turn from its beginning, or from the results that its sender provided."""

    session_id: str
    turn: Turn
    number: int

    def told(self) -> AsyncIterator[Told]:
        """What it tells, as it happens."""
        return told(self.turn, self.number)

    def call_id(self, call_id: str) -> str:
        """The id of a call of the sender's, as clients get it."""
        return str(CallRef(self.session_id, self.turn.id, self.number, call_id))


def session_for(caller: Caller, named: str | None, agent: str, idempotency_key: str | None) -> Session:
    """The session that a request names, or a fresh one; for the same idempotency key the same one.

    Raises:
        InvalidSessionId: no session can have this id.
    """
    if named is not None:
        return caller.session(named)
    if idempotency_key is None:
        return caller.session(new_session_id(), ttl=FRESH_TTL)
    return caller.session(keyed_session_id(caller.user or "", "openai", agent, idempotency_key), ttl=FRESH_TTL)


async def begin(
    caller: Caller,
    session: Session,
    agent_name: str,
    new: Posted,
    *,
    stream: bool,
    idempotency_key: str | None,
    options: Mapping[str, Any],
) -> Leg:
    """Send what is new to an agent of the session, which begins with the posted history if it does not exist yet.

    Raises:
        NotFound: there is no such agent. BadRequest, SessionOwnerError, BackendError: see `Agent.asubmit`.
    """
    try:
        agent = await named_agent(caller, session, agent_name)
    except NotFound as error:
        raise NotFound(str(error), param="model", code="model_not_found") from None
    await import_history(session, new.history, agent.name)
    turn = await agent.asubmit(
        new.message or "",
        stream=stream,
        idempotency_key=idempotency_key,
        instructions=new.instructions or None,
        waiting_blocks=False if options.get("outside_tools") else None,
        **options,
    )
    return Leg(session.session_id, turn, 0)


async def provide(caller: Caller, new: Posted, named: str | None, param: str) -> Leg:
    """Answer the calls that a turn waits for; returns the leg with which it continues.

    Raises:
        BadRequest: the calls are not of one turn, or not all of them are answered. Forbidden: a call is not the
            sender's to answer. SessionOwnerError, TurnNotFound, BackendError.
    """
    results = {given: CallRef.read(given) for given in new.results}
    decisions = {given: CallRef.read(given, APPROVAL) for given in new.decisions}
    first = _common([*results.items(), *decisions.items()], param)
    if named not in (None, first.session_id):
        raise BadRequest(f"these calls are of the session {first.session_id!r}, not of {named!r}", param=param)
    turn = await caller.session(first.session_id).aturn(first.turn_id)
    if decisions:
        caller.principal.need(Right.APPROVE)
    given = {ref.call_id: new.results[name] for name, ref in results.items() if ref is not None}
    decided = {ref.call_id: new.decisions[name] for name, ref in decisions.items() if ref is not None}

    def shown(call_id: str) -> str:
        return str(CallRef(first.session_id, first.turn_id, first.leg, call_id))

    await answer_calls(turn, given, decided, shown, param)
    return Leg(first.session_id, turn, first.leg + 1)


def _common(refs: Sequence[tuple[str, CallRef | None]], param: str) -> CallRef:
    first = refs[0][1]
    for name, ref in refs:
        if ref is None or first is None or (ref.turn_id, ref.leg) != (first.turn_id, first.leg):
            raise BadRequest(f"{name[:80]!r} is no call of the last response", param=param)
    assert first is not None  # noqa: S101 - checked above
    return first
