"""What an interrupt keeps of a turn: completed steps, in a form that a model accepts, wherever it was stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessions import tool
from workers.engine.ports import PastTurn
from workers.engine.prices import PriceList
from workers.engine.salvage import completed_steps
from workers.engine.transcript import input_digest, load_history
from workers.engine.usage import usage_so_far

from .doubles import Crash, Rig, call


def shop(rig: Rig) -> None:
    @tool(retry="safe")
    async def lookup(q: str) -> str:
        """Look up."""
        return f"{q}=1"

    @tool
    async def charge(amount: int) -> str:
        """Charge."""
        return "charged"

    rig.tool(lookup)
    rig.tool(charge)
    rig.script([call("lookup", "c1", q="a"), call("charge", "c2", amount=7)], [TextPart("All done.")])


def unanswered(messages: list[ModelMessage]) -> set[str]:
    calls = {p.tool_call_id for m in messages for p in m.parts if isinstance(p, ToolCallPart)}
    return calls - {p.tool_call_id for m in messages for p in m.parts if isinstance(p, ToolReturnPart)}


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_every_call_has_a_return_wherever_it_stops(rig: Rig, step: int, when: str) -> None:
    """Before, between and after any two writes; and the next turn runs on that history."""
    shop(rig)
    with pytest.raises(Crash):
        await rig.run(crash=(step, when))
    kept = completed_steps(rig.turn(), rig.store)
    messages = load_history([PastTurn("Assistant", kept.messages)], "Assistant")
    assert not unanswered(messages)
    assert usage_so_far(rig.store, PriceList()).requests == sum(key.startswith("model:") for key in rig.store)
    rig.store.clear()
    rig.script([TextPart("on")], name="next")
    output = await rig.run(rig.turn("next", number=2, model="next", history=[kept.messages]))
    assert output.text == "on"


async def test_returns_say_how_far_their_call_came(rig: Rig) -> None:
    """Finished, cut short, or never begun are three things to a model."""
    shop(rig)
    with pytest.raises(Crash):
        await rig.run(crash=(3, "before"))

    def returned() -> ToolReturnPart:
        messages = load_history([PastTurn("Assistant", completed_steps(rig.turn(), rig.store).messages)], "Assistant")
        return next(p for m in messages for p in m.parts if isinstance(p, ToolReturnPart) and p.tool_call_id == "c2")

    key = next(key for key in rig.store if key.startswith("tool:1:c2"))
    assert returned().outcome == "interrupted"
    assert "may or may not" in str(returned().content)
    del rig.store[key]
    assert returned().outcome == "interrupted"
    assert "before this tool ran" in str(returned().content)
    rig.store.clear()
    await rig.run()
    assert (returned().outcome, returned().content) == ("success", "charged")


async def test_an_undisturbed_turn_is_kept_whole(rig: Rig) -> None:
    """An interrupt that came a moment too late keeps what a commit would have kept."""
    shop(rig)
    output = await rig.run()
    kept = completed_steps(rig.turn(), rig.store)
    assert kept.message_count == output.message_count
    own = load_history([PastTurn("Assistant", kept.messages)], "Assistant")
    theirs = load_history([PastTurn("Assistant", output.messages)], "Assistant")
    assert [[p.part_kind for p in m.parts] for m in own] == [[p.part_kind for p in m.parts] for m in theirs]


async def test_text_that_a_reader_has_seen_is_kept(rig: Rig) -> None:
    """A stream that was stopped: the question and the text so far stay in the history."""
    started = asyncio.Event()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "Once upon "
        yield "a time"
        started.set()
        await asyncio.sleep(3600)

    rig.registry.add_model("slow", FunctionModel(stream_function=stream))
    turn = rig.turn("tell a story", model="slow", stream=True)
    run = asyncio.create_task(rig.run(turn))
    await started.wait()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    kept = completed_steps(turn, rig.store, rig.state.partial_text)
    texts = [p.content for m in load_history([PastTurn("Assistant", kept.messages)], "Assistant") for p in m.parts]  # type: ignore[union-attr]
    assert texts == ["tell a story", "Once upon a time"]


@pytest.mark.parametrize("incomplete", ["failed", "cancelled", "dead_lettered"])
@pytest.mark.parametrize("agent", ["Assistant", "Another"])
async def test_a_model_is_told_that_a_turn_did_not_complete(rig: Rig, incomplete: str, agent: str) -> None:
    """Also if it was another agent's turn; its question is not left without an answer."""
    shop(rig)
    with pytest.raises(Crash):
        await rig.run(crash=(3, "after"))
    kept = completed_steps(rig.turn(), rig.store)
    messages = load_history([PastTurn("Assistant", kept.messages, incomplete)], agent)
    shown = str(messages[-1])
    assert "did not complete" in shown
    if agent == "Assistant":
        assert isinstance(messages[-1], ModelResponse)
    assert load_history([PastTurn("Assistant", kept.messages)], agent) != messages


async def test_a_mark_is_part_of_what_a_replay_is_compared_by(rig: Rig) -> None:
    """Without one the digest is what it was before there were marks, so that open turns continue during an upgrade."""
    turn = rig.turn()
    plain, marked = ([PastTurn("Assistant", b"[]", mark)] for mark in ("", "failed"))
    assert input_digest(replace(turn, history=plain)) != input_digest(replace(turn, history=marked))
