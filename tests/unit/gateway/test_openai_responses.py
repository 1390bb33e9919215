"""The events of a response, where a worker was lost: they follow from the turn's events alone."""

from __future__ import annotations

from typing import Any

from sessions.gateway.narration import Ended, Said, Settled, Told, Withdrawn
from sessions.gateway.openai.ids import CallRef, ResponseRef
from sessions.gateway.openai.responses.stream import ResponseMaker
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.turns import TurnRecord

REF = ResponseRef("chat/1 ü", "0" * 32, 1)


def record(status: TurnStatus) -> TurnRecord:
    return TurnRecord("0" * 32, status, 1, 0, 0, 1000, 9000, 1000, 2000, "w", False, None, None, None)


def made(*told: Told) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    maker = ResponseMaker(REF, record(TurnStatus.RUNNING), TurnRequest(message="hi"))
    events = [*maker.begin(), *(event for item in told for event in maker.feed(item))]
    events += maker.end(record(TurnStatus.SUCCEEDED), None)
    return [*events, maker.last()], maker.response()


def test_a_text_that_was_begun_again_is_another_item() -> None:
    """The first one is incomplete and not part of the response, and clients that show items can tell them apart."""
    events, response = made(Said("one t"), Withdrawn(), Said("one three"), Settled(), Ended("succeeded"))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [(item["status"], item["content"][0]["text"]) for item in done] == [
        ("incomplete", "one t"), ("completed", "one three"),
    ]  # fmt: skip
    assert response["output"] == done[1:]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == response


def test_thoughts_are_reasoning() -> None:
    """In an item of their own, before the message."""
    _, response = made(Said("hm", thought=True), Settled(thought=True), Said("ok"), Settled(), Ended("succeeded"))
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert response["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]


def test_ids_are_read_as_they_were_written() -> None:
    """Whatever the session is called."""
    assert ResponseRef.read(str(REF)) == REF
    call = CallRef("s", f"s~{'0' * 32}", 3, "call_\0ü")
    assert CallRef.read(str(call)) == call
    assert CallRef.read("call_abc") is None
    assert CallRef.read(call.written("mcpr_")) is None
