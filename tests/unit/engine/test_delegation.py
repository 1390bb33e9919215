"""Asking other agents, as one run of the engine sees it: begun once, heard once, whatever crashes."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from pydantic_ai.messages import TextPart

from sessions.errors import TurnRefused
from sessions.protocol.agent import AgentConfig, Delegate
from sessions.protocol.call import CallKind
from sessions.protocol.event import EventType
from sessions.protocol.turn import Usage
from workers.engine.hooks import register_hooks
from workers.engine.ports import DelegateAnswer, DelegationRefused, TurnInput, Waiting

from .doubles import Crash, Rig, call

B = Delegate(tool="ask_B", description="Ask B", config=AgentConfig(name="B"))
COST = Usage(requests=3, input_tokens=30, output_tokens=3, tool_calls=1)


class Others:
    """The other agents: turns by key, and what came of them."""

    def __init__(self) -> None:
        self.turns: dict[str, str] = {}
        self.said: dict[str, DelegateAnswer] = {}
        self.refused = ""

    async def start(self, key: str, delegate: Delegate, message: str) -> str:
        if self.refused:
            raise DelegationRefused(self.refused)
        return self.turns.setdefault(key, f"{delegate.config.name}:{message}")

    async def poll_answer(self, turn_id: str) -> DelegateAnswer | None:
        return self.said.get(turn_id)


@pytest.fixture
def others(rig: Rig) -> Others:
    found = Others()
    rig.state.delegates = found
    rig.script([call("ask_B", "c1", message="one"), call("ask_B", "c2", message="two")], [TextPart("done")])
    return found


def turn(rig: Rig, **agent: Any) -> TurnInput:
    return rig.turn(delegates=(B,), **agent)


async def test_a_turn_waits_until_all_have_answered(rig: Rig, others: Others) -> None:
    """Both are asked at once; each answer is used when it is there, and its cost is added."""
    with pytest.raises(Waiting) as waiting:
        await rig.run(turn(rig))
    assert {ask.kind for ask in waiting.value.calls} == {CallKind.TURN}
    assert sorted(others.turns.values()) == ["B:one", "B:two"]
    others.said["B:one"] = DelegateAnswer(True, output={"x": 1}, usage=COST)
    with pytest.raises(Waiting) as waiting:
        await rig.run(turn(rig))
    assert [ask.waits_for for ask in waiting.value.calls] == ["B:two"]
    others.said["B:two"] = DelegateAnswer(False, reason="it broke", usage=COST)
    output = await rig.run(turn(rig))
    assert (output.text, output.usage.requests, output.usage.input_tokens) == ("done", 8, output.usage.input_tokens)
    assert rig.paid == [1, 2]
    results = {
        event.data["turn"]: (event.data["outcome"], event.data["result"]) for event in rig.of(EventType.TOOL_RESULT)
    }
    assert results == {"B:one": ("ok", {"x": 1}), "B:two": ("failed", "it broke")}
    assert sorted(event.data["turn"] for event in rig.of(EventType.TASK_STARTED)) == ["B:one", "B:two"]


async def test_what_cannot_be_asked_is_told_to_the_model(rig: Rig, others: Others) -> None:
    """The model gets the reason as the tool's result, and the turn continues."""
    others.refused = "too deep"
    assert (await rig.run(turn(rig))).text == "done"
    assert rig.outcomes() == ["failed", "failed"]


async def test_no_crash_asks_twice_or_forgets(rig: Rig, others: Others) -> None:
    """Before and after each write of the journal: two turns, two answers, and one cost for each."""
    for number in count():
        for when in ("before", "after"):
            rig.store.clear()
            rig.events.clear()
            others.turns.clear()
            others.said.clear()
            crashed = False
            for attempt in range(8):
                try:
                    output = await rig.run(turn(rig), crash=(number, when) if attempt == 0 else None)
                    break
                except Crash:
                    crashed = True
                except Waiting:
                    others.said = {
                        turn_id: DelegateAnswer(True, output="yes", usage=COST) for turn_id in others.turns.values()
                    }
            assert output.text == "done"
            assert output.usage.requests == 8
            assert sorted(others.turns.values()) == ["B:one", "B:two"]
            assert len(rig.of(EventType.TASK_STARTED)) == len(rig.of(EventType.TOOL_RESULT)) == 2
        if not crashed and number > 2:
            return


async def test_a_hook_sees_what_agents_answer(rig: Rig, others: Others) -> None:
    """It sees such answers like results of tools, and may refuse them."""

    def hide(_: object, tool_name: str, result: object) -> object:
        if result == "forbidden":
            raise TurnRefused("not that")
        return f"{tool_name}: ***"

    rig.registry.add_hooks(register_hooks("redact", after_tool=hide))
    others.said = {f"B:{word}": DelegateAnswer(True, output="4711", usage=COST) for word in ("one", "two")}
    await rig.run(turn(rig, hooks=("redact",)))
    assert {event.data["result"] for event in rig.of(EventType.TOOL_RESULT)} == {"ask_B: ***"}
    rig.store.clear()
    others.said = {f"B:{word}": DelegateAnswer(True, output="forbidden") for word in ("one", "two")}
    with pytest.raises(TurnRefused):
        await rig.run(turn(rig, hooks=("redact",)))
