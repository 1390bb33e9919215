"""Limits on the model calls and tool calls of a turn: what was finished is kept, also over crashes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import BaseModel
from pydantic_ai.messages import TextPart

from sessions.errors import TurnLimitExceeded
from sessions.protocol.agent import AgentConfig
from sessions.protocol.turn_limits import TurnLimits
from workers.engine.ports import TurnInput
from workers.engine.salvage import NOT_RUN, completed_steps
from workers.engine.transcript import input_digest

from .doubles import Crash, Rig, call


def limited(rig: Rig, **limits: int) -> TurnInput:
    return replace(rig.turn(), limits=TurnLimits(**limits))


@pytest.fixture
def looping(rig: Rig) -> Rig:
    """An agent that calls a tool in each of its first responses, twice in the second one."""
    rig.noting()
    rig.script(
        [call("note", "c1", text="a")],
        [call("note", "c2", text="b"), call("note", "c3", text="c")],
        [TextPart("done")],
    )
    return rig


@pytest.mark.parametrize("limits", [{"model_calls": 3, "tool_calls": 3}, {}])
async def test_a_turn_within_its_limits_is_not_touched(looping: Rig, limits: dict[str, int]) -> None:
    """As many calls as it may make, and no more, end as ever."""
    assert (await looping.run(limited(looping, **limits))).text == "done"
    assert looping.paid == [1, 2, 3]


async def test_the_model_is_not_asked_more_often(looping: Rig) -> None:
    """The tools of the last response have run; their results stay."""
    turn = limited(looping, model_calls=2)
    with pytest.raises(TurnLimitExceeded, match="may make 2 model calls") as refused:
        await looping.run(turn)
    assert (refused.value.limit, refused.value.allowed) == ("model_calls", 2)
    assert (looping.paid, looping.effects) == ([1, 2], ["a", "b", "c"])
    kept = completed_steps(turn, looping.store, "").messages.decode()
    assert kept.count('"tool-return"') == 3


async def test_no_call_runs_of_a_response_that_asks_for_too_many(looping: Rig) -> None:
    """Neither the one too many nor those before it; the history says that they did not run."""
    turn = limited(looping, tool_calls=2)
    with pytest.raises(TurnLimitExceeded, match="may make 2 tool calls"):
        await looping.run(turn)
    assert (looping.paid, looping.effects) == ([1, 2], ["a"])
    kept = completed_steps(turn, looping.store, "").messages.decode()
    assert kept.count(NOT_RUN) == 2


@pytest.mark.parametrize("limits", [{"model_calls": 2}, {"tool_calls": 2}])
async def test_a_crash_makes_no_room(looping: Rig, limits: dict[str, int]) -> None:
    """Before and after each write: replayed calls count, and none is made twice."""
    turn = limited(looping, **limits)
    for number in range(8):
        for side in ("before", "after"):
            looping.store.clear()
            looping.paid.clear()
            with pytest.raises((Crash, TurnLimitExceeded)):
                await looping.run(turn, crash=(number, side))
            with pytest.raises(TurnLimitExceeded):
                await looping.run(turn)
            assert len(json.loads(completed_steps(turn, looping.store, "").messages)) > 1
            assert max(looping.paid) == 2
            assert sum(key.startswith("model:") for key in looping.store) == 2


async def test_a_typed_answer_is_no_tool_call(rig: Rig) -> None:
    """Although providers send it as one."""

    class Answer(BaseModel):
        number: int

    rig.script([call("final_result", "c1", number=3)])
    turn = rig.turn(output_schema=Answer.model_json_schema(), output_name="Answer")
    output = await rig.run(replace(turn, limits=TurnLimits(tool_calls=0)))
    assert output.output == {"number": 3}


def test_of_several_limits_the_smallest_counts() -> None:
    """Settings, agent and message can only make a limit smaller."""
    settings, agent = TurnLimits(model_calls=5), TurnLimits(model_calls=9, tool_calls=2)
    assert settings.and_also(agent) == TurnLimits(model_calls=5, tool_calls=2)
    assert settings.and_also(None) is settings


def test_an_agent_without_limits_has_the_digest_that_it_had(rig: Rig) -> None:
    """A turn that is open during the upgrade continues."""
    assert "limits" not in AgentConfig(name="A").model_dump_json()
    assert input_digest(rig.turn()) == input_digest(limited(rig, model_calls=1))
