"""The events of AG-UI that follow from what a turn tells."""

from __future__ import annotations

from typing import Any, cast

from ag_ui.core import RunAgentInput

from sessions.api.session import Session
from sessions.gateway.ag_ui.messages import message_of_request
from sessions.gateway.ag_ui.requests import new_in
from sessions.gateway.ag_ui.stream import EventMaker
from sessions.gateway.ag_ui.turns import Run, emptied_thoughts
from sessions.gateway.narration import Answered, Asked, Called, Returned, Said, Settled, Told, Withdrawn
from sessions.protocol.turn import TurnRequest
from tests.support.ag_ui import EVENT, Agent, Order, kinds, user

PART = "0" * 32
BEFORE = message_of_request(PART, TurnRequest(message="What?"))


def told(*items: Told, run: Run | None = None, agent: Agent | None = None) -> tuple[list[dict[str, Any]], Agent]:
    """The events, checked, and a client that got them."""
    maker = EventMaker(run or Run(cast(Session, None), part=PART, earlier=[BEFORE]))
    order, page = Order(), agent or Agent("")
    order.begun = True
    made = [event.model_dump(mode="json", by_alias=True) for item in items for event in maker.feed(item)]
    for event in made:
        EVENT.validate_python(event)
        order.check(event)
        page.apply(event)
    assert not order.open
    return made, page


def test_thoughts_are_reasoning() -> None:
    """In a span of its own, before the text."""
    events, page = told(Said("so", True), Said("...", True), Settled(True), Said("Yes"), Settled())
    assert kinds(events) == [
        "REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_END",
        "REASONING_END", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END",
    ]  # fmt: skip
    assert [each["content"] for each in page.messages] == ["so...", "Yes"]


def test_a_snapshot_takes_a_withdrawn_text_back() -> None:
    """What is said instead has its place; the messages before it stay."""
    for thought in (False, True):
        call = Called("c1", "stamp", {})
        said = Said("one two", thought), Withdrawn(thought), Said("three", thought), Settled(thought)
        events, page = told(call, Returned("c1", "stamp", "done", "ok"), *said)
        assert "MESSAGES_SNAPSHOT" in kinds(events)
        assert [each.get("content") or "" for each in page.messages] == ["What?", "", "done", "three"]


def test_a_thought_that_a_client_has_a_part_of_is_not_there_twice() -> None:
    """A client keeps thoughts that no snapshot has, so the one before a turn is told again empties them."""
    items = Said("because", True), Settled(True), Said("Yes"), Settled()
    _, page = told(Said("bec", True), Settled(True))
    body = {"threadId": "t", "runId": "r", "messages": [user("What?"), *page.messages]}
    emptied = emptied_thoughts(new_in(RunAgentInput.model_validate(body)), PART)
    messages = [each.model_dump(by_alias=True) for each in (BEFORE, *emptied)]
    page.apply({"type": "MESSAGES_SNAPSHOT", "messages": messages})
    told(*items, agent=page)
    assert [each["content"] for each in page.messages] == ["What?", "because", "Yes"]


def test_a_call_has_one_result() -> None:
    """A decision about a call in doubt comes as an answer and as a result; the client has what it provided."""
    doubt = Called("c1", "wire", {}, "in_doubt")
    events, _ = told(
        doubt, Asked((), (doubt,)), Answered("c1", "provide", "sent"), Returned("c1", "wire", "sent", "ok")
    )
    assert [event["content"] for event in events if event["type"] == "TOOL_CALL_RESULT"] == ["sent"]
    own = Called("c2", "weather", {}, "result")
    continued = Run(cast(Session, None), part=PART, first=1, last=1)
    events, _ = told(own, Asked((own,), ()), Answered("c2", "provide", "sun"), run=continued)
    assert "TOOL_CALL_RESULT" not in kinds(events)
    events, _ = told(own, Asked((own,), ()), Answered("c2", "provide"))
    assert [event["content"] for event in events if event["type"] == "TOOL_CALL_RESULT"] == [""]
