"""A worker dies while a tool runs: what becomes of the call is what the tool said at its definition.

One worker is killed with all these calls running; each test looks at one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sessions import Turn, TurnStatus, errors
from sessions.protocol.event import EventType
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server, running

CALLS = {
    "charge": '{"amount": 5, "seconds": 60}',
    "wire": '{"amount": 5, "seconds": 60}',
    "linger": '{"seconds": 60}',
}


@dataclass(frozen=True)
class Killed:
    """The turns of a killed worker, by the tool that each was in, and the fleet that has another worker."""

    fleet: Fleet
    turns: dict[str, Turn]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """kill -9 of a worker in the middle of three tools."""
    folder, lease = tmp_path_factory.mktemp("killed"), {"SESSIONFLEET_LEASE": "1"}
    with running(Server(folder / "server")) as server, running_fleet(folder, server, lease, ("first",)) as fleet:
        turns = {
            tool: fleet.session(tool).Agent("A", tools=[tool]).submit(f"CALL {tool}({arguments})")
            for tool, arguments in CALLS.items()
        }
        for tool in CALLS:
            fleet.noted(tool)
        fleet.workers[0].kill()
        fleet.start("second")
        yield Killed(fleet, turns)


def test_a_call_in_doubt_is_not_repeated_and_the_model_is_told(killed: Killed) -> None:
    """The default: the effect may have happened, so the model reads that nobody knows, and the turn goes on."""
    turn = killed.turns["charge"]
    assert "Outcome unknown" in turn.result(timeout=40)
    assert len(killed.fleet.ledger("charge")) == 1
    results = [event for event in turn.events() if event.type is EventType.TOOL_RESULT]
    assert [event.data["outcome"] for event in results] == ["unknown"]


def test_a_call_in_doubt_ends_the_turn_where_the_tool_says_so(killed: Killed) -> None:
    """`in_doubt="fail"`: a person has to look; the session's next turn runs."""
    turn = killed.turns["wire"]
    with pytest.raises(errors.ToolInDoubt, match="wire"):
        turn.result(timeout=40)
    assert len(killed.fleet.ledger("wire")) == 1
    assert turn.status is TurnStatus.FAILED
    assert killed.fleet.session("wire").Agent("A").chat("SAY on we go") == "on we go"


def test_a_safe_tool_is_called_again_with_the_same_key(killed: Killed) -> None:
    """`retry="safe"`: the call is repeated, under the same idempotency key, so that its receiver can tell."""
    assert killed.turns["linger"].result(timeout=40) == "ok: lingered"
    calls = killed.fleet.ledger("linger")
    assert [call["attempt"] for call in calls] == [1, 2]
    assert calls[0]["key"] == calls[1]["key"]
