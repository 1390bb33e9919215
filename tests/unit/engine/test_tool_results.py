"""What tools return and raise, as the model, the journal and the events see it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ModelRetry, ToolFailed
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolReturn, ToolReturnPart

from sessions.errors import ResultTooLarge, ToolError, TurnConfigurationError
from sessions.protocol.event import EventType
from sessions.tools.decorator import OutsideResult, ToolContext, tool
from workers.engine.journal_capability import JournalCapability
from workers.engine.ports import Waiting

from .doubles import Rig, call


class Point(BaseModel):
    x: int
    day: date


def returned(rig: Rig) -> ToolReturnPart:
    last = rig.seen[-1][-1]
    assert isinstance(last, ModelRequest)
    part = last.parts[0]
    assert isinstance(part, ToolReturnPart)
    return part


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("text", "text"),
        (None, None),
        ({"a": [1, 2]}, {"a": [1, 2]}),
        (Point(x=1, day=date(2025, 1, 2)), {"x": 1, "day": "2025-01-02"}),
        (ToolReturn(return_value={"b": 1}, content="look at this"), {"b": 1}),
        (BinaryContent(b"\xff", media_type="audio/wav"), BinaryContent(b"\xff", media_type="audio/wav")),
    ],
)
async def test_a_result_looks_the_same_live_and_replayed(rig: Rig, value: Any, seen: Any) -> None:
    """What is used is what the journal holds, so that a replay cannot differ."""

    @tool
    def get() -> Any:
        return value

    rig.tool(get)
    rig.script([call("get", "c1")], [TextPart("Done.")])
    await rig.run()
    live = returned(rig).content
    del rig.store["model:2"]
    await rig.run(rig.turn(attempt=2))
    assert live == returned(rig).content == seen


@pytest.mark.parametrize("value", [object(), {"a": object()}, b"\xff"])
async def test_a_result_that_is_not_json_ends_the_turn_clearly(rig: Rig, value: Any) -> None:
    """And is recorded, so that the call is not in doubt afterwards."""

    @tool
    def get() -> Any:
        rig.effects.append("get")
        return value

    rig.tool(get)
    rig.script([call("get", "c1")])
    for attempt in (1, 2):
        with pytest.raises(ToolError, match="'get' returned something that is not JSON"):
            await rig.run(rig.turn(attempt=attempt))
    assert rig.effects == ["get"]


@dataclass
class Mean:
    mean: float


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "'get' returned nan, a number that JSON cannot represent"),
        ([1.0, float("-inf")], r"'get' returned -inf at \[1\]"),
        ({"a": Mean(float("inf")), "b": None}, r"'get' returned inf at a\.mean"),
        ({"\ud83d": float("nan")}, "'get' returned nan at \ufffd"),
    ],
    ids=["nan", "list", "dataclass", "key"],
)
async def test_a_number_that_json_has_not_ends_the_turn_clearly(rig: Rig, value: Any, said: str) -> None:
    """As null or an empty text the model would take it for something else."""

    @tool
    def get() -> Any:
        return value

    rig.tool(get)
    rig.script([call("get", "c1")])
    with pytest.raises(ToolError, match=said):
        await rig.run()
    assert rig.outcomes() == ["failed"]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("caf\udce9", "caf\ufffd"),
        ({"\ud83d\ude00": ["\udce9", None]}, {"😀": ["\ufffd", None]}),
        (Path("/caf\udce9"), "/caf\ufffd"),
        (ToolReturn(return_value="\udce9", content="\udce9", metadata={"a": "\udce9"}), "\ufffd"),
    ],
    ids=["text", "dict", "path", "wrapped"],
)
async def test_text_that_no_encoding_takes_is_replaced(rig: Rig, value: Any, seen: Any) -> None:
    """File names contain it; the tool has had its effect, and the turn continues."""

    @tool
    def get() -> Any:
        return value

    rig.tool(get)
    rig.script([call("get", "c1")], [TextPart("Done.")])
    await rig.run()
    assert returned(rig).content == seen


@pytest.mark.parametrize("error", [ModelRetry, ToolFailed, ToolError, OutsideResult])
async def test_such_text_in_what_a_tool_raises_is_replaced(rig: Rig, error: Any) -> None:
    """The call is recorded, and the turn ends or continues as it would."""

    @tool
    def get() -> Any:
        raise error({"file": "caf\udce9"} if error is OutsideResult else "caf\udce9")

    rig.tool(get)
    rig.script([call("get", "c1")], [TextPart("Done.")])
    try:
        await rig.run()
        said = str(rig.seen[-1][-1].parts[0])
    except ToolError as failed:
        said = str(failed)
    except Waiting as waits:
        said = str(waits.calls[0].metadata)
    assert "caf\ufffd" in said


async def test_an_exception_of_a_tool_ends_the_turn_and_is_recorded(rig: Rig) -> None:
    """As in pydantic-ai, a tool that fails unexpectedly ends the run; ModelRetry and ToolFailed do not."""

    @tool
    async def divide() -> float:
        rig.effects.append("divide")
        return 1 / 0

    rig.tool(divide)
    rig.script([call("divide", "c1")])
    with pytest.raises(ToolError, match=r"'divide' raised ZeroDivisionError; the worker's log has its text") as caught:
        await rig.run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ToolError, match="ZeroDivisionError"):
        await rig.run(rig.turn(attempt=2))
    assert rig.effects == ["divide"]
    assert rig.outcomes() == ["failed"]


async def test_the_text_of_an_exception_stays_with_the_worker(rig: Rig) -> None:
    """It may hold a password: neither the caller, nor the journal, nor an event has it."""

    @tool
    async def charge() -> str:
        raise OSError("cannot connect to postgres://shop:hunter2@10.0.0.5")

    rig.tool(charge)
    rig.script([call("charge", "c1")])
    with pytest.raises(ToolError) as caught:
        await rig.run()
    assert "hunter2" not in f"{caught.value} {caught.value.detail} {rig.store} {rig.events}"


async def test_a_tool_can_tell_the_caller_why_it_failed(rig: Rig) -> None:
    """The words of a ToolError are meant for it; they are recorded, and the tool is not run again."""

    @tool
    async def charge() -> str:
        rig.effects.append("charge")
        raise ToolError("the card was declined")

    rig.tool(charge)
    rig.script([call("charge", "c1")])
    for attempt in (1, 2):
        with pytest.raises(ToolError, match=r"\Athe card was declined\Z"):
            await rig.run(rig.turn(attempt=attempt))
    assert rig.effects == ["charge"]


async def test_a_tool_that_waits_for_something_cancelled_fails(rig: Rig) -> None:
    """If it looked like a cancelled run, it would be handed from worker to worker for ever."""

    @tool
    async def wait() -> str:
        inner = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        inner.cancel()
        await inner
        return "never"

    rig.tool(wait)
    rig.script([call("wait", "c1")])
    with pytest.raises(ToolError, match="'wait' failed: what it waited for was cancelled"):
        await rig.run()


@pytest.mark.parametrize(("error", "outcome"), [(ModelRetry, "retry"), (ToolFailed, "failed")])
async def test_what_a_tool_tells_the_model_is_told_again_on_replay(rig: Rig, error: Any, outcome: str) -> None:
    """ModelRetry asks for another call, ToolFailed for another way; both are results."""

    @tool
    async def book(day: int) -> str:
        rig.effects.append(f"book {day}")
        if day == 1:
            raise error("day 1 is full")
        return "booked"

    rig.tool(book)
    rig.script([call("book", "c1", day=1)], [call("book", "c2", day=2)], [TextPart("Done.")])
    for attempt in (1, 2):
        output = await rig.run(rig.turn(attempt=attempt))
        assert output.text == "Done."
    assert rig.effects == ["book 1", "book 2"]
    assert rig.outcomes() == [outcome, "ok"]
    assert "day 1 is full" in str(rig.seen[1][-1].parts[0])


async def test_a_tool_that_never_gets_along_with_the_model_is_named(rig: Rig) -> None:
    """After its retries the turn ends with what the tool said last."""

    @tool
    async def book() -> str:
        raise ModelRetry("full")

    rig.tool(book)
    rig.script([call("book", "c1")], [call("book", "c2")], [call("book", "c3")], [call("book", "c4")])
    with pytest.raises(ToolError, match=r"'book' exceeded max retries count of 2; its last message: full"):
        await rig.run()


async def test_a_result_over_the_limit_ends_the_turn(rig: Rig) -> None:
    """One step may not fill the store; the message names tool and setting."""

    @tool
    async def read() -> str:
        rig.effects.append("read")
        return "x" * 5000

    rig.tool(read)
    rig.script([call("read", "c1")])
    for attempt in (1, 2):
        with pytest.raises(ResultTooLarge, match=r"'read' has 5,\d+ bytes.*SESSIONFLEET_RESULT_LIMIT_BYTES"):
            await rig.run(rig.turn(attempt=attempt), result_limit_bytes=2000)
    assert rig.effects == ["read"]


async def test_a_response_over_the_limit_ends_the_turn(rig: Rig) -> None:
    """The limit applies to the model's responses as it does to tools' results."""
    rig.script([TextPart("x" * 5000)])
    with pytest.raises(ResultTooLarge, match="a model response"):
        await rig.run(result_limit_bytes=2000)
    assert rig.store == {}


async def test_a_long_result_is_cut_in_its_event_only(rig: Rig) -> None:
    """Events show at most 2,000 characters; the model gets the whole result."""

    @tool
    async def read() -> list[str]:
        return ["y" * 5000]

    rig.tool(read)
    rig.script([call("read", "c1")], [TextPart("Done.")])
    await rig.run()
    (event,) = rig.of(EventType.TOOL_RESULT)
    assert len(event.data["result"]) == 2000
    assert returned(rig).content == ["y" * 5000]


async def test_call_events_carry_arguments_and_results(rig: Rig) -> None:
    """A client can show what the turn is doing."""

    @tool
    async def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    rig.tool(add)
    rig.script([TextPart("Let me see."), call("add", "c1", a=1, b=2)], [TextPart("3")])
    await rig.run()
    assert [(event.type, event.data) for event in rig.events] == [
        (EventType.TEXT, {"text": "Let me see."}),
        (EventType.TOOL_CALL, {"tool": "add", "call_id": "c1", "args": {"a": 1, "b": 2}}),
        (EventType.TOOL_RESULT, {"tool": "add", "call_id": "c1", "result": {"sum": 3}, "outcome": "ok"}),
        (EventType.TEXT, {"text": "3"}),
    ]


async def test_the_context_is_given_to_sync_and_async_tools_and_hidden_from_the_model(rig: Rig) -> None:
    """In any position, and also where annotations are strings as in this module."""
    contexts: list[ToolContext] = []

    @tool
    def first(context: ToolContext, a: int) -> str:
        contexts.append(context)
        return str(a)

    @tool
    async def last(a: int, b: int = 2, *, context: ToolContext) -> str:
        contexts.append(context)
        return str(a + b)

    rig.tool(first)
    rig.tool(last)
    rig.script([call("first", "c1", a=1), call("last", "c2", a=1)], [TextPart("Done.")])
    await rig.run()
    assert {(c.session_id, c.user_id, c.tool, c.call_id) for c in contexts} == {
        ("s", "alice", "first", "c1"),
        ("s", "alice", "last", "c2"),
    }
    assert [event.data["result"] for event in rig.of(EventType.TOOL_RESULT)] in (["1", "3"], ["3", "1"])


async def test_the_schema_of_a_tool_is_its_functions(rig: Rig) -> None:
    """Types, docstring and parameter descriptions reach the model, without the context."""
    told: list[Any] = []

    @tool(name="weather", description=None)
    def weather_of(context: ToolContext, city: str, days: int = 1) -> str:
        """Forecast the weather.

        Args:
            context: hidden.
            city: where.
            days: how far.
        """
        return city

    def answer(_: Any, info: Any) -> Any:
        told.extend(info.function_tools)
        return ModelResponse(parts=[TextPart("Done.")])

    rig.tool(weather_of)
    rig.model(answer)
    await rig.run()
    (definition,) = told
    assert (definition.name, definition.description) == ("weather", "Forecast the weather.")
    assert set(definition.parameters_json_schema["properties"]) == {"city", "days"}
    assert definition.parameters_json_schema["properties"]["city"]["description"] == "where."


async def test_sync_tools_run_side_by_side_up_to_the_thread_limit(rig: Rig) -> None:
    """The loop's default of 40 threads does not bound a worker of 100 slots."""
    together = threading.Barrier(50, timeout=20)

    @tool
    def meet() -> str:
        together.wait()
        return "met"

    rig.tool(meet)
    rig.script([call("meet", f"c{n}") for n in range(50)], [TextPart("Done.")])
    output = await rig.run(thread_limit=50)
    assert output.usage.tool_calls == 50


