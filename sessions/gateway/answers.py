"""Answers to the calls that a turn waits for at the end of a leg: results of its sender's tools, and decisions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from sessions.api.turn import Turn
from sessions.errors import BadRequest, CallAnswered, CallNotFound, Forbidden
from sessions.gateway.narration import ASKED
from sessions.protocol.call import SENDER


class Decision(NamedTuple):
    """Whether a call may run, and if not, why.

    Attributes:
        args: to approve: arguments that replace the model's.
        always: to approve: also all further calls of this tool in the session.
    """

    approve: bool
    reason: str = ""
    args: dict[str, Any] | None = None
    always: bool = False


async def answer_calls(
    turn: Turn,
    results: Mapping[str, Any],
    decisions: Mapping[str, Decision],
    shown: Callable[[str], str],
    param: str | None = None,
) -> None:
    """Answer calls of one leg, all or none; a repeat changes nothing.

    Args:
        results: of calls of the sender's tools, by call id.
        decisions: by call id. The caller has the right to approve.
        shown: the id of a call as clients know it, for errors.
        param: the name of the parameter that they come from, for errors.

    Raises:
        BadRequest: not all calls are answered, or one was answered differently. Forbidden: a call is not the sender's
            to answer. BackendError.
    """
    await _check_all(turn, results, decisions, shown, param)
    for call_id, result in results.items():
        await answer_once(turn.aprovide(call_id, result), param)
    for call_id, decided in decisions.items():
        if decided.approve:
            await answer_once(turn.aapprove(call_id, args=decided.args, always=decided.always), param)
        else:
            await answer_once(turn.adeny(call_id, decided.reason), param)


async def _check_all(
    turn: Turn,
    results: Mapping[str, Any],
    decisions: Mapping[str, Decision],
    shown: Callable[[str], str],
    param: str | None,
) -> None:
    """Refuse answers to other calls than those that were asked for, and answers to only some of them."""
    pending = await turn.aapprovals()
    if any(call.call_id in results and call.waits_for != SENDER for call in pending):
        raise Forbidden("one of these calls is not of a tool of yours")
    missing = [shown(call.call_id) for call in pending if call.waits_for == SENDER and call.call_id not in results]
    if missing:
        raise BadRequest(f"results are missing for these calls of the last response: {', '.join(missing)}", param=param)
    if decisions and any(call.kind in ASKED and call.call_id not in decisions for call in pending):
        raise BadRequest("answer all approval requests of the last response", param=param)


async def answer_once(answer: Coroutine[Any, Any, None], param: str | None = None) -> None:
    """Answer a call; a repeat changes nothing.

    Raises:
        BadRequest: it was answered differently. BackendError.
    """
    try:
        await answer
    except CallNotFound:
        return  # a repeat after the turn has gone on; or it has ended meanwhile, and its leg says how
    except CallAnswered as error:
        raise BadRequest(str(error), param=param) from None
