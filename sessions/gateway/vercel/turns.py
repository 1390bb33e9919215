"""From a request to the answer that the page gets: a turn, from one of its legs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.errors import BadRequest, NotFound, SessionExpired, TurnNotFound
from sessions.gateway.agents import ASSISTANT, named_agent
from sessions.gateway.answers import answer_once
from sessions.gateway.caller import Caller
from sessions.gateway.narration import ASKED, Asked, Told, asks_client, in_legs
from sessions.gateway.principal import Right
from sessions.gateway.vercel.ids import approval_id, asked_in, turn_of
from sessions.gateway.vercel.requests import ChatRequest, Message, Part
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import split_turn_id

_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page reads: the answer of a turn, from a leg on."""

    caller: Caller
    session: Session
    turn: Turn
    leg: int = 0

    @property
    def part(self) -> str:
        """The turn, by its id within the session."""
        return split_turn_id(self.turn.id)[1]

    async def request(self) -> TurnRequest:
        """What was asked of its turn."""
        client = self.caller.gateway.client
        return await client.portal.acall(client.session_turns.request(self.session.keys, self.part))

    def told_so_far(self) -> AsyncIterator[tuple[int, Told]]:
        """What the turn has told until now, each with its leg."""
        client = self.caller.gateway.client
        events = client.portal.aiterate(client.session_turns.so_far(self.session.keys, self.part))
        return in_legs(events, asks_client)

    def told(self) -> AsyncIterator[tuple[int, Told]]:
        """What it tells, from its beginning and as it comes, each with its leg."""
        return in_legs(self.turn.aevents(), asks_client)

    async def waits_for(self, asked: Asked) -> bool:
        """Whether the turn waits for one of these calls now."""
        pending = {call.call_id for call in await self.turn.aapprovals()}
        return any(call.call_id in pending for call in (*asked.own, *asked.others))


async def answer_to(caller: Caller, body: ChatRequest, idempotency_key: str | None) -> Answer:
    """Send what is new to the agent.

    Raises:
        BadRequest, Forbidden, NotFound, SessionOwnerError, BackendError: see `Agent.asubmit`.
    """
    session = caller.session(body.id)
    if (continued := body.continued) is not None:
        return await _provide(caller, session, continued)
    if body.trigger == "regenerate-message" or body.message_id is not None:
        replaced = await _replaced(session, body)
        if replaced is not None:
            return await _replace(caller, session, body, replaced, idempotency_key)
    elif idempotency_key is None:
        idempotency_key = f"vercel:{body.last.id}"  # a page that sends it again means the same turn
    agent = await named_agent(caller, session, body.agent or ASSISTANT)
    turn = await agent.asubmit(
        body.question(),
        stream=True,
        idempotency_key=idempotency_key,
        waiting_blocks=False if body.tools else None,
        **body.options(),
    )
    return Answer(caller, session, turn)


async def open_answer(caller: Caller, session: Session, after: str | None = None) -> Answer | None:
    """The answer that is being written; None if the session is idle.

    Args:
        after: the id of the last message that the page has. If it is the question of a turn that has ended since, its
            answer is what the page lacks.

    Raises:
        SessionOwnerError, BackendError.
    """
    turn = await session.aopen_turn()
    if turn is None and after is not None and (part := asked_in(after)) is not None:
        with suppress(TurnNotFound):
            turn = await session.aturn(session.keys.public_id(part))
    return None if turn is None else Answer(caller, session, turn)


# --- another answer ------------------------------------------------------------------------------------------


async def _replace(caller: Caller, session: Session, body: ChatRequest, part: str, key: str | None) -> Answer:
    turn = await session.asubmit_regenerate(
        session.keys.public_id(part),
        None if body.trigger == "regenerate-message" else body.question(),
        agent=None if body.agent is None else await named_agent(caller, session, body.agent),
        stream=True,
        idempotency_key=key,
        **body.options(),
    )
    return Answer(caller, session, turn)


