"""Hooks with which operators redact or police turns, model requests and tool results.

The journal, the events and the history get a hook's output, not its input. A replay therefore sees the same, and
redacted text never reaches the store, except in the caller's own request.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart

from sessions.errors import HookError, TurnFailed
from workers.engine.ports import StepJournal, TurnInput
from workers.engine.well_formed import well_formed_values

BEFORE_TURN = "hook:before_turn"


@dataclass(frozen=True, slots=True)
class HookContext:
    """The turn for which a hook is called."""

    session_id: str
    user_id: str | None
    turn_id: str
    attempt: int
    agent: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


BeforeTurn = Callable[[HookContext, str], str | Awaitable[str | None] | None]
BeforeModel = Callable[
    [HookContext, list[ModelMessage]], list[ModelMessage] | Awaitable[list[ModelMessage] | None] | None
]
AfterTool = Callable[[HookContext, str, Any], Any]
AfterTurn = Callable[[HookContext, Any], Any]


@dataclass(frozen=True, slots=True)
class Hooks:
    """A named set of hooks; create it with `register_hooks`."""

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

    Assign the result to a module attribute in one of SESSIONFLEET_IMPORTS, where the worker looks for it. Hooks are
    functions or coroutine functions. A hook's return value replaces its input; None leaves it unchanged. A hook that
    raises `sessions.errors.TurnRefused` ends the turn with that message; any other exception becomes a HookError.

    Args:
        name: the name by which agents and settings refer to the hooks.
        before_turn: `(context, message)`: changes the message that the turn sees.
        before_model: `(context, messages)`: changes a request to the model; the history keeps the original.
        after_tool: `(context, tool, result)`: changes a result for the model, the journal, the events and the history.
        after_turn: `(context, answer)`: changes the answer. A text answer is changed before any of it is journalled or
            shown, and is therefore not streamed. A typed answer is changed in the result; the history keeps the
            model's.
    """
    return Hooks(name, before_turn, before_model, after_tool, after_turn)


class HookChain:
    """The hooks of one turn, in order: the worker's own first, then the agent's."""

    def __init__(self, hooks: Sequence[Hooks], turn: TurnInput) -> None:
        self._hooks = hooks
        self._context = HookContext(
            turn.session_id, turn.user_id, turn.turn_id, turn.attempt, turn.agent.name, turn.metadata
        )

    @property
    def rewrites_answers(self) -> bool:
        """Whether a hook may change the answer, so that it must not be streamed."""
        return any(hooks.after_turn for hooks in self._hooks)

    async def before_turn(self, message: str, journal: StepJournal, key: str = BEFORE_TURN) -> str:
        """Apply the hooks to a message. The result is journalled, so that a replay sees the same."""
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

    async def before_model(self, messages: list[ModelMessage]) -> list[ModelMessage]:
        """Apply the hooks to the messages of a model request."""
        for hooks in self._hooks:
            if hooks.before_model:
                given = list(messages)
                changed = await _call(hooks.name, "before_model", hooks.before_model, messages, self._context, given)
                messages = well_formed_values(changed)
        return messages

    async def after_tool(self, tool: str, result: Any) -> Any:
        """Apply the hooks to a tool's result."""
        for hooks in self._hooks:
            if hooks.after_tool:
                result = await _call(hooks.name, "after_tool", hooks.after_tool, result, self._context, tool, result)
        return result

    async def after_turn(self, answer: Any) -> Any:
        """Apply the hooks to the turn's answer."""
        for hooks in self._hooks:
            if hooks.after_turn:
                answer = await _call(hooks.name, "after_turn", hooks.after_turn, answer, self._context, answer)
        return well_formed_values(answer)

    async def after_turn_response(self, response: ModelResponse) -> ModelResponse:
        """Apply the hooks to the text of the response that is the turn's answer."""
        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        changed = await self.after_turn(text)
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
        raise HookError(
            f"hook {name!r} ({kind}) raised {type(error).__name__}; the worker's log has its text"
        ) from error
    return value if changed is None else changed
