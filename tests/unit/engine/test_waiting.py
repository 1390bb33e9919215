"""Calls that wait for an outside answer: the run stops, and continues after them when the answers are there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import TextPart

from sessions import OutsideResult, tool
from sessions.protocol.call import CallAnswer, CallKind, WaitingCall
from sessions.protocol.event import EventType
from workers.engine.ports import Waiting

from .doubles import Crash, Rig, call


async def asked(rig: Rig, **options: Any) -> list[WaitingCall]:
    with pytest.raises(Waiting) as stopped:
        await rig.run(**options)
    return list(stopped.value.calls)


def answer(rig: Rig, ask: WaitingCall, action: str, **more: Any) -> None:
    """As `turn.approve(...)` and its like write it."""
    rig.store[f"answer:{ask.key}"] = CallAnswer(action=action, **more).model_dump_json().encode()  # type: ignore[arg-type]


def shop(rig: Rig) -> None:
    @tool
    def read() -> str:
        """Read."""
        rig.effects.append("read")
        return "data"

    @tool(approval=True)
    def refund(amount: int) -> str:
        """Refund."""
        rig.effects.append(f"refund {amount}")
        return f"refunded {amount}"

    @tool
    def job(x: int) -> str:
        """Start a job elsewhere."""
        rig.effects.append(f"job {x}")
        raise OutsideResult({"job": f"j{x}"}, waits_for=f"queue/j{x}")

    for function in (read, refund, job):
        rig.tool(function)


def returns(rig: Rig) -> dict[str, Any]:
    """What the model was given for its calls, in the last request."""
    return {
        part.tool_call_id: part.content
        for message in rig.seen[-1]
        for part in message.parts
        if part.part_kind == "tool-return"
    }


THREE = [call("read", "c1"), call("refund", "c2", amount=90), call("job", "c3", x=1)]


async def test_a_run_waits_for_all_answers_at_once_and_repeats_nothing(rig: Rig) -> None:
    """The other calls are completed first; the answers are given to the model with them; nothing runs twice."""
    shop(rig)
    rig.script(THREE, [TextPart("done")])
    asks = await asked(rig)
    assert [(a.call_id, a.tool, a.kind, a.args) for a in sorted(asks, key=lambda a: a.call_id)] == [
        ("c2", "refund", CallKind.APPROVAL, {"amount": 90}),
        ("c3", "job", CallKind.RESULT, {"x": 1}),
    ]
    outside = next(a for a in asks if a.call_id == "c3")
    assert (outside.metadata, outside.waits_for) == ({"job": "j1"}, "queue/j1")
    assert sorted(rig.effects) == ["job 1", "read"]
    by_id = {a.call_id: a for a in asks}
    answer(rig, by_id["c2"], "approve", args={"amount": 60})
    answer(rig, by_id["c3"], "provide", result={"rows": 3})
    output = await rig.run()
    assert output.text == "done"
    assert sorted(rig.effects) == ["job 1", "read", "refund 60"]
    assert returns(rig) == {"c1": "data", "c2": "refunded 60", "c3": {"rows": 3}}
    assert rig.paid == [1, 2]


async def test_without_the_last_answer_it_waits_again(rig: Rig) -> None:
    """A run that begins too early asks for what is missing, and only for that."""
    shop(rig)
    rig.script(THREE, [TextPart("done")])
    first = {a.call_id: a for a in await asked(rig)}
    answer(rig, first["c3"], "provide", result=1)
    assert [a.call_id for a in await asked(rig)] == ["c2"]
    assert sorted(rig.effects) == ["job 1", "read"]


async def test_the_model_is_told_of_a_denial(rig: Rig) -> None:
    """A denied call does not run; its reason reaches the model."""
    shop(rig)
    rig.script([call("refund", "c2", amount=90), call("job", "c3", x=2)], [TextPart("done")])
    for ask in await asked(rig):
        answer(rig, ask, "deny", reason="over budget")
    await rig.run()
    assert rig.effects == ["job 2"]
    assert set(returns(rig)) == {"c2", "c3"}
    assert all("over budget" in str(text) for text in returns(rig).values())


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_behind_the_answers_repeats_nothing(rig: Rig, when: str) -> None:
    """Wherever the worker dies after the answers came, the approved call runs once (or is in doubt), never twice."""
    shop(rig)
    rig.script(THREE, [TextPart("done")])
    for ask in await asked(rig):
        answer(rig, ask, *(["approve"] if ask.kind is CallKind.APPROVAL else ["provide"]))
    for step in range(6):
        try:
            await rig.run(crash=(step, when))
        except Crash:
            continue
        break
    await rig.run()
    assert rig.effects.count("refund 90") == 1
    assert rig.effects.count("job 1") == 1


async def test_an_approved_call_may_call_out(rig: Rig) -> None:
    """Approval first, then a result from outside: two questions for one call, one after the other."""

    @tool(approval=True)
    def order(item: str) -> str:
        """Order."""
        rig.effects.append(item)
        raise OutsideResult({"item": item})

    rig.tool(order)
    rig.script([call("order", "c1", item="x")], [TextPart("done")])
    (ask,) = await asked(rig)
    answer(rig, ask, "approve")
    (second,) = await asked(rig)
    assert (second.kind, second.call_id) == (CallKind.RESULT, "c1")
    assert second.key != ask.key
    answer(rig, second, "provide", result="sent")
    assert (await rig.run()).text == "done"
    assert rig.effects == ["x"]
    assert returns(rig) == {"c1": "sent"}


async def test_call_ids_that_come_again_are_other_questions(rig: Rig) -> None:
    """Some providers number calls from the start in each response; an old answer must not count for a new call."""
    shop(rig)
    rig.script([call("refund", "c1", amount=1)], [call("refund", "c1", amount=2)], [TextPart("done")])
    (first,) = await asked(rig)
    answer(rig, first, "approve")
    (second,) = await asked(rig)
    assert second.args == {"amount": 2}
    assert rig.effects == ["refund 1"]
    answer(rig, second, "deny", reason="enough")
    await rig.run()
    assert rig.effects == ["refund 1"]


async def test_a_call_in_doubt_can_wait_for_a_person(rig: Rig) -> None:
    """`in_doubt="wait"`: approve runs it again; if that is in doubt too, the question is asked again."""

    @tool(in_doubt="wait")
    def wire() -> str:
        """Wire."""
        rig.effects.append("wire")
        return "wired"

    rig.tool(wire)
    rig.script([call("wire", "c1")], [TextPart("done")])
    with pytest.raises(Crash):
        await rig.run(crash=(2, "before"))  # model:1, started, result
    (first,) = await asked(rig)
    assert first.kind is CallKind.IN_DOUBT
    answer(rig, first, "approve")
    with pytest.raises(Crash):
        await rig.run(crash=(1, "before"))  # started again, result
    (second,) = await asked(rig)
    assert second.key != first.key
    answer(rig, second, "provide", result="it did arrive")
    await rig.run()
    assert rig.effects == ["wire", "wire"]
    assert returns(rig) == {"c1": "it did arrive"}


async def test_nobody_knows_of_a_doubt(rig: Rig) -> None:
    """If a call in doubt is denied, the model is told that the outcome is unknown."""

    @tool(in_doubt="wait")
    def wire() -> str:
        """Wire."""
        rig.effects.append("wire")
        return "wired"

    rig.tool(wire)
    rig.script([call("wire", "c1")], [TextPart("done")])
    with pytest.raises(Crash):
        await rig.run(crash=(2, "before"))
    (ask,) = await asked(rig)
    answer(rig, ask, "deny")
    await rig.run()
    assert rig.effects == ["wire"]
    assert "Outcome unknown" in str(returns(rig)["c1"])


async def test_tools_of_a_registered_agent_may_call_out_their_own_way(rig: Rig) -> None:
    """pydantic-ai's ApprovalRequired, CallDeferred and requires_approval mean the same."""
    rig.script(
        [call("big", "c1", amount=90), call("far", "c2"), call("plain", "c3")], [TextPart("done")], name="scripted"
    )
    agent: Agent[None, str] = Agent(rig.registry.models["scripted"])

    @agent.tool
    def big(ctx: RunContext[None], amount: int) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"why": "big"})
        rig.effects.append("big")
        return "ok"

    @agent.tool
    def far(ctx: RunContext[None]) -> str:
        rig.effects.append("far")
        raise CallDeferred(metadata={"id": 7})

    @agent.tool_plain(requires_approval=True)
    def plain() -> str:
        rig.effects.append("plain")
        return "ok"

    rig.registry.add_agent("clerk", agent)
    turn = rig.turn(name="clerk", registered=True, model=None, tools=())
    asks = {a.call_id: a for a in await asked(rig, turn=turn)}
    assert {i: (a.kind.value, a.metadata) for i, a in asks.items()} == {
        "c1": ("approval", {"why": "big"}),
        "c2": ("result", {"id": 7}),
        "c3": ("approval", {}),
    }
    assert rig.effects == ["far"]
    answer(rig, asks["c1"], "approve")
    answer(rig, asks["c2"], "provide", result="here")
    answer(rig, asks["c3"], "approve")
    assert (await rig.run(turn)).text == "done"
    assert sorted(rig.effects) == ["big", "far", "plain"]


