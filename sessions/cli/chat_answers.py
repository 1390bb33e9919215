"""Answers to the calls that a turn waits for, asked of the person who is chatting."""

from __future__ import annotations

import json
from typing import Any, Final

from sessions.api.turn import Turn
from sessions.cli.chat_lines import Lines
from sessions.cli.output import print_error
from sessions.cli.screen import Screen
from sessions.errors import BadRequest, CallAnswered, CallNotFound
from sessions.protocol.call import CallKind
from sessions.store.calls import PendingCall

_QUESTIONS: Final = {
    CallKind.APPROVAL: "allow it? [y]es, [n]o, [e]dit the arguments, [w]ait for somebody else, [l]ater > ",
    CallKind.RESULT: "its result comes from outside: [w]ait for it, enter the [r]esult, [n]one, [l]ater > ",
    CallKind.IN_DOUBT: "it may have taken effect. Run it again? [y]es, [n]o (outcome unknown), [r]esult, "
    "[w]ait, [l]ater > ",
}
_ACTIONS: Final = {
    CallKind.APPROVAL: "approve|deny",
    CallKind.RESULT: "provide|deny",
    CallKind.IN_DOUBT: "approve|provide|deny",
}


def settle(turn: Turn, screen: Screen, lines: Lines) -> bool:
    """Ask about each call that the turn waits for.

    Returns:
        Whether to continue following the turn; False if a call was left unanswered. For each of those the screen shows
        the command that answers it.
    """
    left = [call for call in turn.approvals() if not _settled(turn, call, screen, lines)]
    for call in left:
        screen.note(f"still waiting: sessionfleet turns {_ACTIONS[CallKind(call.kind)]} {turn.id} {call.call_id}")
    return not left


def _settled(turn: Turn, call: PendingCall, screen: Screen, lines: Lines) -> bool:
    screen.line(f"{call.tool} {_shown(call.args)}", "bold")
    for name, value in {**call.metadata, "waits for": call.waits_for}.items():
        if value is not None:
            screen.line(f"  {name}: {value if isinstance(value, str) else _shown(value)}")
    while (entered := lines.answer(_QUESTIONS[CallKind(call.kind)])) is not None:
        try:
            if entered.lower() in ("l", "later"):
                return False
            if entered.lower() in ("w", "wait"):
                return True
            _answer(turn, call, entered, lines)
        except (CallAnswered, CallNotFound):
            screen.note("somebody else has answered it in the meantime")
        except BadRequest as error:
            if not lines.typed:  # the next line of a pipe is a message, not a corrected answer
                raise
            print_error(str(error))
            continue
        return True
    return False


def _answer(turn: Turn, call: PendingCall, entered: str, lines: Lines) -> None:
    """Carry out an answer: a word or its first letter, and its argument.

    Raises:
        BadRequest: it is not an answer to this question, or its argument is not JSON.
    """
    word, _, rest = entered.partition(" ")
    kind = CallKind(call.kind)
    match word.lower():
        case "y" | "yes" if kind is not CallKind.RESULT:
            turn.approve(call.call_id)
        case "n" | "no" | "none" | "nobody":
            turn.deny(call.call_id, rest.strip())
        case "e" | "edit" if kind is not CallKind.RESULT:
            turn.approve(call.call_id, args=_json(rest or lines.answer("arguments > ", _shown(call.args))))
        case "r" | "result" if kind is not CallKind.APPROVAL:
            turn.provide(call.call_id, _json(rest or lines.answer("result, as JSON > ")))
        case _:
            raise BadRequest(
                f"{entered!r} is not an answer: enter the first letter of one; after an 'n' you may add a reason"
            )


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except ValueError as error:
        raise BadRequest(f"{text!r} is not JSON: {error}") from error


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
