"""The module that test workers import: a double of the language model, and tools whose effects are counted.

Every model call and every tool's effect is a line in the ledger, a file that survives kill -9 (`O_APPEND` writes of one
line are atomic). The lines of a message are commands for the model:

    SLEEP 1.5        the model call takes this many seconds
    CALL name({...}) the model calls a tool; several are called one after the other, before the answer
    TOGETHER         ... all of them in one response
    SAY text         the answer (default: `ok`)
    RECITE           ... or the texts of all messages before this one
    PACE 0.1         seconds between two words of a streamed answer
    FAIL 429 2       the first two model calls of this turn fail with this status (counted across attempts)
    FAIL_AFTER 1 429 2  ... but only model calls after one tool result
    FAIL 429 1 RETRY 2  ... and the provider names a pause of 2 s
    HANG 1 60        the model call after one tool result takes 60 s, but only the first time
    STALL 3 60       the stream pauses after three words for 60 s, but only the first time
    PLAN {...}       the typed answer (default: the whole message)
    DIE              the model call kills its worker with SIGKILL
    DIE 1.5          ... after this many seconds
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent as EngineAgent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.profiles import ModelProfile

from sessions import Image, OutsideResult, ToolContext, tool
from sessions.errors import TurnRefused
from workers import HookContext, register_agent, register_hooks, register_model
from workers.engine.recalled import split_recalled

_CALL = re.compile(r"^CALL (\w+)\((.*)\)$", re.M)


def note(kind: str, **what: Any) -> None:
    """Write one line to the ledger."""
    path = os.environ.get("SF_TEST_LEDGER")
    if path:
        line = json.dumps({"kind": kind, "pid": os.getpid(), "at": time.time(), **what}) + "\n"
        with Path(path).open("a") as ledger:
            ledger.write(line)


def _ledger_count(kind: str, **what: Any) -> int:
    path = Path(os.environ.get("SF_TEST_LEDGER", "/nonexistent"))
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return sum(1 for line in lines if line["kind"] == kind and what.items() <= line.items())


def _prompt(messages: list[ModelMessage]) -> str:
    for message in reversed(messages):
        if isinstance(message, ModelRequest):
            for part in reversed(message.parts):  # quoted turns of other agents may precede it in the same request
                if isinstance(part, UserPromptPart):
                    return split_recalled(part.content if isinstance(part.content, str) else _joined(part.content))[0]
    return ""


def _texts(messages: list[ModelMessage]) -> list[str]:
    parts = [part for message in messages for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, UserPromptPart | TextPart)]


def _joined(content: Any) -> str:
    return "\n".join(item for item in content if isinstance(item, str))


def _files(messages: list[ModelMessage]) -> list[str]:
    """What the model sees of files: name, type and digest of each, and the notes that stand for others."""
    found: list[str] = []
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            content = part.content if isinstance(part, UserPromptPart | ToolReturnPart) else None
            for item in content if isinstance(content, list | tuple) else (content,):
                if isinstance(item, BinaryContent):
                    digest = hashlib.sha256(item.data).hexdigest()[:8]
                    found.append(f"{item.identifier} {item.media_type} {digest}")
                elif isinstance(item, str) and item.startswith("["):
                    found.append(item)
    return found


def _returns(messages: list[ModelMessage]) -> list[Any]:
    """The tool results of this turn: those after the last user prompt."""
    found: list[Any] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            for part in message.parts:
                if isinstance(part, UserPromptPart):
                    found = []
                elif isinstance(part, ToolReturnPart):
                    found.append(part.content)
    return found


async def _think(messages: list[ModelMessage]) -> TextPart | list[ToolCallPart]:
    prompt, returns = _prompt(messages), _returns(messages)
    note("model_started", prompt=prompt, step=len(returns), files=_files(messages))
    if fail := re.search(r"^FAIL(?:_AFTER (\d+))? (\d+) (\d+)(?: RETRY (\d+))?$", prompt, re.M):
        due = fail[1] is None or int(fail[1]) == len(returns)
        if due and _ledger_count("model_failed", prompt=prompt) < int(fail[3]):
            note("model_failed", prompt=prompt)
            headers = {"retry-after": fail[4]} if fail[4] else None
            raise ModelHTTPError(status_code=int(fail[2]), model_name="double", body="told to fail", headers=headers)
    hang = re.search(rf"^HANG {len(returns)} ([\d.]+)$", prompt, re.M)
    if hang and not _ledger_count("hung", prompt=prompt):
        note("hung", prompt=prompt)
        await asyncio.sleep(float(hang[1]))
    if die := re.search(r"^DIE ?([\d.]*)$", prompt, re.M):
        await asyncio.sleep(float(die[1] or 0))
        note("died", prompt=prompt)
        os.kill(os.getpid(), signal.SIGKILL)
    if sleep := re.search(r"^SLEEP ([\d.]+)$", prompt, re.M):
        await asyncio.sleep(float(sleep[1]))
    calls = _CALL.findall(prompt)
    note("model", prompt=prompt, step=len(returns))
    if len(returns) < len(calls):
        parts = [
            ToolCallPart(name, arguments or "{}", tool_call_id=f"call{number}")
            for number, (name, arguments) in enumerate(calls, 1)
        ]
        return parts if re.search(r"^TOGETHER$", prompt, re.M) else [parts[len(returns)]]
    if re.search(r"^RECITE$", prompt, re.M):
        return TextPart(" | ".join(_texts(messages)[:-1]) or "nothing")
    said = re.search(r"^SAY (.*)$", prompt, re.M)
    return TextPart(said[1] if said else "ok" if not returns else f"ok: {returns[-1]}")


async def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if info.output_tools:
        note("model", prompt=_prompt(messages), step=-1)
        plan = re.search(r"^PLAN (.*)$", _prompt(messages), re.M)
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, plan[1] if plan else _prompt(messages))])
    if "WHICH SETTINGS" in _prompt(messages):
        shown = {name: value for name, value in (info.model_settings or {}).items() if name != "first_event_timeout"}
        return ModelResponse(parts=[TextPart(json.dumps(shown, sort_keys=True))])
    if (info.model_settings or {}).get("tool_choice") == "required":
        return ModelResponse(parts=[ToolCallPart(info.function_tools[0].name, "{}", tool_call_id="required1")])
    part = await _think(messages)
    return ModelResponse(parts=part if isinstance(part, list) else [part])


async def _stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    if info.output_tools or (info.model_settings or {}).get("tool_choice") == "required":
        (call,) = (await _answer(messages, info)).parts
        assert isinstance(call, ToolCallPart)
        yield {0: DeltaToolCall(name=call.tool_name, json_args=str(call.args), tool_call_id=call.tool_call_id)}
        return
    part = await _think(messages)
    if isinstance(part, list):
        for place, call in enumerate(part):
            yield {place: DeltaToolCall(name=call.tool_name, json_args=str(call.args), tool_call_id=call.tool_call_id)}
        return
    prompt = _prompt(messages)
    pause = re.search(r"^PACE ([\d.]+)$", prompt, re.M)  # seconds between two words
    stall = re.search(r"^STALL (\d+) ([\d.]+)$", prompt, re.M)
    for index, word in enumerate(part.content.split(" ")):
        if stall and index == int(stall[1]) and not _ledger_count("stalled", prompt=prompt):
            note("stalled", prompt=prompt)
            await asyncio.sleep(float(stall[2]))
        if pause:
            await asyncio.sleep(float(pause[1]))
        yield word if index == 0 else f" {word}"


double = register_model("double", FunctionModel(_answer, stream_function=_stream, model_name="double"))

# Tests of rate limits hold this one back; "double" is every other test's.
scarce = register_model("scarce", FunctionModel(_answer, stream_function=_stream, model_name="scarce"))
blind = register_model(
    "blind", FunctionModel(_answer, model_name="blind", profile=ModelProfile(supports_image_input=False))
)


async def _summary(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Asked for a summary, it names the facts in the request (`fact-...`); asked anything else, it answers `ok`.

    With `summary hangs 60` in a request for a summary, the first such request takes 60 s.
    """
    prompt = _prompt(messages)
    if "<conversation>" not in prompt:
        return ModelResponse(parts=[TextPart("ok")])
    note("summary_started", prompt=prompt)
    hang = re.search(r"summary hangs ([\d.]+)", prompt)
    if hang and not _ledger_count("summary_hung", what=hang[0]):
        note("summary_hung", what=hang[0])
        await asyncio.sleep(float(hang[1]))
    note("summary", prompt=prompt)
    return ModelResponse(parts=[TextPart(" ".join(dict.fromkeys(re.findall(r"fact-[\w-]+", prompt))) or "no facts")])


