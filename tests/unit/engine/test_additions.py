"""What the sender of a message adds to its agent for one turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessions.errors import TurnFailed
from sessions.protocol.call import SENDER, CallAnswer, CallKind
from sessions.protocol.turn_additions import OutsideTool, TurnAdditions
from tests.unit.engine.doubles import Rig, call
from workers.engine import TurnInput
from workers.engine.ports import Waiting

WEATHER = OutsideTool(name="weather", description="The weather", parameters={"type": "object", "properties": {}})


def adding(turn: TurnInput, **additions: Any) -> TurnInput:
    return replace(turn, additions=TurnAdditions(**additions))


async def test_a_call_of_an_outside_tool_waits_for_the_senders_result(rig: Rig) -> None:
    """The model sees the tool; its call is what the turn waits for, and the answer is what it gets."""
    rig.script([call("weather", "c1", city="Rome")], [TextPart("It rains.")])
    turn = adding(rig.turn(), tools=(WEATHER,))
    with pytest.raises(Waiting) as waiting:
        await rig.run(turn)
    (asked,) = waiting.value.calls
    assert asked.waits_for == SENDER
    assert (asked.call_id, asked.tool, asked.args, asked.kind) == ("c1", "weather", {"city": "Rome"}, CallKind.RESULT)
    rig.store[f"answer:{asked.key}"] = CallAnswer(action="provide", result="rain").model_dump_json().encode()
    assert (await rig.run(turn)).output == "It rains."
    assert rig.paid == [1, 2], "the resumed run asked again"
    assert "rain" in str(rig.seen[-1])


async def test_own_tools_run_beside_a_call_of_an_outside_tool(rig: Rig) -> None:
    """In one response with both, the agent's own tool runs once, and the turn waits for the other."""
    rig.noting()
    rig.script([call("note", "n1", text="noted"), call("weather", "c1")], [TextPart("done")])
    turn = adding(rig.turn(), tools=(WEATHER,))
    with pytest.raises(Waiting) as waiting:
        await rig.run(turn)
    (asked,) = waiting.value.calls
    rig.store[f"answer:{asked.key}"] = CallAnswer(action="provide", result="rain").model_dump_json().encode()
    assert (await rig.run(turn)).output == "done"
    assert rig.effects == ["noted"]


async def test_an_outside_tool_cannot_take_the_name_of_the_agents_own(rig: Rig) -> None:
    """Which of them is meant would be a guess: the turn fails before the model is asked."""
    rig.noting()
    rig.script([TextPart("never")])
    with pytest.raises(TurnFailed, match="note"):
        await rig.run(adding(rig.turn(), tools=(OutsideTool(name="note"),)))
    assert rig.paid == []


async def test_instructions_come_after_the_agents_own_and_stay_out_of_the_history(rig: Rig) -> None:
    """For a configured agent and for a registered one."""
    told: list[str | None] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        told.append(info.instructions)
        return ModelResponse(parts=[TextPart("ok")])

    rig.model(answer)
    rig.registry.add_agent("clerk", Agent(FunctionModel(answer), instructions="You are the clerk."))
    output = await rig.run(adding(rig.turn(instructions="You are polite."), instructions="Answer in Latin."))
    rig.store.clear()
    clerk = rig.turn(number=2, name="clerk", model=None, tools=())
    await rig.run(adding(clerk, instructions="Answer in Latin."))
    assert told == ["You are polite.\n\nAnswer in Latin.", "You are the clerk.\n\nAnswer in Latin."]
    assert b"Latin" not in output.messages


@pytest.mark.parametrize("name", ["Assistant", "clerk"])
async def test_an_output_schema_replaces_the_agents_for_one_turn(rig: Rig, name: str) -> None:
    """Also of an agent that is only named, and registered: its own instructions stay."""
    schema = {"type": "object", "title": "City", "properties": {"city": {"type": "string"}}, "required": ["city"]}

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if not info.output_tools:
            return ModelResponse(parts=[TextPart("plain")])
        return ModelResponse(parts=[call(info.output_tools[0].name, "o1", city="Rome")])

    rig.model(answer)
    rig.registry.add_agent("clerk", Agent(FunctionModel(answer)))
    own: dict[str, Any] = {"name": name} if name == "Assistant" else {"name": name, "model": None, "tools": ()}
    assert (await rig.run(adding(rig.turn(**own), output_schema=schema))).output == {"city": "Rome"}
    rig.store.clear()
    assert (await rig.run(rig.turn(number=2, **own))).output == "plain"


async def test_the_choice_of_a_tool_is_for_the_first_request_only(rig: Rig) -> None:
    """A model that must call a tool in every request never answers."""
    choices: list[object] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        choices.append((info.model_settings or {}).get("tool_choice"))
        return ModelResponse(parts=[TextPart("done")] if len(choices) > 1 else [call("note", "n1", text="x")])

    rig.noting()
    rig.model(answer)
    await rig.run(adding(rig.turn(), tools=(WEATHER,), tool_choice="required"))
    assert choices == ["required", None]
