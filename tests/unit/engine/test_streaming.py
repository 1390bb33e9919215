"""Streamed turns: deltas are coalesced, come before the step they belong to, and are never sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pydantic_ai.messages import PartStartEvent, TextPart
from pydantic_ai.models.function import DeltaThinkingPart, FunctionModel

from sessions.protocol.event import EventType
from sessions.tools.decorator import tool
from workers.engine import Engine, EventDraft, LeaseLost
from workers.engine.deltas import DeltaBuffer

from .doubles import Crash, DictJournal, ListSink, Rig, call, cycles, joined, until

WORDS = "one two three four five six seven eight nine ten"


def text_of(events: Sequence[EventDraft]) -> str:
    return "".join(event.data["text"] for event in events if event.type is EventType.TEXT_DELTA)


async def test_the_deltas_join_to_the_answer_and_there_is_no_text_event(rig: Rig) -> None:
    """Joining the texts of all events gives the streamed answer, once."""
    rig.script([TextPart(WORDS)])
    output = await rig.run(rig.turn(stream=True), delta_ms=0)
    assert text_of(rig.events) == output.text
    assert {event.type for event in rig.events} == {EventType.TEXT_DELTA}


async def test_deltas_are_gathered_up_to_a_number_of_characters(rig: Rig) -> None:
    """Fewer, larger events: each costs the store a round trip. Only the first text does not wait for more."""
    rig.script([TextPart(f"{WORDS} {WORDS}")])
    await rig.run(rig.turn(stream=True), delta_ms=5000, delta_chars=20)
    _, *sizes, _ = [len(event.data["text"]) for event in rig.events]
    assert all(20 <= size < 26 for size in sizes)
    assert 3 <= len(sizes) <= 4


class Sent:
    """What a buffer has sent, and a clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self._now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def emit(self, events: Sequence[EventDraft]) -> None:
        self.texts.append(text_of(events))

    async def after(self, milliseconds: float) -> list[str]:
        """What is sent when so much time has passed, and everything that is ready has run."""
        self._now += milliseconds / 1000
        await cycles()
        return self.texts


async def test_text_is_sent_at_once_and_then_no_more_often_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream's first text does not wait for more, nor does a text after a pause of the model."""
    sent = Sent(monkeypatch)

    async def model() -> AsyncIterator[Any]:
        yield PartStartEvent(index=0, part=TextPart("one "))
        assert await sent.after(0) == ["one "]
        yield PartStartEvent(index=1, part=TextPart("two "))
        yield PartStartEvent(index=2, part=TextPart("three "))
        assert await sent.after(29) == ["one "]
        yield PartStartEvent(index=3, part=TextPart("four "))
        assert await sent.after(1.5) == ["one ", "two three four "]
        assert len(await sent.after(100)) == 2
        yield PartStartEvent(index=4, part=TextPart("five "))
        assert (await sent.after(0))[2:] == ["five "]
        yield PartStartEvent(index=5, part=TextPart("six"))
        assert (await sent.after(10))[2:] == ["five "]

    deltas = DeltaBuffer(sent, delta_ms=30, delta_chars=1000)
    await deltas.consume(None, model())  # type: ignore[arg-type]
    await deltas.flush()
    assert sent.texts[3:] == ["six"]
    await deltas.close()


async def test_deltas_do_not_wait_for_a_model_that_pauses(rig: Rig) -> None:
    """Text is sent when its time is up, though nothing follows it yet."""
    more = asyncio.Event()

    async def stream(*_: Any) -> AsyncIterator[str]:
        yield "a first "
        yield "part"
        await more.wait()
        yield ", then the rest"

    rig.registry.add_model("scripted", FunctionModel(stream_function=stream))
    running = asyncio.create_task(rig.run(rig.turn(stream=True), delta_ms=1))
    await until(lambda: text_of(rig.events) == "a first part")
    more.set()
    assert (await running).text == text_of(rig.events)


async def test_deltas_do_not_wait_when_the_store_is_slower_than_the_model() -> None:
    """What came while the last deltas were being written, and nothing after it, is sent as soon as they are."""
    taken: list[str] = []
    written: list[str] = []
    slow = asyncio.Event()

    class Sink:
        async def emit(self, events: Sequence[EventDraft]) -> None:
            taken.append(text_of(events))
            await slow.wait()
            written.append(text_of(events))

    async def model() -> AsyncIterator[Any]:
        yield PartStartEvent(index=0, part=TextPart("a first part"))
        await until(lambda: bool(taken))
        yield PartStartEvent(index=1, part=TextPart(", then the rest"))
        await until(lambda: deltas._timer is None)  # its time is up, and the first is still being written
        slow.set()
        await until(lambda: len(written) == 2)

    deltas = DeltaBuffer(Sink(), delta_ms=1, delta_chars=1000)
    await deltas.consume(None, model())  # type: ignore[arg-type]
    assert written == ["a first part", ", then the rest"]
    await deltas.close()


