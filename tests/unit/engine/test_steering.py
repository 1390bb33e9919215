"""Messages that join a running turn: at the same place in each replay, and never lost at its end."""

from __future__ import annotations

import json

import pytest
from pydantic_ai.messages import ModelMessage, TextPart, UserPromptPart

from sessions import tool

from .doubles import Crash, Rig, call


def prompts(messages: list[ModelMessage]) -> list[str]:
    return [str(p.content) for m in messages for p in m.parts if isinstance(p, UserPromptPart)]


def steering(rig: Rig, *texts: str, behind: str) -> None:
    """Lets these messages arrive while the tool of this name runs."""

    @tool(name=behind)
    def working() -> str:
        """Work."""
        rig.effects.append(behind)
        rig.inbox.extend(texts)
        rig.state.steering_pending = True
        return "worked"

    rig.tool(working)


async def test_steering_joins_before_the_next_model_call(rig: Rig) -> None:
    """The model sees it after the tool's return; the history has it."""
    steering(rig, "only the blue ones", behind="work")
    rig.script([call("work", "c1")], [TextPart("done")])
    output = await rig.run()
    assert [prompts(seen) for seen in rig.seen] == [["go"], ["go", "only the blue ones"]]
    assert "only the blue ones" in output.messages.decode()
    assert json.loads(rig.store["steer:2"]) == ["only the blue ones"]


async def test_steering_behind_the_last_answer_brings_one_more(rig: Rig) -> None:
    """A turn that had its answer and was then steered replays, and asks the model again."""
    rig.script([TextPart("first")], [TextPart("second")])
    assert (await rig.run()).text == "first"
    rig.inbox.append("and now?")
    rig.state.steering_pending = True
    assert (await rig.run()).text == "second"
    assert rig.paid == [1, 2]
    assert prompts(rig.seen[-1]) == ["go", "and now?"]


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_replay_sees_steering_where_it_was(rig: Rig, step: int, when: str) -> None:
    """Wherever a worker dies, the message is consumed once, at one place, and nothing is paid for twice."""
    steering(rig, "only the blue ones", behind="work")
    rig.script([call("work", "c1")], [call("work", "c2")], [TextPart("done")])
    try:
        await rig.run(crash=(step, when))
    except Crash:
        rig.state.steering_pending = bool(rig.inbox)
    output = await rig.run()
    assert output.text == "done"
    said = prompts(rig.seen[-1])
    assert said[0] == "go"
    assert len(said) == 1 + len(rig.effects)
    again = await rig.run()
    assert again.messages.count(b"only the blue ones") == output.messages.count(b"only the blue ones")


async def test_what_arrives_later_does_not_change_a_replay(rig: Rig) -> None:
    """A recorded model request had no steering; later messages join after it."""
    steering(rig, behind="work")
    rig.script([call("work", "c1")], [TextPart("done")])
    with pytest.raises(Crash):
        await rig.run(crash=(3, "before"))  # model:1, started, result, model:2
    rig.inbox.append("late")
    rig.state.steering_pending = True
    await rig.run()
    assert prompts(rig.seen[-1]) == ["go", "late"]
    assert "steer:1" not in rig.store
