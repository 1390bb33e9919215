"""P4: what is finished is neither paid for again nor done again, wherever the worker is lost."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic_ai.messages import TextPart

from sessions.errors import JournalDiverged, ToolInDoubt
from sessions.protocol.event import EventType
from sessions.tools.decorator import ToolContext, tool

from .doubles import Crash, Rig, call, until

WRITES = 6  # two responses with tools, `started` and result of charge, result of lookup, the answer


def shop(rig: Rig) -> None:
    @tool(retry="safe")
    async def lookup(q: str) -> str:
        rig.effects.append(f"lookup {q}")
        return f"{q}=1"

    @tool
    async def charge(amount: int) -> str:
        rig.effects.append(f"charge {amount}")
        return "charged"

    rig.tool(lookup)
    rig.tool(charge)
    rig.script([call("lookup", "c1", q="alpha")], [call("charge", "c2", amount=7)], [TextPart("All done.")])


@pytest.mark.parametrize("stream", [False, True])
async def test_an_undisturbed_turn_writes_each_step_once(rig: Rig, stream: bool) -> None:
    """A response, a result, and for a tool that must not run twice also that it was started."""
    shop(rig)
    output = await rig.run(rig.turn(stream=stream))
    assert output.text.strip() == "All done."
    assert rig.journal.writes == ["model:1", "tool:1:c1:0", "model:2", "tool:2:c2:0", "tool:2:c2:0", "model:3"]
    assert rig.journal.final == ["model:3"]
    assert (output.usage.requests, output.usage.tool_calls) == (3, 2)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(WRITES))
async def test_a_crash_at_any_write_repeats_no_finished_step(rig: Rig, number: int, when: str, stream: bool) -> None:
    """Only a step whose record was lost with the worker may be repeated; a charge never is."""
    shop(rig)
    with pytest.raises(Crash):
        await rig.run(rig.turn(stream=stream), crash=(number, when))
    kept = set(rig.store)
    paid, effects = list(rig.paid), list(rig.effects)
    output = await rig.run(rig.turn(stream=stream, attempt=2))
    assert output.text.strip() == "All done."
    assert rig.effects.count("charge 7") <= 1
    again = rig.paid[len(paid) :]
    assert again == [step for step in (1, 2, 3) if f"model:{step}" not in kept]
    if "tool:1:c1:0" in kept:
        assert rig.effects[len(effects) :].count("lookup alpha") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_resumed_turn_gives_the_same_output(rig: Rig, stream: bool) -> None:
    """Messages, usage and text do not depend on how often the worker was lost."""
    shop(rig)
    whole = await rig.run(rig.turn(stream=stream))
    replayed = await rig.run(rig.turn(stream=stream, attempt=2))
    assert (replayed.text, replayed.usage, replayed.message_count) == (whole.text, whole.usage, whole.message_count)
    assert [m["kind"] for m in json.loads(replayed.messages)] == [m["kind"] for m in json.loads(whole.messages)]
    assert len(rig.paid) == 3


def in_doubt(rig: Rig, **marks: str) -> None:
    @tool(name="charge", **marks)  # type: ignore[call-overload,untyped-decorator]
    async def charge(amount: int) -> str:
        rig.effects.append(f"charge {amount}")
        if len(rig.effects) == 1:
            raise Crash
        return "charged"

    rig.tool(charge)
    rig.script([call("charge", "c1", amount=7)], [TextPart("Done.")])


async def test_a_call_in_doubt_is_reported_as_unknown_and_not_repeated(rig: Rig) -> None:
    """The default: the model is told that the outcome is unknown."""
    in_doubt(rig)
    with pytest.raises(Crash):
        await rig.run()
    output = await rig.run(rig.turn(attempt=2))
    assert rig.effects == ["charge 7"]
    assert rig.outcomes() == ["unknown"]
    assert output.text == "Done."
    told = str(rig.seen[-1][-1].parts[0])
    assert "Outcome unknown" in told
    assert "not repeated" in told
    await rig.run(rig.turn(attempt=3))
    assert rig.outcomes() == ["unknown"]


async def test_a_call_in_doubt_is_repeated_when_its_tool_is_safe(rig: Rig) -> None:
    """retry="safe" says that repeating it does no harm."""
    in_doubt(rig, retry="safe")
    with pytest.raises(Crash):
        await rig.run()
    await rig.run(rig.turn(attempt=2))
    assert rig.effects == ["charge 7", "charge 7"]
    assert rig.outcomes() == ["ok"]


async def test_a_call_in_doubt_ends_the_turn_when_its_tool_says_fail(rig: Rig) -> None:
    """in_doubt="fail": a person decides before anything continues."""
    in_doubt(rig, in_doubt="fail")
    with pytest.raises(Crash):
        await rig.run()
    with pytest.raises(ToolInDoubt, match="'charge'"):
        await rig.run(rig.turn(attempt=2))
    assert rig.effects == ["charge 7"]


async def test_a_replay_with_another_history_diverges_before_anything_runs(rig: Rig) -> None:
    """R6: a replay must see what the first attempt saw."""
    shop(rig)
    with pytest.raises(Crash):
        await rig.run(crash=(1, "after"))
    before = (list(rig.paid), list(rig.effects))
    other = b'[{"kind":"request","parts":[{"part_kind":"user-prompt","content":"before"}]}]'
    with pytest.raises(JournalDiverged, match="Nothing was run again"):
        await rig.run(rig.turn(attempt=2, history=(other,)))
    assert (rig.paid, rig.effects) == before


async def test_a_tool_result_that_changed_is_noticed_at_the_next_request(rig: Rig) -> None:
    """The fingerprint covers the results of tools."""
    shop(rig)
    await rig.run()
    rig.store["tool:1:c1:0"] = rig.store["tool:1:c1:0"].replace(b"alpha=1", b"alpha=2")
    with pytest.raises(JournalDiverged, match="'model:2'"):
        await rig.run(rig.turn(attempt=2))


async def test_parallel_calls_are_each_recorded(rig: Rig) -> None:
    """Of two tools that run at once, the finished one is not repeated, the other is in doubt."""
    halfway = asyncio.Event()

    @tool
    async def quick() -> str:
        rig.effects.append("quick")
        return "q"

    @tool
    async def slow() -> str:
        rig.effects.append("slow")
        halfway.set()
        await asyncio.Event().wait()
        return "s"

    rig.tool(quick)
    rig.tool(slow)
    rig.script([call("quick", "c1"), call("slow", "c2")], [TextPart("Done.")])
    running = asyncio.create_task(rig.run())
    await halfway.wait()
    await until(lambda: b'"ok"' in rig.store.get("tool:1:c1:0", b""))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await rig.run(rig.turn(attempt=2))
    assert rig.effects == ["quick", "slow"]
    assert sorted(rig.outcomes()) == ["ok", "unknown"]


async def test_the_idempotency_key_of_a_call_is_the_same_for_every_attempt(rig: Rig) -> None:
    """A tool hands it to services that deduplicate; the attempt says that a worker was lost."""
    contexts: list[ToolContext] = []

    @tool(retry="safe")
    async def pay(context: ToolContext, amount: int) -> str:
        contexts.append(context)
        if len(contexts) == 1:
            raise Crash
        return "paid"

    rig.tool(pay)
    rig.script([call("pay", "c1", amount=1)], [TextPart("Done.")])
    with pytest.raises(Crash):
        await rig.run()
    await rig.run(rig.turn(attempt=2))
    assert contexts[0].idempotency_key == contexts[1].idempotency_key == f"{rig.turn().turn_id}:c1"
    assert [context.attempt for context in contexts] == [1, 2]


async def test_events_of_replayed_steps_are_not_sent_again(rig: Rig) -> None:
    """P5: a step's events go with its record, once."""
    shop(rig)
    with pytest.raises(Crash):
        await rig.run(crash=(4, "after"))
    await rig.run(rig.turn(attempt=2))
    assert [event.type for event in rig.events] == [
        EventType.TOOL_CALL,
        EventType.TOOL_RESULT,
        EventType.TOOL_CALL,
        EventType.TOOL_RESULT,
        EventType.TEXT,
    ]


async def test_a_used_call_id_in_a_later_request_is_another_call(rig: Rig) -> None:
    """Some servers restart the numbering of their calls in each response."""

    @tool
    async def count() -> int:
        rig.effects.append("count")
        return len(rig.effects)

    rig.tool(count)
    rig.script([call("count", "call_0")], [call("count", "call_0")], [TextPart("Done.")])
    await rig.run()
    assert rig.effects == ["count", "count"]
