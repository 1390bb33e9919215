"""A turn's events as they are told to readers that cannot take anything back."""

from __future__ import annotations

from typing import Any

import pytest

from sessions.gateway.narration import Asked, Called, Ended, Narrator, Returned, Said, Settled, Told, Withdrawn
from sessions.protocol.call import SENDER
from sessions.protocol.event import Event, EventType


def told(*events: tuple[str, EventType, dict[str, Any]]) -> list[Told]:
    narrator = Narrator()
    return [item for event in events for item in narrator.tell(Event(*event))]


def says(at: str, text: str) -> tuple[str, EventType, dict[str, Any]]:
    return at, EventType.TEXT_DELTA, {"text": text}


def reset(at: str, valid: str | None) -> tuple[str, EventType, dict[str, Any]]:
    return at, EventType.ATTEMPT_RESET, {"attempt": 2, "worker": "w", "valid_through": valid}


def ended(at: str, status: str = "succeeded") -> tuple[str, EventType, dict[str, Any]]:
    return at, EventType.ENDED, {"status": status}


STARTED = ("1-1", EventType.STARTED, {})


def test_text_is_told_as_it_comes() -> None:
    """Thoughts are complete when text comes; the text when the turn ends."""
    thinks = ("1-2", EventType.THINKING_DELTA, {"text": "hm"})
    assert told(STARTED, thinks, says("1-3", "one "), says("1-4", "two"), ended("1-5")) == [
        Said("hm", thought=True), Settled(thought=True), Said("one "), Said("two"), Settled(), Ended("succeeded"),
    ]  # fmt: skip


@pytest.mark.parametrize("pieces", [["one two three"], ["one ", "two ", "three"], ["one t", "wo three"]])
def test_a_text_that_is_said_again_is_told_once(pieces: list[str]) -> None:
    """However it is cut: the lost worker said "one two"."""
    again = [says(f"2-{number}", text) for number, text in enumerate(pieces, 2)]
    found = told(STARTED, says("1-2", "one "), says("1-3", "two"), reset("2-1", "1-1"), *again, ended("2-9"))
    assert "".join(item.text for item in found if isinstance(item, Said)) == "one two three"
    assert not any(isinstance(item, Withdrawn) for item in found)


@pytest.mark.parametrize(
    ("again", "then"),
    [
        (["one", " three"], [Withdrawn(), Said("one three"), Settled()]),
        (["two"], [Withdrawn(), Said("two"), Settled()]),
        (["one"], [Withdrawn(), Said("one"), Settled()]),
        ([], [Withdrawn(), Settled()]),
    ],
)
def test_a_text_that_is_said_differently_takes_the_place_of_the_first(again: list[str], then: list[Told]) -> None:
    """Also one that ends earlier, which is known only at its end."""
    pieces = [says(f"2-{number}", text) for number, text in enumerate(again, 2)]
    found = told(STARTED, says("1-2", "one two"), reset("2-1", None), *pieces, ended("2-9"))
    if not again:
        then = [Withdrawn()]
    assert found == [Said("one two"), *then, Ended("succeeded")]


def test_what_was_recorded_stays() -> None:
    """A text before a tool's call is complete with it; a reset after it takes nothing back."""
    call = {"call_id": "c1", "tool": "note", "args": {}}
    result = {"call_id": "c1", "tool": "note", "result": "noted", "outcome": "ok"}
    assert told(
        says("1-2", "Wait."), ("1-3", EventType.TOOL_CALL, call), ("1-4", EventType.TOOL_RESULT, result),
        says("1-5", "Do"), reset("2-1", "1-4"), says("2-2", "Done."), ended("2-3"),
    ) == [
        Said("Wait."), Settled(), Called("c1", "note", {}), Returned("c1", "note", "noted", "ok"),
        Said("Do"), Said("ne."), Settled(), Ended("succeeded"),
    ]  # fmt: skip


def test_calls_of_the_senders_tools_are_told_apart() -> None:
    """The others wait for people, or for what the agent's tools wait for."""
    own = {"call_id": "c1", "tool": "weather", "args": {}, "kind": "result", "waits_for": SENDER}
    other = {"call_id": "c2", "tool": "refund", "args": {}, "kind": "approval", "waits_for": None}
    assert told(("1-2", EventType.WAITING, {"calls": [own, other]})) == [
        Asked((Called("c1", "weather", {}, "result"),), (Called("c2", "refund", {}, "approval"),))
    ]
