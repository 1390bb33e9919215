"""A session that has outgrown its model's context continues: the oldest turns are left out of the request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelContextWindowExceededError, ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessions.errors import ContextTooLong
from sessions.tools.decorator import tool
from tests.unit.engine.doubles import Crash, Rig, call
from workers.engine.context_window import is_too_long, shortened
from workers.engine.ports import PastTurn

LIMIT = 4_000


def past(number: int, size: int = 1_000) -> bytes:
    """A past turn with a tool call in it."""
    call_id = f"c{number}"
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(f"question {number}")]),
        ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id=call_id)]),
        ModelRequest(parts=[ToolReturnPart("look", "x" * size, tool_call_id=call_id)]),
        ModelResponse(parts=[TextPart(f"answer {number}")]),
    ]
    return ModelMessagesTypeAdapter.dump_json(messages)


class Small:
    """A model with a small context. It calls a tool first, and answers `ok` then."""

    def __init__(self, *, tool: bool = False) -> None:
        self.tool = tool
        self.refused = 0
        self.taken: list[list[ModelMessage]] = []

    def model(self) -> FunctionModel:
        def check(messages: list[ModelMessage]) -> bool:
            if len(ModelMessagesTypeAdapter.dump_json(messages)) > LIMIT:
                self.refused += 1
                raise ModelContextWindowExceededError("small", "too long")
            self.taken.append(messages)
            return self.tool and not isinstance(messages[-1].parts[-1], ToolReturnPart)

        def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
            return ModelResponse(parts=[call("look", "new") if check(messages) else TextPart("ok")])

        async def stream(messages: list[ModelMessage], _: AgentInfo) -> Any:
            check(messages)
            yield "ok"

        return FunctionModel(answer, stream_function=stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_window_that_is_too_long_is_shortened_at_once(rig: Rig, stream: bool) -> None:
    """Small talk is answered, though the window that is sent by default no longer fits."""
    small = Small()
    rig.registry.add_model("small", small.model())
    output = await rig.run(rig.turn("hello", model="small", history=[past(n) for n in range(20)], stream=stream))
    assert output.text == "ok"
    assert small.refused >= 1
    sent = small.taken[-1]
    calls = {p.tool_call_id for m in sent for p in m.parts if isinstance(p, ToolCallPart)}
    returns = {p.tool_call_id for m in sent for p in m.parts if isinstance(p, ToolReturnPart)}
    assert calls == returns, "no call is parted from its return"
    assert any("question 19" in str(m) for m in sent), "the newest turns stay"


async def test_later_requests_of_the_turn_are_short_from_the_start(rig: Rig) -> None:
    """One refusal for each turn, not for each request; and the history that is kept is the whole one."""
    small = Small(tool=True)
    rig.tool(look)
    rig.registry.add_model("small", small.model())
    history = [past(n) for n in range(20)]
    await rig.run(rig.turn("hello", model="small", history=history))
    refused = small.refused
    assert len(small.taken) == 2
    rig.store.clear()
    with pytest.raises(Crash):
        await rig.run(rig.turn("hello", model="small", history=history), crash=(1, "after"))
    again = small.refused
    output = await rig.run(rig.turn("hello", model="small", history=history))
    assert output.text == "ok"
    assert small.refused - again == refused, "the replay asked once more, for the response that was not recorded"
    assert "question" not in output.messages.decode()


async def test_a_turn_that_does_not_fit_by_itself_fails_with_what_to_do(rig: Rig) -> None:
    """There is no history left to leave out."""
    small = Small()
    rig.registry.add_model("small", small.model())
    with pytest.raises(ContextTooLong, match="SESSIONFLEET_HISTORY_TOKENS"):
        await rig.run(rig.turn("hello " * LIMIT, model="small", history=[past(1)]))


async def test_turns_of_another_agent_can_be_left_out(rig: Rig) -> None:
    """They are quoted, and merged with one another and with the new message; they are not the turn itself."""
    small = Small()
    rig.registry.add_model("small", small.model())
    said: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("q" * 300)]),
        ModelResponse(parts=[TextPart("a" * 300)]),
    ]
    past_turns = [PastTurn("Other", ModelMessagesTypeAdapter.dump_json(said))] * 20
    output = await rig.run(replace(rig.turn("hello", model="small"), history=past_turns))
    assert output.text == "ok"
    assert small.taken[-1][-1].parts[-1].content == "hello"  # type: ignore[union-attr]


async def test_a_request_to_a_fallback_chain_is_shortened_too(rig: Rig) -> None:
    """Each model of the chain refuses the request, so it is shortened."""
    rig.registry.add_model("chain", FallbackModel(Small().model(), Small().model()))
    assert (await rig.run(rig.turn("hello", model="chain", history=[past(n) for n in range(20)]))).text == "ok"
    rig.store.clear()
    with pytest.raises(ContextTooLong):
        await rig.run(rig.turn("hello " * LIMIT, model="chain"))


def steered(run_id: str | None = None) -> list[ModelMessage]:
    """A turn that a message joined together with a tool's return."""
    return [
        ModelRequest(parts=[UserPromptPart("x" * 2_000)], run_id=run_id),
        ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id="c1")], run_id=run_id),
        ModelRequest(
            parts=[ToolReturnPart("look", "seen", tool_call_id="c1"), UserPromptPart("quickly")], run_id=run_id
        ),
    ]