summariser = register_model("summariser", FunctionModel(_summary, model_name="summariser"))


async def _refused(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    note("out_of_order", prompt=_prompt(messages))
    raise ModelHTTPError(status_code=503, model_name="out_of_order", body="out of order")


async def _refused_stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    await _refused(messages, info)
    yield ""


out_of_order = register_model(
    "out_of_order", FunctionModel(_refused, stream_function=_refused_stream, model_name="out_of_order")
)

clerk = register_agent("clerk", EngineAgent(double, instructions="You are the clerk."))


@clerk.tool_plain
def stamp(text: str) -> str:
    """Stamp a text."""
    note("stamp", text=text)
    return f"stamped {text}"


@tool
def charge(ctx: ToolContext, amount: int, seconds: float = 0.0) -> str:
    """Charge an amount: an effect that must not happen twice."""
    note("charge", key=ctx.idempotency_key, amount=amount, attempt=ctx.attempt)
    time.sleep(seconds)
    return f"charged {amount}"


@tool(retry="safe")
async def look_up(ctx: ToolContext, query: str, seconds: float = 0.0) -> str:
    """Look something up: safe to repeat."""
    note("look_up", key=ctx.idempotency_key, query=query, attempt=ctx.attempt)
    await asyncio.sleep(seconds)
    return f"{query} found"


@tool
async def read_page(ctx: ToolContext, number: int, size: int) -> str:
    """Read a page of this many characters."""
    note("read_page", number=number, attempt=ctx.attempt)
    return f"page {number} " + "x" * (size - len(f"page {number} "))


@tool(retry="safe")
async def linger(ctx: ToolContext, seconds: float) -> str:
    """Sleep, but only in the first attempt, so that a resumed turn is quick."""
    note("linger", key=ctx.idempotency_key, attempt=ctx.attempt)
    if ctx.attempt == 1:
        await asyncio.sleep(seconds)
    return "lingered"


@tool(in_doubt="fail")
async def wire(ctx: ToolContext, amount: int, seconds: float = 0.0) -> str:
    """Wire money: the turn fails when it is in doubt."""
    note("wire", key=ctx.idempotency_key, amount=amount)
    await asyncio.sleep(seconds)
    return f"wired {amount}"


@tool(approval=True)
def refund(amount: int) -> str:
    """Refund an amount; needs approval."""
    note("refund", amount=amount)
    return f"refunded {amount}"


@tool
def long_job(size: int) -> str:
    """Start a job whose result comes from outside."""
    note("long_job", size=size)
    raise OutsideResult({"size": size}, waits_for=f"job-{size}")


@tool(in_doubt="wait")
async def transfer(ctx: ToolContext, amount: int, seconds: float = 0.0) -> str:
    """Transfer money: a person decides when it is in doubt."""
    note("transfer", attempt=ctx.attempt)
    if ctx.attempt == 1:
        await asyncio.sleep(seconds)
    return f"transferred {amount}"


@tool
def who_asks(ctx: ToolContext) -> dict[str, object]:
    """What a tool sees of the message that it works for."""
    return {"user_id": ctx.user_id, "metadata": dict(ctx.metadata)}


@tool
def crash() -> str:
    """Kill the worker that runs this."""
    note("crash")
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


@tool
def tally(ctx: ToolContext, key: str, amount: int = 1) -> str:
    """Add to a number in the state."""
    note("tally", key=key)
    return f"{key} is {ctx.state.increment(key, amount)}"


@tool
def read_state(ctx: ToolContext) -> dict[str, object]:
    """The complete state that the turn sees."""
    return ctx.state.as_dict()


def _hide(_: HookContext, text: str) -> str:
    return text.replace("4711", "****")


def _hide_result(_: HookContext, tool_name: str, result: object) -> object:
    note("after_tool", tool=tool_name)
    return str(result).replace("4711", "****")


async def _refuse(context: HookContext, message: str) -> None:
    if context.metadata.get("blocked"):
        raise TurnRefused(f"blocked for {context.metadata['blocked']}")
    if "forbidden" in message:
        raise TurnRefused(f"not allowed for {context.agent}")


redact = register_hooks("redact", before_turn=_hide, after_tool=_hide_result, after_turn=_hide)
policy = register_hooks("policy", before_turn=_refuse)


@tool
def draw(text: str) -> list[object]:
    """Draw a text: a tool whose result is an image."""
    note("draw", text=text)
    return ["drawn:", Image(f"picture of {text}".encode(), media_type="image/png", name=f"{text}.png")]


@tool
def weigh(ctx: ToolContext) -> list[str]:
    """The sizes of the message's files, as a tool reads them."""
    return [f"{file.name}: {len(ctx.files.read(file))}" for file in ctx.files]


@tool
def divide(number: int, by: int) -> int:
    """Divide, or fail: there is no answer for `by` = 0."""
    return number // by
