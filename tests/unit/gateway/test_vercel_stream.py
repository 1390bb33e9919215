"""The parts of an answer whose worker was lost, or whose model thinks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from sessions.gateway.narration import Said, Settled, Told, Withdrawn
from sessions.gateway.vercel.stream import PartMaker, _void
from sessions.gateway.vercel.turns import Answer
from tests.support.ui_messages import kinds, text_of, valid


def parts(*items: Told) -> list[dict[str, object]]:
    maker = PartMaker(frozenset(), 0)
    return [valid(part) for item in items for part in maker.feed(item, 0)]


def test_a_text_that_changed_is_marked() -> None:
    """It cannot be taken back: its end says that it is void, and the new one is a part of its own."""
    made = parts(Said("one t"), Withdrawn(), Said("two"), Settled())
    assert kinds(made)[1:] == ["text-start", "text-delta", "text-end", "text-start", "text-delta", "text-end"]
    void, said = [part for part in made if part["type"] == "text-end"]
    assert void["providerMetadata"] == {"sessionfleet": {"withdrawn": True}}
    assert "providerMetadata" not in said
    assert void["id"] != said["id"]


def test_thoughts_are_reasoning() -> None:
    """A part of their own, in the same step as the text."""
    made = parts(Said("Hmm", thought=True), Settled(thought=True), Said("Yes"), Settled())
    assert kinds(made) == [
        "start-step",
        *("reasoning-start", "reasoning-delta", "reasoning-end"),
        *("text-start", "text-delta", "text-end"),
    ]
    assert text_of(made) == "Yes"


async def test_what_was_withdrawn_before_a_page_came_is_not_sent() -> None:
    """Such a page never sees it; what is said in its place, and thoughts beside it, stay."""

    class _Answer:
        async def told_so_far(self) -> AsyncIterator[tuple[int, Told]]:
            for item in (Said("Hmm", thought=True), Said("one t"), Withdrawn(), Said("two"), Settled(), Said("more")):
                yield 0, item

    assert await _void(cast(Answer, _Answer())) == {1, 2}