def test_a_steered_turn_is_left_out_whole() -> None:
    """A cut where the message joined would leave a return without its call, which every provider refuses for ever."""
    hello = ModelRequest(parts=[UserPromptPart("hello")])
    assert shortened([*steered(), ModelResponse(parts=[TextPart("ok")]), hello]) == [hello]


def test_the_open_turn_is_not_cut_where_it_was_steered() -> None:
    """Cutting there would remove the turn's question."""
    later = ModelRequest(parts=[UserPromptPart("and this")], run_id="t")
    assert shortened([*steered("t"), ModelResponse(parts=[TextPart("ok")], run_id="t"), later], "t") is None


@tool(retry="safe")
def look() -> str:
    """Look."""
    return "seen"


def test_a_system_prompt_is_not_left_out() -> None:
    """It stands in the first message of a registered agent's history."""
    messages: list[ModelMessage] = [
        ModelRequest(parts=[SystemPromptPart("be brief"), UserPromptPart("one" * 100)]),
        ModelResponse(parts=[TextPart("1" * 100)]),
        ModelRequest(parts=[UserPromptPart("two")]),
    ]
    less = shortened(messages)
    assert less is not None
    assert [part.content for part in less[0].parts] == ["be brief", "two"]  # type: ignore[union-attr]
    assert shortened(less) is None


@pytest.mark.parametrize(
    ("status", "said", "too_long"),
    [
        (400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens", True),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", True),
        (400, "The input token count (40000) exceeds the maximum number of tokens allowed (32768).", True),
        (400, "Requested tokens (5000) exceed context window of 4096", True),
        (400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000", True),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens", True),
        (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens.", True),
        (400, "Invalid request: Your request exceeded model token limit: 8192", True),
        (400, "Prompt exceeds max length", True),
        (400, "Range of input length should be [1, 30720]", True),
        (400, "Invalid 'messages': array too long. Expected an array with maximum length 2048", True),
        (413, "<html><head><title>413 Request Entity Too Large</title></head></html>", True),
        (413, "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 10000", True),
        (429, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 40200.", True),
        (429, "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.", False),
        (400, "Invalid value for 'temperature'", False),
        (400, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.", False),
        (400, "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for m", False),
        (400, "Invalid 'tools[0].description': string too long. Expected a string with maximum length 1024", False),
    ],
)
def test_what_servers_say_of_a_context_is_understood(status: int, said: str, too_long: bool) -> None:
    """Also of servers that speak OpenAI's protocol with their own codes."""
    assert is_too_long(ModelHTTPError(status, "m", body={"message": said})) is too_long
