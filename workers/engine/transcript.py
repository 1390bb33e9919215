"""Converts between pydantic-ai's messages and the stored history: a run's input, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.run import AgentRunResult
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from sessions.errors import OutputInvalid, TurnConfigurationError
from sessions.protocol.finite import non_finite
from sessions.protocol.message import dump_parts
from sessions.protocol.turn import Usage, total
from workers.engine.attachments import described
from workers.engine.long_results import RESULT_BYTES, with_short_results
from workers.engine.ports import PastTurn, TurnInput, TurnOutput
from workers.engine.prices import PriceList, named
from workers.engine.stored_messages import dump_messages, load_messages

QUOTED: Final = "[The user to "
"""The start of a prompt that quotes a turn of another agent of the session."""
_NOTES: Final = {
    "cancelled": "the user stopped it",
    "dead_lettered": "its worker was lost several times",
}


def load_history(turns: Sequence[PastTurn], agent: str, result_bytes: int = RESULT_BYTES) -> list[ModelMessage]:
    """The messages of past turns, starting with a user prompt, so that no tool result comes without its call.

    The turns of the session's other agents are quoted under their names, as part of user prompts.

    Args:
        turns: oldest first.
        agent: whose turns are not quoted.
        result_bytes: the bytes to which long tool results are shortened.

    Raises:
        CorruptRecord: they are not messages of this or an earlier version.
    """
    messages: list[ModelMessage] = []
    for turn in turns:
        loaded = _with_note(turn)
        if turn.agent != agent:
            messages.append(_quoted(turn.agent, loaded))
        elif len(turn.messages) > result_bytes:
            messages += with_short_results(loaded, result_bytes)
        else:
            messages += loaded
    start = next((i for i, message in enumerate(messages) if _is_prompt(message)), len(messages))
    return messages[start:] if start else messages


def _with_note(turn: PastTurn) -> list[ModelMessage]:
    """The turn's messages, and a note for the model if the turn did not complete.

    The note is a response of the assistant, since some providers reject a user message without one.
    """
    messages = load_messages(turn)
    return [*messages, _note(turn.incomplete)] if turn.incomplete else messages


def _note(status: str) -> ModelResponse:
    why = _NOTES.get(status, "it failed")
    text = (
        f"[This turn did not complete: {why}. What its tools returned above did happen; nothing else did. Do not "
        f"repeat an effect without asking the user.]"
    )
    return ModelResponse(parts=[TextPart(text)], timestamp=datetime.fromtimestamp(0, UTC))


def _quoted(agent: str, messages: Sequence[ModelMessage]) -> ModelRequest:
    lines: list[str] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                lines.append(f"{QUOTED}{agent}] {_prompt_text(part)}")
            elif isinstance(part, TextPart) and part.content.strip():
                lines.append(f"[{agent}] {part.content}")
    return ModelRequest(parts=[UserPromptPart("\n".join(lines))])


def _prompt_text(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    return " ".join(described(item) for item in part.content)


def input_digest(turn: TurnInput) -> bytes:
    """A digest of the turn's input, by which a replay with a different input is detected."""
    digest = blake2b(turn.agent.model_dump_json().encode(), digest_size=16)
    for part in (
        turn.message.encode(),
        *((dump_parts(turn.parts),) if turn.parts else ()),
        *(part for past in turn.history for part in _past_parts(past)),
    ):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _past_parts(past: PastTurn) -> tuple[bytes, ...]:
    # The mark is added only if there is one: turns that were open during an upgrade have digests without it.
    mark = (past.incomplete.encode(),) if past.incomplete else ()
    return (past.agent.encode(), past.messages, *mark)


def turn_output(
    result: AgentRunResult[Any], turn: TurnInput, prices: PriceList, delegate_usage: Sequence[Usage] = ()
) -> TurnOutput:
    """The result of a run that succeeded.

    Args:
        result: the run's result.
        turn: the turn's input.
        prices: what models cost.
        delegate_usage: the usage of other agents' turns that this one asked.

    Raises:
        TurnConfigurationError: the agent's output cannot be represented in JSON.
    """
    text, output = _serialized(result.output)
    new = result.new_messages()
    usage = result.usage
    last = next((m for m in reversed(new) if isinstance(m, ModelResponse)), None)
    priced = total(prices.usages(message for message in new if isinstance(message, ModelResponse)))
    own = Usage(
        requests=usage.requests,
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        tool_calls=usage.tool_calls,
        unpriced_requests=priced.unpriced_requests,
        cost=priced.cost,
    )
    return TurnOutput(
        text=text,
        output=output,
        messages=dump_messages(new, turn_id=turn.turn_id, session_id=turn.session_id),
        message_count=count_messages(new, typed=not isinstance(result.output, str)),
        usage=total([own, *delegate_usage]),
        finish_reason=(last.finish_reason or "") if last else "",
        model=named(last.provider_name, last.model_name) if last else "",
    )


def with_output(turn: TurnOutput, output: Any) -> TurnOutput:
    """The same result with a different typed answer."""
    text, value = _serialized(output)
    return turn if value == turn.output else replace(turn, text=text, output=value)


def _serialized(output: Any) -> tuple[str, Any]:
    if isinstance(output, str):
        return output, output
    if (found := non_finite(output)) is not None:
        raise OutputInvalid(f"the answer contains a number that JSON cannot represent: {found}")
    try:
        return to_json(output).decode(), to_jsonable_python(output)
    except PydanticSerializationError as error:
        raise TurnConfigurationError(f"the agent's output type is not JSON: {error}; use a pydantic model") from error


def count_messages(messages: Sequence[ModelMessage], *, typed: bool = False) -> int:
    """Count the user's prompts and the assistant's texts; a typed answer counts as one."""
    count = int(typed)
    for message in messages:
        if isinstance(message, ModelRequest):
            count += _is_prompt(message)
        elif isinstance(message, ModelResponse):
            count += any(isinstance(part, TextPart) and part.content.strip() for part in message.parts)
    return count


def _is_prompt(message: ModelMessage) -> bool:
    return isinstance(message, ModelRequest) and any(isinstance(part, UserPromptPart) for part in message.parts)
