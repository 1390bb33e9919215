"""What a turn is run with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sessions.protocol.turn import TurnRequest
from sessions.protocol.turn_limits import TurnLimits
from workers.lease.held_turn import HeldTurn
from workers.turns.turn_input import input_of


@pytest.mark.parametrize(("titles", "settings"), [(True, {"cache": False}), (False, {"temperature": 0.5})])
def test_what_is_asked_once_is_not_written_to_a_cache(titles: bool, settings: dict[str, Any]) -> None:
    """A title's request begins no other one; a message has the settings that its caller gave."""
    turn = SimpleNamespace(agent=b"", user_id=None, attempt=1, history=[], first_started_ms=0, summary="")
    held = cast(HeldTurn, SimpleNamespace(turn=turn, turn_id="s~1", keys=SimpleNamespace(session_id="s")))
    request = TurnRequest(message="hello", agent="A", titles=titles, model_settings={"temperature": 0.5})
    assert input_of(held, request, "offline", TurnLimits()).model_settings == settings
