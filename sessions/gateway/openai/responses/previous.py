"""Which session follows a response: its own, if it is the last one there, otherwise a fork at its turn."""

from __future__ import annotations

from contextlib import suppress

from sessions.api.session import Session
from sessions.errors import BadRequest, NotFound, SessionExists, TurnNotFound
from sessions.gateway.caller import Caller
from sessions.gateway.openai.ids import ResponseRef
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import keyed_session_id, new_session_id

_PARAM = "previous_response_id"


async def after_previous(caller: Caller, previous: ResponseRef, idempotency_key: str | None) -> Session:
    """The session in which a response is followed by a new turn.

    Raises:
        BadRequest: the response waits for results. NotFound: it is gone. SessionOwnerError, BackendError.
    """
    session = caller.session(previous.session_id)
    turn = await session.aturn(previous.turn_id)
    if idempotency_key is not None and await session.portal.acall(_known(caller, session, idempotency_key)):
        return session  # a repeat: the turn is there already
    try:
        status = (await turn.arecord()).status
    except TurnNotFound:
        status = None  # the record has expired; the history may still have the turn
    if status is TurnStatus.WAITING and await turn.aapprovals():
        raise BadRequest("the previous response waits for results of its calls: send them", param=_PARAM)
    following = [info.id for info in await session.aturns(open=True) if info.id != turn.id]
    if not following and (status is not None and not status.final):
        return session  # it runs, and this turn comes after it
    last = next(iter(await session.ahistory(1, order="newest")), None)
    if not following and last is not None and last.turn_id == turn.id:
        return session
    return await _forked(session, turn.id, previous, idempotency_key)


async def _forked(session: Session, turn_id: str, previous: ResponseRef, idempotency_key: str | None) -> Session:
    name = new_session_id()
    if idempotency_key is not None:
        name = keyed_session_id(str(previous), idempotency_key)
    with suppress(SessionExists):  # a repeat with its key
        try:
            await session.afork(name, at=turn_id)
        except TurnNotFound:
            raise NotFound(f"Previous response with id {str(previous)!r} not found.", param=_PARAM) from None
    return session.sibling(name)


async def _known(caller: Caller, session: Session, idempotency_key: str) -> bool:
    client = caller.gateway.client
    await client.open()
    return await client.stores.turns.by_key(session.keys, idempotency_key) is not None