async def _replaced(session: Session, body: ChatRequest) -> str | None:
    """The turn to replace, by its id within the session; None if the history has no turn of the message.

    The message's id names it if it was made here. A page made the id of a message that it has just sent: the turn is
    then the one after the last answer before it.

    Raises:
        BadRequest: the page's messages do not say which turn it is.
    """
    named = turn_of(body.message_id or "") or turn_of(body.last.id)
    before = [turn_of(message.id) for message in body.messages[:-1] if message.role == "assistant"]
    follows: str | None = None
    async for part in _newest_first(session):
        if part == named:
            return part
        if before and part == before[-1]:
            return follows
        follows = part
    if len(body.messages) > 1:
        raise BadRequest("the messages do not say which answer is to be replaced: load the chat's messages again")
    return follows


async def _newest_first(session: Session) -> AsyncIterator[str]:
    cursor: int | None = None
    while True:
        try:
            page = await session.ahistory(_PAGE, order="newest", cursor=cursor)
        except (NotFound, SessionExpired):
            return
        for turn_id in reversed(dict.fromkeys(message.turn_id for message in page)):
            yield split_turn_id(turn_id)[1]
        if (cursor := page.cursor) is None:
            return


# --- results and decisions -----------------------------------------------------------------------------------


async def _provide(caller: Caller, session: Session, message: Message) -> Answer:
    """Answer the calls that a turn waits for; returns the leg with which it continues.

    Raises:
        BadRequest: the message is no answer of this chat, or not all calls are answered. Forbidden: the caller may not
            decide. SessionOwnerError, TurnNotFound, BackendError.
    """
    part = turn_of(message.id)
    if part is None:
        raise BadRequest("the last message must be the user's, or an answer of this chat")
    answer = Answer(caller, session, await session.aturn(session.keys.public_id(part)))
    pending = {call.call_id for call in await answer.turn.aapprovals()}
    asked: list[Asked] = []
    async with aclosing(answer.told_so_far()) as items:  # type: ignore[type-var] # an async generator
        async for _, item in items:
            if isinstance(item, Asked) and asks_client(item):
                asked.append(item)
    for leg in reversed(range(len(asked))):
        answers = _answers(message, asked[leg], leg)
        last = leg == len(asked) - 1
        if all(call_id in answers or (last and call_id not in pending) for call_id in _calls(asked[leg])):
            if last:
                await _give(caller, answer.turn, asked[leg], {k: v for k, v in answers.items() if k in pending})
            return Answer(caller, session, answer.turn, leg + 1)
    raise BadRequest("answer all calls that the last message asks about")


def _calls(asked: Asked) -> list[str]:
    return [call.call_id for call in (*asked.own, *(call for call in asked.others if call.kind in ASKED))]


def _answers(message: Message, asked: Asked, leg: int) -> dict[str, Part]:
    own = {call.call_id for call in asked.own}
    return {part.tool_call_id: part for part in message.parts if _is_answer(part, own, leg)}


def _is_answer(part: Part, own: set[str], leg: int) -> bool:
    if part.tool_call_id in own:
        return part.state in ("output-available", "output-error")
    decision = part.approval
    return decision is not None and decision.approved is not None and decision.id == approval_id(leg, part.tool_call_id)


async def _give(caller: Caller, turn: Turn, asked: Asked, answers: dict[str, Part]) -> None:
    own = {call.call_id for call in asked.own}
    if set(answers) - own:
        caller.principal.need(Right.APPROVE)
    for call_id, part in answers.items():
        if call_id in own:
            failed = part.state == "output-error"
            await answer_once(turn.aprovide(call_id, {"error": part.error_text} if failed else part.output))
        elif part.approval is not None and part.approval.approved:
            await answer_once(turn.aapprove(call_id))
        elif part.approval is not None:
            await answer_once(turn.adeny(call_id, part.approval.reason or ""))
