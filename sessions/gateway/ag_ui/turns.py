"""From the input of a run to the turn that it follows."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field

from ag_ui.core import Message, ReasoningMessage, RunAgentInput

from sessions.adapters.library_session import LibrarySession
from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.errors import BadRequest, NotFound, SessionExpired, TurnNotFound
from sessions.gateway.ag_ui.ids import CallRef, turn_of_message
from sessions.gateway.ag_ui.messages import message_of_request, messages_of_entry
from sessions.gateway.ag_ui.requests import New, outside_tools
from sessions.gateway.agents import named_agent
from sessions.gateway.answers import answer_calls
from sessions.gateway.caller import Caller
from sessions.gateway.narration import Asked, asks_client, in_legs
from sessions.gateway.principal import Right
from sessions.protocol.turn import TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.keys import split_turn_id

_ADAPTER = "ag-ui"
_MOST = 1000
"""Turns that a snapshot of the messages goes back."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run tells: legs of a turn, or only what there is.

    Attributes:
        turn: None if nothing is going on.
        part: of the turn's id; "" if there is none.
        first: the first leg that is told; last: the one with which the run ends.
        before: the messages with which it begins; None if the client has them.
        earlier: all messages before those of the turn, as far as they are known here.
    """

    session: Session
    turn: Turn | None = None
    part: str = ""
    first: int = 0
    last: int = 0
    before: list[Message] | None = None
    earlier: list[Message] = field(default_factory=list)


async def run_for(caller: Caller, body: RunAgentInput, agent: str, new: New) -> Run:
    """What a run follows: a new turn, one whose calls it answers, or the one that is open.

    Raises:
        NotFound: there is no such agent. BadRequest, Forbidden, SessionOwnerError, BackendError.
    """
    session = caller.session(body.thread_id)
    run = await _continued(caller, session, new) if new.answers else None
    if new.message is not None:
        return await _begun(caller, session, body, agent, new)
    return run or await _resumed(caller, session, new)


async def _begun(caller: Caller, session: Session, body: RunAgentInput, agent_name: str, new: New) -> Run:
    """A new turn; the same one for the same run id."""
    agent = await named_agent(caller, session, agent_name)
    tools = outside_tools(body.tools)
    turn = await agent.asubmit(
        new.message or "",
        stream=True,
        idempotency_key=f"ag-ui {body.run_id}",
        instructions=new.instructions or None,
        outside_tools=tools or None,
        waiting_blocks=False if tools else None,
    )
    part = split_turn_id(turn.id)[1]
    entries = await _entries(session, 2)
    newest = next((entry for entry in reversed(entries) if entry.turn != part), None)
    if new.seen == (newest and newest.turn) and new.holds == (newest is not None):
        return Run(session, turn, part, earlier=list(body.messages))
    before = [*_messages_before(await _entries(session, _MOST), part), *new.asked]
    return Run(session, turn, part, before=before, earlier=before)


async def _continued(caller: Caller, session: Session, new: New) -> Run:
    """The turn whose calls are answered, from the leg with which it goes on.

    Raises:
        BadRequest: the calls are not of one turn, or not all of them are answered. Forbidden: a call is not the
            sender's to answer. TurnNotFound.
    """
    refs = {given: CallRef.read(given) for given in (*new.results, *new.decisions)}
    parts = {None if ref is None else ref.part for ref in refs.values()}
    part = parts.pop()
    if part is None or parts:
        raise BadRequest(f"these calls are not all of one turn: {', '.join(repr(given[:80]) for given in refs)}")
    if new.decisions:
        caller.principal.need(Right.APPROVE)
    turn = await session.aturn(session.keys.public_id(part))
    own = {ref.call_id: given for given, ref in refs.items() if ref is not None}
    leg = await _leg_asking(caller, session, part, set(own))
    repeated = not any(call.call_id in own for call in await turn.aapprovals())
    await answer_calls(
        turn,
        {call_id: new.results[given] for call_id, given in own.items() if given in new.results},
        {call_id: new.decisions[given] for call_id, given in own.items() if given in new.decisions},
        lambda call_id: str(CallRef(part, call_id)),
    )
    if repeated:  # the turn has gone on, and the client may have a part of what came
        return await _again(caller, session, turn, part, new)
    earlier = [*_messages_before(await _entries(session, _MOST), part), await _asked(caller, session, part)]
    return Run(session, turn, part, leg + 1, leg + 1, earlier=earlier)


async def _again(caller: Caller, session: Session, turn: Turn, part: str, new: New) -> Run:
    """A turn from its beginning: the client's messages are replaced by those before it."""
    before = [*_messages_before(await _entries(session, _MOST), part), await _asked(caller, session, part)]
    before += emptied_thoughts(new, part)
    return Run(session, turn, part, 0, await _current_leg(caller, session, turn, part), before, before)


