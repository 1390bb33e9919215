"""State is what a session stores in addition to its conversation: small JSON values, changed atomically."""

from __future__ import annotations

import pytest

from sessions.errors import StateConflict
from tests.support.fleet import Fleet


def test_callers_and_tools_share_the_state(fleet: Fleet) -> None:
    """A tool's changes take effect when its turn succeeds, together with the answer, in one step."""
    session = fleet.session()
    session.set_state("visits", 1)
    session.Agent(tools=["tally"]).chat('CALL tally({"key": "visits"})')
    assert session.increment_state("visits") == 3
    assert session.get_state() == {"visits": 3}


def test_who_changes_what_somebody_else_changed_is_told(fleet: Fleet) -> None:
    """Compare and set: the value is replaced only if it is still the one that was read."""
    session = fleet.session()
    session.set_state("seat", "free")
    session.compare_and_set_state("seat", "free", "alice")
    with pytest.raises(StateConflict):
        session.compare_and_set_state("seat", "free", "bob")
    assert session.get_state("seat") == "alice"
