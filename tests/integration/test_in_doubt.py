"""A worker dies while a tool runs: what becomes of the call is what the tool said at its definition."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessions import Turn, TurnStatus, errors
from sessions.protocol import EventType
from tests.support.fleet import Fleet


@pytest.fixture
def killed_in(new_fleet: Callable[..., Fleet]) -> Callable[..., tuple[Fleet, Turn]]:
    """Starts a turn that calls a tool, and kills its worker while the tool runs; another worker is there."""

    def kill(tool: str, arguments: str) -> tuple[Fleet, Turn]:
        fleet = new_fleet(SESSIONFLEET_LEASE="1")
        first = fleet.start("first")
        fleet.ready()
        turn = fleet.session("doubt").Agent("A", tools=[tool]).submit(f"CALL {tool}({arguments})")
        fleet.noted(tool)
        fleet.start("second")
        fleet.ready()
        first.kill()
        return fleet, turn

    return kill


def test_a_call_in_doubt_is_not_repeated_and_the_model_is_told(killed_in: Callable[..., tuple[Fleet, Turn]]) -> None:
    """The default: the effect may have happened, so the model reads that nobody knows, and the turn goes on."""
    fleet, turn = killed_in("charge", '{"amount": 5, "seconds": 60}')
    assert "Outcome unknown" in turn.result(timeout=40)
    assert len(fleet.ledger("charge")) == 1
    results = [event for event in turn.events() if event.type is EventType.TOOL_RESULT]
    assert [event.data["outcome"] for event in results] == ["unknown"]


def test_a_call_in_doubt_ends_the_turn_where_the_tool_says_so(killed_in: Callable[..., tuple[Fleet, Turn]]) -> None:
    """`in_doubt="fail"`: a person has to look; the session's next turn runs."""
    fleet, turn = killed_in("wire", '{"amount": 5, "seconds": 60}')
    with pytest.raises(errors.ToolInDoubt, match="wire"):
        turn.result(timeout=40)
    assert len(fleet.ledger("wire")) == 1
    assert turn.status is TurnStatus.FAILED
    assert fleet.session("doubt").Agent("A").chat("SAY on we go") == "on we go"


def test_a_safe_tool_is_called_again_with_the_same_key(killed_in: Callable[..., tuple[Fleet, Turn]]) -> None:
    """`retry="safe"`: the call is repeated, under the same idempotency key, so that its receiver can tell."""
    fleet, turn = killed_in("linger", '{"seconds": 60}')
    assert turn.result(timeout=40) == "ok: lingered"
    calls = fleet.ledger("linger")
    assert [call["attempt"] for call in calls] == [1, 2]
    assert calls[0]["key"] == calls[1]["key"]