async def _resumed(caller: Caller, session: Session, new: New) -> Run:
    """The open turn, from its beginning.

    If no turn is open, what there is; and how the turn ended of which the client has a message, if it failed.
    """
    part = await _open_part(session) or await _failed(session, new.seen)
    if part is None:
        return Run(session, before=_messages_before(await _entries(session, _MOST), ""))
    return await _again(caller, session, await session.aturn(session.keys.public_id(part)), part, new)


def emptied_thoughts(new: New, part: str) -> list[Message]:
    """The thoughts that a client has of a turn, without content: it keeps those that a snapshot does not have."""
    return [ReasoningMessage(id=given, content="") for given in new.thoughts if turn_of_message(given) == part]


async def _open_part(session: Session) -> str | None:
    try:
        page = await session.aturns(open=True, scheduled=False, limit=_MOST)
    except (NotFound, SessionExpired):
        return None
    turns = list(page)
    return split_turn_id(turns[-1].id)[1] if turns else None


async def _failed(session: Session, seen: str | None) -> str | None:
    if seen is None:
        return None
    try:
        record = await (await session.aturn(session.keys.public_id(seen))).arecord()
    except (TurnNotFound, NotFound, SessionExpired):
        return None
    return seen if record.status in (TurnStatus.FAILED, TurnStatus.DEAD_LETTERED) else None


async def _asked(caller: Caller, session: Session, part: str) -> Message:
    client = caller.gateway.client
    return message_of_request(part, await client.portal.acall(client.session_turns.request(session.keys, part)))


async def _legs(caller: Caller, session: Session, part: str) -> list[Asked]:
    """What a turn has asked its client so far, at the end of each leg."""
    client = caller.gateway.client
    events = client.portal.aiterate(client.session_turns.so_far(session.keys, part))
    async with aclosing(in_legs(events, asks_client)) as items:  # type: ignore[type-var] # an async generator
        return [item async for _, item in items if isinstance(item, Asked) and asks_client(item)]


async def _leg_asking(caller: Caller, session: Session, part: str, calls: set[str]) -> int:
    for leg, asked in enumerate(await _legs(caller, session, part)):
        if calls & {call.call_id for call in (*asked.own, *asked.others)}:
            return leg
    raise BadRequest(f"the turn has not asked for these calls: {', '.join(sorted(calls))[:300]}")


async def _current_leg(caller: Caller, session: Session, turn: Turn, part: str) -> int:
    """The leg with which a turn ends for now: the one that waits for the client, or the one that goes on."""
    legs = await _legs(caller, session, part)
    pending = {call.call_id for call in await turn.aapprovals()}
    waits = bool(legs) and any(call.call_id in pending for call in (*legs[-1].own, *legs[-1].others))
    return len(legs) - waits


async def _entries(session: Session, most: int) -> list[HistoryEntry]:
    try:
        return list((await LibrarySession(session, _ADAPTER).read(-most)).entries)
    except (NotFound, SessionExpired):
        return []


def _messages_before(entries: list[HistoryEntry], part: str) -> list[Message]:
    """The messages before a turn, which may have got its place in the history meanwhile."""
    turns = [entry.turn for entry in entries]
    earlier = entries[: turns.index(part)] if part in turns else entries
    return [message for entry in earlier for message in messages_of_entry(entry)]
