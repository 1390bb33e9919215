"""What end users are told about errors: our own words, and nothing that others said."""

from __future__ import annotations

from typing import Any

import pytest

from sessions import Event, EventType, errors, public_message
from sessions.protocol.public_errors import public_data

INNER = "cannot connect to postgres://shop:hunter2@10.0.0.5"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.ToolError(INNER), "A tool failed in a way that the model cannot correct."),
        (errors.ModelUnavailable(INNER), "The model's provider did not answer, and all retries are used up."),
        (errors.turn_error("OfANewerWorker", INNER), "The turn failed."),
        (errors.StoreUnavailable(INNER), "The store does not answer."),
        (errors.TurnRefused("no refunds on Sundays"), "no refunds on Sundays"),
        (errors.SessionBusy("it has 8 turns waiting"), "it has 8 turns waiting"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_end_users_read_our_words(error: errors.SessionfleetError, said: str) -> None:
    """What a provider, a tool or a server said may hold addresses, paths and passwords."""
    assert public_message(error) == said


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        (
            EventType.ENDED,
            {"status": "failed", "error": {"type": "ToolError", "message": INNER, "detail": {"x": INNER}}},
            {
                "status": "failed",
                "error": {"type": "ToolError", "message": "A tool failed in a way that the model cannot correct."},
            },
        ),
        (EventType.ENDED, {"status": "succeeded"}, {"status": "succeeded"}),
        (EventType.RETRYING, {"pause": 1.5, "why": INNER}, {"pause": 1.5}),
        (EventType.RETRIEVED, {"memories": 0, "chunks": 0, "why": INNER}, {"memories": 0, "chunks": 0}),
        (EventType.TEXT_DELTA, {"text": "why"}, {"text": "why"}),
    ],
)
def test_a_browsers_events_hold_no_others_words(kind: EventType, data: dict[str, Any], shown: dict[str, Any]) -> None:
    """Those of `turn.sse()`, which a page's visitors read; `turn.events()` has all of it."""
    assert public_data(Event("1-1", kind, data)) == shown
