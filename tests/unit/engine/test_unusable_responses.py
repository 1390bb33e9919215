"""Responses against the rules: text that is not Unicode, arguments that are not an object, duplicate ids."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, FunctionModel
from pydantic_ai.usage import RequestUsage

from sessions.errors import OutputInvalid
from sessions.protocol.event import EventType
from sessions.tools.decorator import tool
from workers.engine.model_record import load_response

from .doubles import Rig, call, joined


def note_tool(rig: Rig) -> None:
    @tool
    def note(text: str) -> str:
        """Write a note down."""
        rig.effects.append(text)
        return f"noted {text}"

    rig.tool(note)


def streaming(rig: Rig, *chunks: Any) -> None:
    async def stream(_: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        for chunk in chunks:
            yield chunk

    rig.registry.add_model("scripted", FunctionModel(stream_function=stream))


def returned_by_id(rig: Rig) -> list[tuple[str, Any]]:
    return [(p.tool_call_id, p.content) for p in rig.seen[-1][-1].parts if p.part_kind == "tool-return"]


async def test_half_a_surrogate_pair_in_an_answer_becomes_a_replacement_character(rig: Rig) -> None:
    """The answer has been paid for, but no encoding accepts it as it is. A pair in two halves is joined."""
    rig.script([ThinkingPart("\udcff"), TextPart("hi \ud83d bye \ud83d\ude00")])
    output = await rig.run()
    assert output.text == "hi \ufffd bye 😀"
    assert (await rig.run(rig.turn(attempt=2))).text == output.text
    assert rig.paid == [1]


@pytest.mark.parametrize("chars", [1, 256])
async def test_a_surrogate_pair_in_two_chunks_is_joined(rig: Rig, chars: int) -> None:
    """Every event can be encoded, and together they are the answer."""
    streaming(rig, "hi ", "\ud83d", "\ude00", " bye", " \ud83d", "end \ude00", "\ud83d")
    output = await rig.run(rig.turn(stream=True), delta_chars=chars)
    assert output.text == "hi 😀 bye \ufffdend \ufffd\ufffd"
    deltas = [event.data["text"] for event in rig.of(EventType.TEXT_DELTA)]
    assert "".join(deltas) == output.text
    assert [delta.encode() for delta in deltas]


async def test_half_a_pair_at_the_end_of_thoughts_is_not_joined_with_the_answer(rig: Rig) -> None:
    """The two texts stay separate."""
    streaming(rig, {0: DeltaThinkingPart(content="hm \ud83d")}, "\ude00 yes")
    output = await rig.run(rig.turn(stream=True))
    assert output.text == "\ufffd yes"
    assert joined(rig.events) == [(EventType.THINKING_DELTA, "hm \ufffd"), (EventType.TEXT_DELTA, "\ufffd yes")]


@pytest.mark.parametrize("args", [{"text": "a\ud83d"}, '{"text": "a\ud83d"}', '{"text": "a\\ud83d"}'], ids=ascii)
async def test_half_a_surrogate_pair_in_arguments_becomes_a_replacement_character(rig: Rig, args: Any) -> None:
    """It is replaced in each form in which a provider's library may return it."""
    note_tool(rig)
    parts = [ToolCallPart("note", args, tool_call_id="c1")]

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        # With its usage: the double cannot count the words of a text that is not Unicode.
        return ModelResponse(parts if len(messages) == 1 else [TextPart("Done.")], usage=RequestUsage(input_tokens=1))

    rig.model(answer)
    await rig.run()
    assert rig.effects == ["a\ufffd"]
    assert rig.of(EventType.TOOL_CALL)[0].data["args"] == {"text": "a\ufffd"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("args", ["[]", "1", "null", '"x"', "true", '["a"]'])
async def test_arguments_that_are_no_object_are_told_to_the_model(rig: Rig, args: str, stream: bool) -> None:
    """It is handled like broken JSON; the events show what the model sent."""
    note_tool(rig)
    rig.script([ToolCallPart("note", args, tool_call_id="c1")], [call("note", "c2", text="right")], [TextPart("Done.")])
    output = await rig.run(rig.turn(stream=stream))
    assert output.text.strip() == "Done."
    assert rig.effects == ["right"]
    assert rig.of(EventType.TOOL_CALL)[0].data["args"] == args
    assert "object" in str(rig.seen[1][-1].parts[0])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ids", [("call_1", "call_1", "call_1-2"), ("", "", "call")])
async def test_calls_that_share_an_id_are_all_run_once(rig: Rig, ids: Sequence[str], stream: bool) -> None:
    """Each gets its own id, the same one in a replay; providers refuse a history in which two calls share one."""
    note_tool(rig)
    calls = [ToolCallPart("note", {"text": f"n{i}"}, tool_call_id=call_id) for i, call_id in enumerate(ids)]
    rig.script(calls, [TextPart("Done.")])
    for attempt in (1, 2):
        output = await rig.run(rig.turn(attempt=attempt, stream=stream))
        assert output.text.strip() == "Done."
    assert sorted(rig.effects) == ["n0", "n1", "n2"]
    given = dict(returned_by_id(rig))
    assert len(given) == 3
    assert all(given)
    messages = json.loads(output.messages)
    in_history = [p["tool_call_id"] for m in messages for p in m["parts"] if p["part_kind"] == "tool-call"]
    assert sorted(in_history) == sorted(given)
    assert sorted(event.data["call_id"] for event in rig.of(EventType.TOOL_CALL)) == sorted(given)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("blank", [" \n\n ", "\u00a0", "\t"])
async def test_an_answer_of_spaces_is_no_answer(rig: Rig, blank: str, stream: bool) -> None:
    """The model is asked again, as after an empty answer."""
    rig.script([ThinkingPart("hm"), TextPart(blank)], [TextPart("Here.")])
    output = await rig.run(rig.turn(stream=stream))
    assert output.text.strip() == "Here."
    assert all(part.has_content() for part in load_response(rig.store["model:1"]).parts if part.part_kind != "text")


async def test_a_model_that_answers_nothing_but_spaces_fails_the_turn(rig: Rig) -> None:
    """The turn fails after the retries."""
    rig.script([TextPart(" ")])
    with pytest.raises(OutputInvalid):
        await rig.run()


async def test_spaces_beside_a_call_are_not_kept(rig: Rig) -> None:
    """Some providers refuse a history that has a text of spaces."""
    note_tool(rig)
    rig.script([TextPart("\n"), call("note", "c1", text="a")], [TextPart("Done.")])
    output = await rig.run()
    texts = [p["content"] for m in json.loads(output.messages) for p in m["parts"] if p["part_kind"] == "text"]
    assert texts == ["", "Done."]


async def test_a_good_response_is_left_as_it_is(rig: Rig) -> None:
    """Spaces within an answer are part of it."""
    rig.script([TextPart("a "), TextPart(" "), TextPart("b\\ud83d 😀")])
    output = await rig.run()
    assert output.text == "a  b\\ud83d 😀"


async def test_a_message_of_a_hook_is_made_unicode(rig: Rig) -> None:
    """No provider would accept it otherwise."""
    from workers.engine.hooks import register_hooks

    hooks = register_hooks(
        "cut", before_turn=lambda _, message: message + "\ud83d", after_turn=lambda _, answer: answer + "\ud83d"
    )
    rig.registry.add_hooks(hooks)
    rig.script([TextPart("Done.")])
    output = await rig.run(rig.turn(hooks=["cut"]))
    assert output.text == "Done.\ufffd"
    assert rig.seen[0][-1].parts[0].content == "go\ufffd"
