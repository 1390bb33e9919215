"""A deploy changes a tool while a turn is open: recorded calls are not checked against the new tool."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from pydantic_ai.messages import TextPart, ToolReturnPart

from sessions import OutsideResult, tool
from sessions.errors import JournalDiverged
from sessions.protocol.call import CallAnswer, WaitingCall
from workers.engine import Registry
from workers.engine.ports import Waiting

from .doubles import Crash, Rig, call


def deployed(rig: Rig, function: Callable[..., Any]) -> None:
    """Another worker, with other code, continues the turn."""
    models = rig.registry.models
    rig.registry = Registry()
    for name, model in models.items():
        rig.registry.add_model(name, model)
    rig.tool(function)


def old_charge(rig: Rig, **marks: Any) -> Callable[..., Any]:
    @tool(name="charge", **marks)
    def charge(amount: int) -> str:
        rig.effects.append(f"charged {amount}")
        return "charged"

    return charge


def new_charge(rig: Rig, **marks: Any) -> Callable[..., Any]:
    @tool(name="charge", **marks)
    def charge(cents: int, currency: str) -> str:
        rig.effects.append(f"charged {cents} {currency}")
        return "charged"

    return charge


def told(rig: Rig) -> list[Any]:
    return [part.content for part in rig.seen[-1][-1].parts if isinstance(part, ToolReturnPart)]


async def waiting(rig: Rig, attempt: int = 1) -> WaitingCall:
    with pytest.raises(Waiting) as stopped:
        await rig.run(rig.turn(attempt=attempt))
    (ask,) = stopped.value.calls
    return ask


def answered(rig: Rig, ask: WaitingCall, action: Any, **more: Any) -> None:
    rig.store[f"answer:{ask.key}"] = CallAnswer(action=action, **more).model_dump_json().encode()


@pytest.mark.parametrize("marks", [{}, {"approval": True}, {"retry": "safe"}], ids=["args", "approval", "safe"])
async def test_a_finished_call_is_returned_whatever_became_of_its_tool(rig: Rig, marks: Any) -> None:
    """Its arguments were those of the old tool, and it needed no approval then."""
    rig.tool(old_charge(rig))
    rig.script([call("charge", "c1", amount=5)], [TextPart("Done.")])
    with pytest.raises(Crash):
        await rig.run(crash=(2, "after"))  # the call is recorded
    assert [key for key in rig.store if key.startswith("tool")]
    rig.store.pop("model:2", None)
    deployed(rig, new_charge(rig, **marks))
    assert (await rig.run(rig.turn(attempt=2))).text == "Done."
    assert rig.effects == ["charged 5"]
    assert told(rig) == ["charged"]


@pytest.mark.parametrize("marks", [{}, {"approval": True}], ids=["args", "approval"])
async def test_a_call_in_doubt_is_reported_as_such(rig: Rig, marks: Any) -> None:
    """Told that its arguments are wrong, the model would call again."""
    rig.tool(old_charge(rig))
    rig.script([call("charge", "c1", amount=5)], [TextPart("Done.")])
    with pytest.raises(Crash):
        await rig.run(crash=(2, "before"))
    deployed(rig, new_charge(rig, **marks))
    await rig.run(rig.turn(attempt=2))
    assert rig.effects == ["charged 5"]
    assert "Outcome unknown" in told(rig)[0]


async def test_a_result_from_outside_reaches_a_call_of_the_old_tool(rig: Rig) -> None:
    """The call waited while the tool was changed."""

    @tool(name="charge")
    def ordered(amount: int) -> str:
        rig.effects.append(f"ordered {amount}")
        raise OutsideResult({"order": amount})

    rig.tool(ordered)
    rig.script([call("charge", "c1", amount=5)], [TextPart("Done.")])
    ask = await waiting(rig)
    answered(rig, ask, "provide", result="paid")
    deployed(rig, new_charge(rig))
    await rig.run(rig.turn(attempt=2))
    assert told(rig) == ["paid"]
    assert rig.effects == ["ordered 5"]


async def test_a_denied_call_does_not_run_because_its_tool_needs_no_approval_any_more(rig: Rig) -> None:
    """A person decided about the call before the tool changed."""
    rig.tool(old_charge(rig, approval=True))
    rig.script([call("charge", "c1", amount=5)], [TextPart("Done.")])
    answered(rig, await waiting(rig), "deny", reason="too much")
    deployed(rig, old_charge(rig))
    await rig.run(rig.turn(attempt=2))
    assert rig.effects == []
    assert told(rig) == ["The tool call was denied. too much"]


async def test_an_approved_call_runs_as_approved(rig: Rig) -> None:
    """It runs with the arguments that were approved."""
    rig.tool(old_charge(rig, approval=True))
    rig.script([call("charge", "c1", amount=5)], [TextPart("Done.")])
    answered(rig, await waiting(rig), "approve", args={"amount": 3})
    deployed(rig, old_charge(rig))
    await rig.run(rig.turn(attempt=2))
    assert rig.effects == ["charged 3"]


async def test_a_call_that_the_old_tool_refused_is_not_run_by_the_new_one(rig: Rig) -> None:
    """The model knows of the refusal and has continued: an effect now would be unknown to it."""
    rig.tool(new_charge(rig))
    rig.script([call("charge", "c1", amount=5)], [TextPart("Sorry.")])
    await rig.run()
    assert "model:2" in rig.store
    deployed(rig, old_charge(rig))
    with pytest.raises(JournalDiverged):
        await rig.run(rig.turn(attempt=2))
    assert rig.effects == []


async def test_a_call_in_doubt_that_a_person_has_repeated_gets_checked_arguments(rig: Rig) -> None:
    """The arguments are validated as in the first run: a date is a date."""

    @tool(in_doubt="wait")
    def book(day: date) -> str:
        rig.effects.append(day.isoformat())
        return "booked"

    rig.tool(book)
    rig.script([call("book", "c1", day="2025-01-02")], [TextPart("Done.")])
    with pytest.raises(Crash):
        await rig.run(crash=(2, "before"))
    answered(rig, await waiting(rig, attempt=2), "approve")
    await rig.run(rig.turn(attempt=3))
    assert rig.effects == ["2025-01-02", "2025-01-02"]