async def test_deltas_come_before_the_events_of_their_step(rig: Rig) -> None:
    """What the model said before it called a tool stands before the call."""

    @tool
    async def add(a: int) -> int:
        return a

    rig.tool(add)
    rig.script([TextPart("Let me see."), call("add", "c1", a=1)], [TextPart("It is 1.")])
    await rig.run(rig.turn(stream=True))
    assert joined(rig.events) == [
        (EventType.TEXT_DELTA, "Let me see. "),
        (EventType.TOOL_CALL, ""),
        (EventType.TOOL_RESULT, ""),
        (EventType.TEXT_DELTA, "It is 1. "),
    ]


async def test_thinking_is_streamed_apart_from_text(rig: Rig) -> None:
    """The two kinds of delta arrive in the order in which they were sent."""

    async def stream(*_: Any) -> AsyncIterator[Any]:
        yield {0: DeltaThinkingPart(content="hm, ")}
        yield {0: DeltaThinkingPart(content="well")}
        yield "Yes."

    rig.registry.add_model("scripted", FunctionModel(stream_function=stream))
    await rig.run(rig.turn(stream=True))
    assert joined(rig.events) == [
        (EventType.THINKING_DELTA, "hm, well"),
        (EventType.TEXT_DELTA, "Yes."),
    ]


async def test_a_replayed_response_sends_no_deltas_again(rig: Rig) -> None:
    """The deltas are in the stream already and stay valid."""

    @tool(retry="safe")
    async def add(a: int) -> int:
        if not rig.effects:
            rig.effects.append("crash")
            raise Crash
        return a

    rig.tool(add)
    rig.script([TextPart("Let me see."), call("add", "c1", a=1)], [TextPart("It is 1.")])
    with pytest.raises(Crash):
        await rig.run(rig.turn(stream=True))
    sent = len(rig.events)
    await rig.run(rig.turn(stream=True, attempt=2))
    assert joined(rig.events[sent:]) == [(EventType.TOOL_RESULT, ""), (EventType.TEXT_DELTA, "It is 1. ")]


async def test_a_lost_lease_in_the_sink_ends_the_run_as_it_is(rig: Rig) -> None:
    """The error is not wrapped, and nothing is recorded after it."""
    rig.script([TextPart(WORDS)])

    class Lost(ListSink):
        async def emit(self, events: Sequence[EventDraft]) -> None:
            raise LeaseLost("taken")

    journal = DictJournal(rig.store, rig.events)
    with pytest.raises(LeaseLost, match="taken"):
        await Engine(rig.registry).run(rig.turn(stream=True), journal, Lost([]), rig.state)
    assert rig.store == {}


async def test_a_lost_lease_found_by_the_timer_is_not_forgotten(rig: Rig) -> None:
    """The write that failed ran next to the run; the run still ends with its error."""
    more, failed = asyncio.Event(), asyncio.Event()

    async def stream(*_: Any) -> AsyncIterator[str]:
        yield "a"
        await more.wait()
        yield "b"

    class Lost(ListSink):
        async def emit(self, events: Sequence[EventDraft]) -> None:
            failed.set()
            raise LeaseLost("taken")

    rig.registry.add_model("scripted", FunctionModel(stream_function=stream))
    engine = Engine(rig.registry, delta_ms=1)
    journal = DictJournal(rig.store, rig.events)
    running = asyncio.create_task(engine.run(rig.turn(stream=True), journal, Lost([]), rig.state))
    await failed.wait()
    await cycles()
    more.set()
    with pytest.raises(LeaseLost):
        await running
    assert rig.store == {}


async def test_a_turn_that_is_not_streamed_asks_for_no_deltas(rig: Rig) -> None:
    """Its text is one event, and the provider is not asked to stream."""
    rig.script([TextPart(WORDS)])
    output = await rig.run()
    assert [(event.type, event.data) for event in rig.events] == [(EventType.TEXT, {"text": output.text})]