async def test_a_marked_function_of_a_registered_agent_waits_too(rig: Rig) -> None:
    """`@tool(approval=True)` holds wherever the function is used."""

    @tool(approval=True)
    def refund() -> str:
        """Refund."""
        rig.effects.append("refund")
        return "ok"

    rig.script([call("refund", "c1")], [TextPart("done")])
    rig.registry.add_agent("clerk", Agent(rig.registry.models["scripted"], tools=[refund]))
    turn = rig.turn(name="clerk", registered=True, model=None, tools=())
    (ask,) = await asked(rig, turn=turn)
    assert rig.effects == []
    answer(rig, ask, "approve")
    await rig.run(turn)
    assert rig.effects == ["refund"]


async def test_the_events_of_a_call_that_waited_come_once(rig: Rig) -> None:
    """One tool_call, and one tool_result, however often the run was begun."""
    shop(rig)
    rig.script([call("job", "c3", x=1)], [TextPart("done")])
    (ask,) = await asked(rig)
    answer(rig, ask, "provide", result="r")
    await rig.run()
    kinds = [e.type for e in rig.of(EventType.TOOL_CALL, EventType.TOOL_RESULT)]
    assert kinds == [EventType.TOOL_CALL, EventType.TOOL_RESULT]
    assert json.loads(json.dumps(rig.events[-2].data))["result"] == "r"
