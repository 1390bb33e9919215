"""Hooks of the people who run the fleet: redaction and policy, around turns, model requests and tools.

What a hook makes of a message, a result or an answer is what is journalled, shown and kept; so a replay sees the
same, and nothing that was redacted reaches the store, except the caller's own request.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart

from sessions.errors import HookError, TurnFailed
from workers.engine.ports import StepJournal, TurnInput
from workers.engine.well_formed import well_formed_values

BEFORE_TURN = "hook:before_turn"


@dataclass(frozen=True, slots=True)
class HookContext:
    """Whose turn a hook is called for."""

    session_id: str
    user_id: str | None
    turn_id: str
    attempt: int
    agent: str


BeforeTurn = Callable[[HookContext, str], str | Awaitable[str | None] | None]
BeforeModel = Callable[
    [HookContext, list[ModelMessage]], list[ModelMessage] | Awaitable[list[ModelMessage] | None] | None
]
AfterTool = Callable[[HookContext, str, Any], Any]
AfterTurn = Callable[[HookContext, Any], Any]


@dataclass(frozen=True, slots=True)
class Hooks:
    """A named set of hooks; make it with `register_hooks`."""

    name: str
    before_turn: BeforeTurn | None = None
    before_model: BeforeModel | None = None
    after_tool: AfterTool | None = None
    after_turn: AfterTurn | None = None


def register_hooks(
    name: str,
    *,
    before_turn: BeforeTurn | None = None,
    before_model: BeforeModel | None = None,
    after_tool: AfterTool | None = None,
    after_turn: AfterTurn | None = None,
) -> Hooks:
    """Name a set of hooks, for `Agent(hooks=[...])` or, for all turns of a worker, SESSIONFLEET_HOOKS.

    Keep the result in a module attribute of one of SESSIONFLEET_IMPORTS, where the worker looks for it. Hooks are
    plain or coroutine functions. What one returns replaces what it was given; None keeps it. One that raises
    `sessions.errors.TurnRefused` ends the turn with that message; any other exception is a HookError.

    Args:
        name: what agents and settings call it.
        before_turn: `(context, message)`: the message that the turn will see.
        before_model: `(context, messages)`: what this request to the model will hold; history keeps the original.
        after_tool: `(context, tool, result)`: what the model, the journal, the events and the history will hold.
        after_turn: `(context, answer)`: the answer; texts are changed before anything of them is journalled or shown,
            and so are not streamed word by word. A typed answer is changed in the result; history keeps the model's.
    """
    return Hooks(name, before_turn, before_model, after_tool, after_turn)


class HookChain:
    """The hooks of one turn, in order: the worker's own first, then the agent's."""

    def __init__(self, hooks: Sequence[Hooks], turn: TurnInput) -> None:
        self._hooks = hooks
        self._context = HookContext(turn.session_id, turn.user_id, turn.turn_id, turn.attempt, turn.agent.name)

    @property
    def change_answers(self) -> bool:
        """Whether an answer may be changed, and so must not be streamed before."""
        return any(hooks.after_turn for hooks in self._hooks)

    async def message(self, message: str, journal: StepJournal, key: str = BEFORE_TURN) -> str:
        """The message that the turn sees; journalled, so that a replay sees the same."""
        functions = [(h.name, h.before_turn) for h in self._hooks if h.before_turn]
        if not functions:
            return message
        recorded = journal.lookup(key)
        if recorded is not None:
            return str(json.loads(recorded))
        for name, function in functions:
            message = well_formed_values(await _call(name, "before_turn", function, message, self._context, message))
        await journal.record(key, json.dumps(message).encode())
        return message

    async def request(self, messages: list[ModelMessage]) -> list[ModelMessage]:
        """What a request to the model holds."""
        for hooks in self._hooks:
            if hooks.before_model:
                given = list(messages)
                changed = await _call(hooks.name, "before_model", hooks.before_model, messages, self._context, given)
                messages = well_formed_values(changed)
        return messages

    async def result(self, tool: str, result: Any) -> Any:
        """What a tool has returned."""
        for hooks in self._hooks:
            if hooks.after_tool:
                result = await _call(hooks.name, "after_tool", hooks.after_tool, result, self._context, tool, result)
        return result

    async def answer(self, answer: Any) -> Any:
        """What the turn answers."""
        for hooks in self._hooks:
            if hooks.after_turn:
                answer = await _call(hooks.name, "after_turn", hooks.after_turn, answer, self._context, answer)
        return well_formed_values(answer)

    async def response(self, response: ModelResponse) -> ModelResponse:
        """The response that holds the turn's answer as text, with that text changed."""
        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        changed = await self.answer(text)
        if changed == text:
            return response
        rest = [part for part in response.parts if not isinstance(part, TextPart)]
        return replace(response, parts=[*rest, TextPart(str(changed))])


async def _call(name: str, kind: str, function: Callable[..., Any], value: Any, *arguments: Any) -> Any:
    try:
        changed = function(*arguments)
        if inspect.isawaitable(changed):
            changed = await changed
    except TurnFailed:
        raise
    except Exception as error:
        said = f"hook {name!r} ({kind}) raised {type(error).__name__}; the worker's log has its text"
        raise HookError(said) from error
    return value if changed is None else changed
