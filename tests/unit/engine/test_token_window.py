"""The window in tokens: it moves after a turn whose conversation became too long."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelContextWindowExceededError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.usage import RequestUsage

from sessions.tools.decorator import tool
from tests.unit.engine.doubles import Rig, call
from workers.engine import PastTurn, TurnInput
from workers.engine.context_window import shortened
from workers.engine.long_results import ends_of, prompt_bytes, with_short_results
from workers.engine.transcript import load_history
from workers.engine.window import token_limit


class Counting:
    """A model that counts four bytes as a token, and refuses more than `context` of them."""

    def __init__(self, context: int | None = None) -> None:
        self.context = context
        self.refused = 0
        self.asked: list[list[ModelMessage]] = []

    def model(self, **profile: Any) -> FunctionModel:
        def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            tools = [(t.name, t.description, t.parameters_json_schema) for t in info.function_tools]
            tokens = (len(ModelMessagesTypeAdapter.dump_json(messages)) + len(json.dumps(tools))) // 4
            if self.context is not None and tokens > self.context:
                self.refused += 1
                raise ModelContextWindowExceededError("counting", "too long")
            self.asked.append(messages)
            return ModelResponse(parts=[TextPart("ok")], usage=RequestUsage(input_tokens=tokens, output_tokens=1))

        return FunctionModel(answer, profile=ModelProfile(**profile))  # type: ignore[typeddict-item]


def past(size: int, result: object = None) -> PastTurn:
    """A past turn of about this size, with a tool's result in it if there is one."""
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("question " + "q" * size)])]
    if result is not None:
        messages += [
            ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id="c")]),
            ModelRequest(parts=[ToolReturnPart("look", result, tool_call_id="c")]),
        ]
    return PastTurn("Assistant", ModelMessagesTypeAdapter.dump_json([*messages, ModelResponse(parts=[TextPart("a")])]))


def turn_after(rig: Rig, counting: Counting, history: list[PastTurn], **agent: Any) -> TurnInput:
    rig.store.clear()
    rig.registry.add_model("counting", counting.model())
    return replace(rig.turn("hello", model="counting", **agent), history=history)


async def test_a_conversation_within_the_limit_keeps_its_window(rig: Rig) -> None:
    """Nothing is moved before there are too many tokens."""
    output = await rig.run(turn_after(rig, Counting(), [past(2000)] * 10), history_tokens=10_000)
    assert output.window_kept is None


async def test_beyond_the_limit_about_half_of_it_is_left(rig: Rig) -> None:
    """Of what instructions and tools leave of the limit; so the window stays where it then is for many turns."""

    def wordy(text: str) -> str:
        return text

    wordy.__doc__ = "Look. " + "d" * 8_000
    rig.tool(tool(wordy))
    history = [past(2000)] * 16
    output = await rig.run(turn_after(rig, Counting(), history, instructions="i" * 4_000), history_tokens=10_000)
    assert output.window_kept is not None
    left = sum(len(turn.messages) for turn in history[: output.window_kept]) / 4
    assert 0.8 * 3_500 < left <= 3_500, "3,000 tokens of the limit are not the conversation's"


async def test_more_instructions_than_the_limit_leave_the_newest_turn(rig: Rig) -> None:
    """A limit that cannot be kept does not move the window back and forth."""
    output = await rig.run(turn_after(rig, Counting(), [past(9)] * 3, instructions="i" * 9_000), history_tokens=1_000)
    assert output.window_kept == 0


async def test_a_refused_request_moves_the_window_as_well(rig: Rig) -> None:
    """So that the next turn's request is not refused again: its model has a smaller context than anybody knew."""
    counting, history = Counting(context=3_500), [past(2000)] * 20
    output = await rig.run(turn_after(rig, counting, history))
    assert counting.refused == 2
    assert output.window_kept == 4
    rig.store.clear()
    again = await rig.run(replace(rig.turn("hello", model="counting"), history=history[-4:]))
    assert (counting.refused, again.window_kept) == (2, None)


@pytest.mark.parametrize(
    ("setting", "contexts", "limit"),
    [
        (5_000, [200_000], 5_000),
        (None, [100_000], 50_000),
        (None, [1_000_000], 64_000),
        (None, [None], 32_000),
        (None, [1_000_000, 100_000], 50_000),
    ],
)
def test_the_limit_is_half_of_what_the_model_takes(setting: int | None, contexts: list[int | None], limit: int) -> None:
    """At most 64,000; 32,000 if nobody knows; the setting, if there is one. The smallest of a chain counts."""
    models = [Counting().model(**({"context_window": c} if c else {})) for c in contexts]
    assert token_limit(setting, models[0] if len(models) == 1 else FallbackModel(*models)) == limit


