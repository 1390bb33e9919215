"""However a turn ends, the next one's model knows what its tools did: nothing is charged a second time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from sessions import Session, Turn, TurnStatus
from sessions.errors import TurnFailed
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

CHARGE = 'CALL charge({"amount": 7})'
TOOLS = ["charge", "divide", "refund", "linger", "crash"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers with a short lease that give up on a model quickly."""
    folder = tmp_path_factory.mktemp("pair")
    env = {"SESSIONFLEET_LEASE": "2", "SESSIONFLEET_MODEL_RETRIES": "1", "SESSIONFLEET_MODEL_BACKOFF": "0.1"}
    env["SESSIONFLEET_MAX_ATTEMPTS"] = "2"
    with running(Server(folder / "server")) as server, running_fleet(folder, server, env, ("one", "two")) as fleet:
        yield fleet


def _cancel_when_waiting(turn: Turn) -> None:
    wait_until(turn.approvals, description="it waits for a person", timeout=40)
    turn.cancel()


def _cancel_when_it_lingers(turn: Turn) -> None:
    wait_until(lambda: any(e.data.get("tool") == "linger" for e in turn.events()), description="it lingers", timeout=40)
    turn.cancel()


def _nothing(_: Turn) -> None:
    pass


@pytest.mark.parametrize(
    ("then", "meanwhile", "options", "incomplete"),
    [
        pytest.param("FAIL_AFTER 1 503 99", _nothing, {}, "failed", id="the-provider-fails"),
        pytest.param('CALL divide({"number": 1, "by": 0})', _nothing, {}, "failed", id="another-tool-raises"),
        pytest.param("HANG 1 60", _nothing, {"timeout": 3.0}, "failed", id="the-deadline-passes"),
        pytest.param('CALL refund({"amount": 1})', _nothing, {"approval_timeout": 1.0}, "failed", id="nobody-answers"),
        pytest.param('CALL refund({"amount": 1})', _cancel_when_waiting, {}, "cancelled", id="cancelled-while-waiting"),
    ],
)
def test_what_a_turn_did_before_it_ended_is_known_to_the_next(
    pair: Fleet, then: str, meanwhile: Callable[[Turn], None], options: dict[str, float], incomplete: str
) -> None:
    """The charge and its question stand in the history, marked, once."""
    session = pair.session(uuid.uuid4().hex)
    turn = session.Agent("A", tools=TOOLS).submit(f"{CHARGE}\n{then}", **options)
    meanwhile(turn)
    with pytest.raises(TurnFailed):
        turn.result(timeout=60)
    _expect_kept(session, turn, incomplete)


def test_a_dead_letter_is_written_down_by_a_worker_that_lives(new_fleet: Callable[..., Fleet]) -> None:
    """Each attempt kills its worker; the charge before it was made once, and the conversation knows."""
    fleet = new_fleet(SESSIONFLEET_LEASE="2", SESSIONFLEET_MAX_ATTEMPTS="1")
    fleet.start("one")
    fleet.start("two")
    fleet.ready()
    session = fleet.session()
    turn = session.Agent("A", tools=TOOLS).submit(f"{CHARGE}\nCALL crash({{}})")
    with pytest.raises(TurnFailed):
        turn.result(timeout=60)
    assert turn.status is TurnStatus.DEAD_LETTERED
    assert len(fleet.ledger("charge")) == 1
    _expect_kept(session, turn, "dead_lettered")


def _expect_kept(session: Session, turn: Turn, incomplete: str) -> None:
    said = [message for message in session.history() if message.turn_id == turn.id]
    assert said[0].role == "user"
    assert [m.text for m in said if m.tool == "charge" and m.role == "tool"] == ["charged 7"]
    assert {message.incomplete for message in said} == {incomplete}
    record = turn.record()
    assert record.usage is not None
    assert record.usage.requests >= 1
    assert session.Agent("A").chat("SAY on we go", timeout=40) == "on we go"
