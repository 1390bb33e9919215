"""What becomes of a call before it runs: by the tool's mark, by its policy, or by an approval for the whole session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai.messages import TextPart

from sessions import ToolContext, tool
from sessions.errors import InvalidTool
from sessions.protocol.call import CallKind, WaitingCall
from workers.engine.approval_policy import REFUSED

from .doubles import Crash, Rig, call
from .test_waiting import answer, asked, returns


def refunds(rig: Rig, approval: Any, **marks: Any) -> None:
    """A tool with this mark, and a model that calls it with 50 and 500."""

    @tool(approval=approval, **marks)
    async def refund(amount: int) -> str:
        """Refund."""
        rig.effects.append(f"refund {amount}")
        return f"refunded {amount}"

    rig.tool(refund)
    rig.script([call("refund", "c1", amount=50), call("refund", "c2", amount=500)], [TextPart("done")])


async def waits(rig: Rig) -> dict[str, WaitingCall]:
    """The calls that somebody is asked about, by id, as `wait_turn` records them."""
    found = {ask.call_id: ask for ask in await asked(rig)}
    for ask in found.values():
        rig.store[f"ask:{ask.key}"] = ask.model_dump_json().encode()
    return found


def large(context: ToolContext, args: dict[str, Any]) -> bool:
    assert context.tool == "refund"
    return bool(args["amount"] > 100)


async def large_too(context: ToolContext, args: dict[str, Any]) -> str:
    return "ask" if large(context, args) else "automatic"


@pytest.mark.parametrize("policy", [large, large_too])
@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_function_decides_about_each_call(rig: Rig, policy: Callable[..., Any], decision: str) -> None:
    """By its arguments; a call that needs no approval runs meanwhile, and is not repeated after the answer."""
    refunds(rig, policy)
    asks = await waits(rig)
    assert (list(asks), asks["c2"].kind, rig.effects) == (["c2"], CallKind.APPROVAL, ["refund 50"])
    answer(rig, asks["c2"], decision)
    await rig.run()
    assert rig.effects == ["refund 50", "refund 500"][: 2 if decision == "approve" else 1]


async def test_a_policy_is_asked_once_about_a_call_that_waits(rig: Rig) -> None:
    """A person has been asked: the answer counts, even if the policy would now let the call run."""
    decisions = ["ask", "automatic"]
    refunds(rig, lambda context, args: decisions[0] if args["amount"] > 100 else "automatic")
    asks = await waits(rig)
    decisions.reverse()
    answer(rig, asks["c2"], "deny")
    await rig.run()
    assert rig.effects == ["refund 50"]


@pytest.mark.parametrize("policy", ["never", lambda context, args: "never"])
async def test_a_call_that_is_not_allowed_is_refused(rig: Rig, policy: Any) -> None:
    """The model is told, and goes on; what it was told is recorded, so a replay tells it the same."""
    refunds(rig, policy)
    await rig.run()
    assert returns(rig) == {"c1": REFUSED, "c2": REFUSED}
    assert rig.outcomes() == ["failed", "failed"]
    await rig.run()
    assert rig.outcomes() == ["failed", "failed"]
    assert rig.effects == []


@pytest.mark.parametrize("answers", ["no such decision", None])
async def test_a_policy_that_fails_leaves_it_to_a_person(rig: Rig, answers: object) -> None:
    """It raises, or returns what is no decision."""

    def broken(context: ToolContext, args: dict[str, Any]) -> Any:
        if answers is None:
            raise RuntimeError("the service is down")
        return answers

    refunds(rig, broken)
    assert list(await waits(rig)) == ["c1", "c2"]
    assert rig.effects == []


@pytest.mark.parametrize("policy", [True, "ask", lambda context, args: True])
async def test_a_tool_that_is_approved_for_the_session_asks_nobody(rig: Rig, policy: Any) -> None:
    """From the next call on: a call that somebody was asked about waits for its own answer."""
    refunds(rig, policy)
    asks = await waits(rig)
    rig.always.add("refund")
    assert list(await waits(rig)) == ["c1", "c2"]
    for ask in asks.values():
        answer(rig, ask, "deny")
    await rig.run()
    assert rig.effects == []
    rig.store.clear()
    await rig.run()
    assert rig.effects == ["refund 50", "refund 500"]


@pytest.mark.parametrize(("crash", "begun"), [((0, "after"), False), ((4, "before"), True)])
async def test_a_revoked_approval_is_for_calls_that_have_not_begun(
    rig: Rig, crash: tuple[int, str], begun: bool
) -> None:
    """The worker died at this write, and the approval was revoked before the next one took the turn."""
    refunds(rig, True)
    rig.always.add("refund")
    with pytest.raises(Crash):
        await rig.run(crash=crash)
    ran = list(rig.effects)
    rig.always.clear()
    if begun:
        assert (await rig.run()).text == "done"
    else:
        assert list(await waits(rig)) == ["c1", "c2"]
    assert rig.effects == ran


def test_only_decisions_and_functions_are_taken() -> None:
    """A typing error must not let calls run."""
    with pytest.raises(InvalidTool, match='"automatic", "ask", "never"'):
        tool(approval="sometimes")  # type: ignore[call-overload]