async def test_a_tool_whose_types_cannot_be_described_is_a_configuration_error(rig: Rig) -> None:
    """The message names the tool and what to do."""

    class Opaque:
        pass

    def strange(value: Any) -> str:
        return ""

    strange.__annotations__["value"] = Opaque
    rig.tool(tool(strange))
    rig.script([TextPart("Done.")])
    with pytest.raises(TurnConfigurationError, match=r"tool 'strange'.*type that pydantic supports"):
        await rig.run()


async def test_an_agent_run_inside_a_tool_is_part_of_that_tools_step(rig: Rig) -> None:
    """Its requests and tools get no separate numbers, even if it has the journal's capability too."""
    inner_rig = Rig()
    inner_rig.script([call("inner_tool", "c1")], [TextPart("inner answer")], name="inner")
    inner: Agent[None, str] = Agent(inner_rig.registry.models["inner"], capabilities=[JournalCapability()])

    @inner.tool_plain
    async def inner_tool() -> str:
        rig.effects.append("inner")
        return "x"

    @tool
    async def research(q: str) -> str:
        return (await inner.run(q)).output

    rig.tool(research)
    rig.script([call("research", "c1", q="a"), call("research", "c2", q="b")], [TextPart("Done.")])
    await rig.run()
    assert [key for key in sorted(rig.store) if key.startswith("model")] == ["model:1", "model:2"]
    assert rig.effects == ["inner", "inner"]
    assert len(rig.of(EventType.TOOL_CALL)) == 2
    await rig.run(rig.turn(attempt=2))
    assert len(inner_rig.paid) == 4
