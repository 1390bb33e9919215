"""A stream is the list of a turn's events. Each has an id, the cursor after which a reader resumes."""

from __future__ import annotations

from contextlib import closing

from sessions import EventType
from tests.support.fleet import Fleet


def test_text_arrives_while_the_model_speaks(fleet: Fleet) -> None:
    """The first event says that the turn is running, the last one how it ended; the texts in between are the answer."""
    events = list(fleet.session().Agent().stream("SAY one two three"))
    assert (events[0].type, events[-1].type) == (EventType.STARTED, EventType.ENDED)
    assert "".join(event.text for event in events) == "one two three"


def test_a_reader_that_comes_back_misses_nothing(fleet: Fleet) -> None:
    """It sends the id of the last event that it saw. The stream is kept, so it may come back days later."""
    turn = fleet.session().Agent().submit("SAY one two three\nPACE 0.05", stream=True)
    with closing(turn.events()) as connection:
        seen = [next(connection), next(connection)]  # then the connection breaks
    seen += turn.events(after=seen[-1].id)
    assert seen == list(turn.events())