# --- long results -----------------------------------------------------------------------------------------

HUGE = "start " + "x" * 600_000 + " end"


@pytest.mark.parametrize("result", [HUGE, {"text": HUGE}, [HUGE], "ä" * 300_000])
async def test_later_turns_get_the_ends_of_a_huge_result(rig: Rig, result: object) -> None:
    """Always the same ones."""
    counting = Counting()
    turn = turn_after(rig, counting, [past(10, result), past(10, "short")])
    await rig.run(turn, result_bytes=2_000)
    rig.store.clear()
    await rig.run(replace(turn, message="hello again"), result_bytes=2_000)
    parts = [[part for message in asked for part in message.parts] for asked in counting.asked]
    first, second = ([part.content for part in each if isinstance(part, ToolReturnPart)] for each in parts)
    assert first == second
    assert first[1] == "short"
    assert 1_800 < len(str(first[0]).encode()) <= 2_000
    assert "bytes of this result are left out here" in str(first[0])


def test_the_ends_say_how_much_is_missing() -> None:
    """In bytes, and characters stay whole; what is short enough, or was shortened before, stays as it is."""
    text = "é" * 1000
    ends = ends_of(text, 600)
    first, note, last = ends.split("\n")
    left_out = 2000 - len((first + last).encode())
    assert note == f"[... {left_out:,} of 2,000 bytes of this result are left out here ...]"
    assert set(first + last) == {"é"}
    assert len(ends.encode()) <= 600
    assert ends_of(ends, 600) == ends
    assert ends_of(text, 2000) == text


def test_a_turn_is_as_large_as_it_is_in_prompts() -> None:
    """Short results next to a long one count once."""
    results = [ToolReturnPart("look", "x" * size, tool_call_id=str(size)) for size in (400, 500, 5_000)]
    messages: list[ModelMessage] = [ModelRequest(parts=results)]
    sent = ModelMessagesTypeAdapter.dump_json(with_short_results(messages, 600))
    size = prompt_bytes(ModelMessagesTypeAdapter.dump_json(messages), 600)
    assert abs(size - len(sent)) < 10, "line breaks have two bytes in JSON"


def test_messages_without_long_results_are_the_same_objects() -> None:
    """Nothing is copied for nothing."""
    messages = load_history([past(10, "short")], "Assistant")
    assert all(new is old for new, old in zip(with_short_results(messages, 600), messages, strict=True))


async def test_huge_results_of_the_open_turn_are_shortened_if_the_model_refuses_them(rig: Rig) -> None:
    """Before any past turn is left out, and the turn goes on; its own entry in the history has them in full."""

    @tool
    def look() -> str:
        """Look."""
        return HUGE

    rig.tool(look)
    counting = Counting(context=10_000)
    model = counting.model()

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        response = model.function(messages, info)  # type: ignore[misc]
        last = messages[-1].parts[-1]
        return response if isinstance(last, ToolReturnPart) else ModelResponse(parts=[call("look", "c1")])  # type: ignore[return-value]

    rig.registry.add_model("counting", FunctionModel(answer))
    turn = replace(rig.turn("hello", model="counting"), history=[past(100)] * 3)
    output = await rig.run(turn)
    assert counting.refused == 1
    prompts = [p.content for m in counting.asked[-1] for p in m.parts if isinstance(p, UserPromptPart)]
    assert len(prompts) == 4, "the past turns are all there"
    assert HUGE.encode() in output.messages
    assert output.window_kept is None


def test_results_of_the_open_turn_are_shortened_until_they_fit() -> None:
    """Once nothing else is left; the oldest first, since the model works on the newest."""
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("go")], run_id="r")]
    for number in range(20):
        messages += [
            ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id=f"c{number}")], run_id="r"),
            ModelRequest(parts=[ToolReturnPart("look", "x" * 5_000, tool_call_id=f"c{number}")], run_id="r"),
        ]
    sizes = []
    less: list[ModelMessage] | None = messages
    while less is not None:
        results = [len(str(p.content)) for m in less for p in m.parts if isinstance(p, ToolReturnPart)]
        assert results == sorted(results)
        sizes.append(sum(results))
        less = shortened(less, "r")
    assert sizes[0] == 100_000
    assert all(after <= before / 2 or after < 21_000 for before, after in pairwise(sizes))
    assert len(sizes) >= 3
