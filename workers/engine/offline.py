"""The built-in `offline` model, which needs no API key. It quotes its input, and says that it is not a language model.

It is deterministic and does no I/O, so that tests, demos and benchmarks can rely on its answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.usage import RequestUsage

from workers.engine.offline_schema import example
from workers.engine.recalled import split_recalled

NOTE = (
    "(This is the offline model: it quotes its input, and is not a language model. "
    "Set SESSIONFLEET_MODEL or Agent(model=...) to use one.)"
)
QUOTES = 3

_CALL = re.compile(r"\bCALL\s+([A-Za-z0-9_-]+)\(\s*")
_WORD = re.compile(r"\w+")
_DECODER = json.JSONDecoder()
_STOP = frozenset(
    _WORD.findall(
        "a about am an and any are as at be been but by can could did do does for from had has have how i if in is it "
        "its ll m me my of on or our please re s say so t tell than that the their them then there these they this to "
        "us ve was we were what when where which who whom whose why will with would you your"
    )
)


def offline_model() -> FunctionModel:
    """A new offline model."""
    return FunctionModel(_answer, stream_function=_answer_stream, model_name="offline")


@dataclass(frozen=True, slots=True)
class _Turn:
    """The open turn, as read from the messages.

    Attributes:
        step: how many responses the turn has had.
        results: the tool results so far.
        files: what there is to see, in words.
        recalled: the memories and passages for the prompt.
        earlier: the user's messages in past turns, latest first.
    """

    prompt: str
    run_id: str
    step: int
    results: tuple[ToolReturnPart, ...]
    earlier: tuple[str, ...]
    files: tuple[str, ...] = ()
    recalled: str = ""


async def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    turn = _read(messages)
    part = _next_part(turn, info)
    text = part.content if isinstance(part, TextPart) else part.args_as_json_str()
    # Set here, because FunctionModel would otherwise estimate it by walking through the whole history.
    usage = RequestUsage(input_tokens=len(turn.prompt) // 4 + 1, output_tokens=len(text) // 4 + 1)
    return ModelResponse(parts=[part], usage=usage)


async def _answer_stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    part = _next_part(_read(messages), info)
    if isinstance(part, ToolCallPart):
        call = DeltaToolCall(name=part.tool_name, json_args=part.args_as_json_str(), tool_call_id=part.tool_call_id)
        yield {0: call}
    else:
        for word in re.findall(r"\s*\S+", part.content):
            yield word


def _next_part(turn: _Turn, info: AgentInfo) -> TextPart | ToolCallPart:
    calls = _calls(turn.prompt)
    if turn.step < len(calls):
        name, arguments = calls[turn.step]
        return ToolCallPart(name, arguments, tool_call_id=_call_id(turn))
    if info.output_tools:
        output = info.output_tools[0]
        value = example(output.parameters_json_schema, "\n".join((turn.prompt, *turn.earlier)))
        return ToolCallPart(output.name, value, tool_call_id=_call_id(turn))
    return TextPart(f"{_text(turn, info.instructions)}\n\n{NOTE}")


def _text(turn: _Turn, instructions: str | None) -> str:
    if turn.files:
        return "\n".join([f"I was shown {file}." for file in turn.files])
    if turn.results:
        return "\n".join(f"{part.tool_name}: {part.model_response_str(wrap_if_error=False)}" for part in turn.results)
    quotes = _relevant(turn.prompt, turn.earlier)
    if quotes:
        return "You told me: " + "; ".join(f'"{quote}"' for quote in quotes)
    given = f"{instructions or ''}\n{turn.recalled}".splitlines()
    known = _relevant(turn.prompt, [line.strip() for line in given if line.strip()])
    if known:
        return "I was given: " + "; ".join(f'"{line}"' for line in known)
    return "I was told nothing about that." if "?" in turn.prompt else f'Noted: "{turn.prompt.strip()}"'


def _relevant(question: str, statements: Sequence[str]) -> list[str]:
    """The statements that share the most words with the question, latest first among equals; questions are skipped."""
    asked = _keywords(question)
    scored = [(len(asked & _keywords(text)), text) for text in dict.fromkeys(statements) if "?" not in text]
    best = sorted((item for item in scored if item[0]), key=lambda item: -item[0])
    return [text.strip() for _, text in best[:QUOTES]]


def _keywords(text: str) -> set[str]:
    words = (word.rstrip("s") or word for word in _WORD.findall(text.lower()))
    return {word for word in words if word not in _STOP}


def _calls(prompt: str) -> list[tuple[str, dict[str, Any]]]:
    """The `CALL name({json})` commands in a message, in order; `CALL name()` passes no arguments."""
    return list(_each_call(prompt))


def _each_call(prompt: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for match in _CALL.finditer(prompt):
        if prompt.startswith(")", match.end()):
            yield match[1], {}
            continue
        try:
            arguments, _ = _DECODER.raw_decode(prompt, match.end())
        except ValueError:
            continue
        if isinstance(arguments, dict):
            yield match[1], arguments


def _read(messages: Sequence[ModelMessage]) -> _Turn:
    """Find the open turn by its run id: a tool may add prompts, which do not start a new turn."""
    run_id = messages[-1].run_id
    start = len(messages) - 1
    if run_id is not None:
        start = next(i for i, message in enumerate(messages) if message.run_id == run_id)
    if start and isinstance(messages[start], ModelResponse):
        start -= 1  # pydantic-ai merged the turn's first request with the one before it, which removed its run id
    opened, *earlier = _prompts(messages[start]) or [""]
    opened, recalled = split_recalled(opened)
    for message in reversed(messages[:start]):
        earlier.extend(_prompts(message))
    rest = messages[start + 1 :]
    return _Turn(
        prompt=opened,
        run_id=run_id or f"{len(messages)}:{opened}",
        step=sum(isinstance(message, ModelResponse) for message in rest),
        results=tuple(part for message in rest for part in message.parts if isinstance(part, ToolReturnPart)),
        earlier=tuple(earlier),
        files=tuple(file for message in messages[start:] for file in _files(message)),
        recalled=recalled,
    )


def _prompts(message: ModelMessage) -> list[str]:
    """The user's prompts in a message, latest first."""
    contents = [part.content for part in message.parts if isinstance(part, UserPromptPart)]
    return [
        content if isinstance(content, str) else "\n".join(item for item in content if isinstance(item, str))
        for content in reversed(contents)
    ]


def _files(message: ModelMessage) -> Iterator[str]:
    """The files in a request, in words."""
    for part in message.parts:
        content = part.content if isinstance(part, UserPromptPart | ToolReturnPart) else None
        for item in content if isinstance(content, list | tuple) else (content,):
            if isinstance(item, BinaryContent):
                yield f"{item.identifier} ({item.media_type}, {len(item.data):,} bytes)"


def _call_id(turn: _Turn) -> str:
    """A call id that is unique to the turn and step, and the same on a replay."""
    return "call_" + blake2s(f"{turn.run_id}:{turn.step}".encode(), digest_size=8).hexdigest()
