"""Agents from configurations and the user's own; many turns on one engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessions.errors import CorruptRecord, OutputInvalid, TurnConfigurationError
from sessions.protocol.agent import AgentConfig
from sessions.protocol.event import EventType
from sessions.tools.decorator import tool
from workers.engine import Engine, Registry, RunState
from workers.engine.agents import AgentCache
from workers.engine.models import ModelResolver

from .doubles import Crash, DictJournal, ListSink, Rig, call

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
    "required": ["city", "people"],
}


async def test_an_output_that_does_not_fit_is_asked_for_again(rig: Rig) -> None:
    """StructuredDict alone would let it through; the model is told what is wrong."""
    rig.script(
        [call("final_result", "c1", city="Berlin", people=0)], [call("final_result", "c2", city="Berlin", people=4)]
    )
    output = await rig.run(rig.turn(output_schema=SCHEMA, output_name="Place"))
    assert output.output == {"city": "Berlin", "people": 4}
    assert "$.people: 0 is less than the minimum of 1" in str(rig.seen[1][-1].parts[0])
    assert rig.events == []
    assert rig.journal.final == []


async def test_an_output_that_never_fits_fails_the_turn(rig: Rig) -> None:
    """The error has the last output that did not fit."""
    rig.script([call("final_result", "c1", city=1)])
    with pytest.raises(OutputInvalid, match=r"'people' is a required property"):
        await rig.run(rig.turn(output_schema=SCHEMA))
    assert len(rig.paid) == 3


async def test_a_typed_turn_resumes_behind_a_rejected_output(rig: Rig) -> None:
    """The rejection is part of the path that a replay follows."""
    rig.script([call("final_result", "c1", city="x", people=0)], [call("final_result", "c2", city="x", people=4)])
    with pytest.raises(Crash):
        await rig.run(rig.turn(output_schema=SCHEMA), crash=(1, "before"))
    output = await rig.run(rig.turn(output_schema=SCHEMA, attempt=2))
    assert output.output["people"] == 4
    assert rig.paid == [1, 2, 2]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "properties": {"a": {"type": "nonsense"}}}, "not a valid JSON schema.*'nonsense'"),
        ({"type": "string"}, "cannot be built"),
    ],
)
async def test_a_schema_that_cannot_be_used_is_a_configuration_error(
    rig: Rig, schema: dict[str, Any], says: str
) -> None:
    """The error is raised before the model is asked."""
    rig.script([TextPart("x")])
    with pytest.raises(TurnConfigurationError, match=says):
        await rig.run(rig.turn(output_schema=schema))
    assert rig.paid == []


async def test_what_the_worker_does_not_know_is_a_configuration_error(rig: Rig) -> None:
    """The message lists the known ones and says where to add more."""

    @tool
    async def add() -> int:
        return 1

    rig.tool(add)
    rig.script([TextPart("x")])
    with pytest.raises(TurnConfigurationError, match=r"no tool named 'sub' \(it has 'add'\).*SESSIONFLEET_IMPORTS"):
        await rig.run(rig.turn(tools=("sub",)))
    with pytest.raises(TurnConfigurationError, match=r"no agent named 'support' \(it has none\)"):
        await rig.run(rig.turn(name="support", registered=True))


class Ticket(BaseModel):
    title: str


def support(rig: Rig, output: Any) -> Agent[None, Any]:
    agent: Agent[None, Any] = Agent(rig.registry.models["scripted"], output_type=output, instructions="Be kind.")

    @agent.tool_plain
    async def refund(amount: int) -> str:
        rig.effects.append(f"refund {amount}")
        if rig.effects == ["refund 5"]:
            raise Crash
        return "refunded"

    rig.registry.add_agent("support", agent)
    return agent


async def test_a_registered_agent_runs_with_its_own_tools_journalled(rig: Rig) -> None:
    """Its unmarked tools count as `retry="never"`."""
    rig.script([call("refund", "c1", amount=5)], [TextPart("Done.")])
    support(rig, str)
    turn: dict[str, Any] = {"name": "support", "registered": True, "model": None, "tools": ()}
    with pytest.raises(Crash):
        await rig.run(rig.turn(**turn))
    output = await rig.run(rig.turn(attempt=2, **turn))
    assert output.text == "Done."
    assert rig.effects == ["refund 5"]
    assert rig.outcomes() == ["unknown"]
    assert rig.paid == [1, 2]
    assert rig.journal.final == []


async def test_a_registered_agent_keeps_its_output_type(rig: Rig) -> None:
    """The result is the pydantic model as JSON."""
    rig.script([call("final_result", "c1", title="Broken")])
    support(rig, Ticket)
    output = await rig.run(rig.turn(name="support", registered=True, model=None, tools=()))
    assert (output.text, output.output) == ('{"title":"Broken"}', {"title": "Broken"})


async def test_a_registered_agent_can_be_given_more_for_a_turn(rig: Rig) -> None:
    """Model, instructions, tools and output type of the configuration are added to its own."""
    told: list[AgentInfo] = []

    async def answer(_: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        told.append(info)
        return ModelResponse(parts=[call("final_result", f"c{len(told)}", city="x", people=len(told) - 1)])

    @tool
    async def add(a: int) -> int:
        return a

    rig.script([TextPart("never asked")])
    rig.model(answer, name="other")
    rig.tool(add)
    support(rig, str)
    output = await rig.run(
        rig.turn(name="support", registered=True, model="other", instructions="In French.", output_schema=SCHEMA)
    )
    assert output.output == {"city": "x", "people": 1}
    assert {definition.name for definition in told[0].function_tools} == {"refund", "add"}
    assert told[0].instructions == "Be kind.\n\nIn French."


async def test_marks_on_the_tools_of_a_registered_agent_hold(rig: Rig) -> None:
    """`@tool(retry="safe")` on a function given to Agent(tools=[...])."""

    @tool(retry="safe")
    async def look() -> str:
        rig.effects.append("look")
        if len(rig.effects) == 1:
            raise Crash
        return "seen"

    rig.script([call("look", "c1")], [TextPart("Done.")])
    rig.registry.add_agent("eye", Agent(rig.registry.models["scripted"], tools=[look]))
    turn: dict[str, Any] = {"name": "eye", "registered": True, "model": None, "tools": ()}
    with pytest.raises(Crash):
        await rig.run(rig.turn(**turn))
    await rig.run(rig.turn(attempt=2, **turn))
    assert rig.outcomes() == ["ok"]


async def test_an_output_validator_of_a_registered_agent_asks_again(rig: Rig) -> None:
    """A text is not final for it, so its response is awaited like any step."""
    rig.script([TextPart("rude")], [TextPart("kind")])
    agent = support(rig, str)

    @agent.output_validator
    def kind(text: str) -> str:
        if text == "rude":
            raise ModelRetry("be kind")
        return text

    output = await rig.run(rig.turn(name="support", registered=True, model=None, tools=()))
    assert output.text == "kind"
    assert rig.journal.writes == ["model:1", "model:2"]


async def test_many_turns_run_at_once_on_one_engine(rig: Rig) -> None:
    """One cached agent serves them all, and nothing of a turn reaches another."""
    together = asyncio.Barrier(20)

    async def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        prompt = next(p.content for m in messages for p in m.parts if p.part_kind == "user-prompt")
        if len(messages) == 1:
            await together.wait()
            return ModelResponse(parts=[call("echo", "c1", text=prompt)])
        return ModelResponse(parts=[TextPart(str(messages[-1].parts[0].content))])  # type: ignore[union-attr]

    @tool
    async def echo(text: str) -> str:
        await asyncio.sleep(0)
        return f"{text}!"

    rig.tool(echo)
    rig.model(answer)
    engine = Engine(rig.registry)

    async def one(number: int) -> tuple[str, list[str]]:
        events: list[Any] = []
        journal = DictJournal({}, events)
        turn = rig.turn(f"m{number}", number=number, name=f"agent{number % 2}")
        output = await engine.run(turn, journal, ListSink(events), RunState())
        return output.text, [event.data.get("result") for event in events if event.type is EventType.TOOL_RESULT]

    results = await asyncio.gather(*(one(number) for number in range(20)))
    assert results == [(f"m{number}!", [f"m{number}!"]) for number in range(20)]


async def test_history_is_given_from_the_first_prompt_on(rig: Rig) -> None:
    """A window never begins between a tool's call and its return."""

    @tool
    async def add(a: int) -> int:
        return a

    rig.tool(add)
    rig.script([call("add", "c1", a=1)], [TextPart("It is 1.")])
    whole = await rig.run()
    cut = json.dumps(json.loads(whole.messages)[2:]).encode()
    rig.store.clear()
    await rig.run(rig.turn("next", number=2, history=(b"[]", whole.messages, b" [ ] ")))
    assert [message.kind for message in rig.seen[2]] == ["request", "response", "request", "response", "request"]
    rig.store.clear()
    await rig.run(rig.turn("next", number=3, history=(cut, whole.messages)))
    assert [message.kind for message in rig.seen[4]] == ["request", "response", "request", "response", "request"]


async def test_history_that_cannot_be_read_is_a_corrupt_record(rig: Rig) -> None:
    """The error differs from that of a failing model."""
    rig.script([TextPart("x")])
    with pytest.raises(CorruptRecord, match="history cannot be read"):
        await rig.run(rig.turn(history=(b'[{"kind":"nonsense"}]',)))


async def test_agents_are_built_once_and_the_cache_is_bounded() -> None:
    """Building costs more than a turn; a million configurations must not fill a worker."""
    registry = Registry()
    registry.add_model("m", FunctionModel(lambda *_: ModelResponse(parts=[TextPart("x")])))
    cache = AgentCache(registry, ModelResolver(registry.models), size=2)
    first = cache.prepare(AgentConfig(name="1"), "m")
    cache.prepare(AgentConfig(name="2"), "m")
    assert cache.prepare(AgentConfig(name="1"), "m") is first
    cache.prepare(AgentConfig(name="3"), "m")
    assert cache.prepare(AgentConfig(name="1"), "m") is first
    assert cache.prepare(AgentConfig(name="1", instructions="x"), "m") is not first
