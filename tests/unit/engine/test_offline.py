"""The offline model answers from its input, calls tools when told, and says what it is."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from sessions.protocol.event import EventType
from sessions.tools.decorator import tool
from workers.engine import TurnOutput
from workers.engine.offline import NOTE
from workers.engine.offline_schema import example

from .doubles import Rig


class Talk:
    """Turns of one session, each with the history of those before it."""

    def __init__(self, rig: Rig, **agent: Any) -> None:
        self.rig = rig
        self.agent = {"model": "offline", **agent}
        self.history: list[bytes] = []
        self.number = 0

    async def say(self, message: str, **agent: Any) -> TurnOutput:
        self.number += 1
        self.rig.store.clear()
        turn = self.rig.turn(message, number=self.number, history=tuple(self.history), **{**self.agent, **agent})
        output = await self.rig.run(turn)
        self.history.append(output.messages)
        return output


@pytest.fixture
def talk(rig: Rig) -> Talk:
    return Talk(rig)


async def test_it_remembers_a_name_it_was_told(talk: Talk) -> None:
    """It is the first thing that most people try."""
    told = await talk.say("My name is Alice")
    assert 'Noted: "My name is Alice"' in told.text
    await talk.say("I live in Berlin")
    asked = await talk.say("What's my name?")
    assert asked.text.startswith('You told me: "My name is Alice"')
    assert "Berlin" not in asked.text
    assert asked.message_count == 2


async def test_it_quotes_the_latest_of_equally_good_statements_first(talk: Talk) -> None:
    """A correction takes precedence over what it corrects."""
    await talk.say("My name is Alice")
    await talk.say("What is my name?")
    await talk.say("Sorry, my name is Bob")
    assert (await talk.say("What is my name?")).text.startswith('You told me: "Sorry, my name is Bob"')


async def test_it_quotes_its_instructions(talk: Talk) -> None:
    """Whatever reaches the model in its instructions can be seen in its answer."""
    output = await talk.say("Which preferences?", instructions="Be brief.\nThe user has a preference for tea.")
    assert 'I was given: "The user has a preference for tea."' in output.text


async def test_it_says_what_it_is_and_what_to_set(talk: Talk) -> None:
    """Nobody can mistake it for a language model."""
    output = await talk.say("Who are you?")
    assert output.text.startswith("I was told nothing about that.")
    assert output.text.endswith(NOTE)
    assert "not a language model" in NOTE
    assert "SESSIONFLEET_MODEL" in NOTE


@pytest.mark.parametrize("stream", [False, True])
async def test_it_calls_tools_when_told_one_after_another(rig: Rig, stream: bool) -> None:
    """`CALL name({json})`, in order; then it answers with what they returned."""

    @tool
    async def add(a: int, b: int) -> int:
        return a + b

    @tool
    async def now() -> str:
        return "noon"

    rig.tool(add)
    rig.tool(now)
    turn = rig.turn('Please CALL add({"a": 1, "b": 2}) and then CALL now()', model="offline", stream=stream)
    output = await rig.run(turn)
    assert output.text.startswith("add: 3\nnow: noon\n")
    assert output.usage.requests == 3
    calls = rig.of(EventType.TOOL_CALL)
    assert [event.data["tool"] for event in calls] == ["add", "now"]
    assert len({event.data["call_id"] for event in calls}) == 2


async def test_its_call_ids_differ_between_turns_and_not_between_attempts(rig: Rig, talk: Talk) -> None:
    """A replay finds its steps; a window over many turns holds no id twice."""

    @tool
    async def now() -> str:
        return "noon"

    rig.tool(now)
    await talk.say("CALL now()")
    first = rig.of(EventType.TOOL_CALL)[0].data["call_id"]
    await talk.say("CALL now()")
    assert rig.of(EventType.TOOL_CALL)[1].data["call_id"] != first
    rig.store.clear()
    await rig.run(rig.turn("CALL now()", model="offline"))
    assert rig.of(EventType.TOOL_CALL)[2].data["call_id"] == first


async def test_a_call_that_is_no_json_is_text(talk: Talk) -> None:
    """The model does not guess what was meant."""
    assert (await talk.say("CALL now({a: 1})")).text.startswith("Noted:")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    zip: Annotated[str, Field(min_length=5, max_length=5)]
    tags: list[str] = Field(min_length=2)


class Order(BaseModel):
    name: str
    amount: Annotated[int, Field(ge=2, le=9)]
    price: Annotated[float, Field(gt=0)]
    paid: bool
    colour: Colour
    kind: Literal["a"]
    inner: Inner
    note: str | None
    either: int | str
    pair: tuple[int, str]
    optional: str = "left out"


def test_an_example_of_a_schema_is_valid() -> None:
    """Nested models, bounds, enums and unions; only what is required is there."""
    value = example(Order.model_json_schema(), "a blue one, 4 of them; name: Ada, price is 2.5")
    order = Order.model_validate(value)
    assert (order.name, order.amount, order.price, order.colour) == ("Ada", 4, 2.5, Colour.BLUE)
    assert "optional" not in value


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"d": {"type": "string", "format": "date"}}, "required": ["d"]},
        {"type": "object", "properties": {"n": {"type": "integer", "exclusiveMinimum": 4}}, "required": ["n"]},
        {"type": "object", "properties": {"n": {"type": ["null", "number"], "maximum": -3}}, "required": ["n"]},
        {"type": "object", "properties": {"x": {"allOf": [{"type": "boolean"}]}}, "required": ["x"]},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"any": {}}, "required": ["any"]},
    ],
)
def test_an_example_of_a_plain_schema_is_valid(schema: dict[str, Any]) -> None:
    """Schemas that pydantic did not write work, too."""
    import jsonschema

    jsonschema.validate(example(schema, "hello"), schema)


async def test_it_answers_a_typed_agent(talk: Talk) -> None:
    """Agent(output_type=...) works with no key."""
    output = await talk.say("name: Ada, 4 of them", output_schema=Order.model_json_schema(), output_name="Order")
    assert Order.model_validate(output.output).name == "Ada"
    assert json.loads(output.text) == output.output
    assert output.message_count == 2
    again = await talk.say("name: Bea, 5 of them", output_schema=Order.model_json_schema(), output_name="Order")
    assert Order.model_validate(again.output).name == "Bea"
    assert (await talk.say("Which name?")).text.startswith('You told me: "name: Bea, 5 of them"; "name: Ada')
