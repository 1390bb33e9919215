"""A worker that is told to stop: what can end soon ends there, the rest continues elsewhere, and nothing is a crash.

One worker is stopped with all kinds of turns in flight; each test looks at one of them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessions import Turn, TurnStatus
from sessions.protocol.event import EventType
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

MESSAGES = {
    "short": "SLEEP 1.5\nSAY drained",
    "model": 'CALL charge({"amount": 1})\nHANG 1 60',
    "tool": 'CALL look_up({"query": "tool", "seconds": 6})',
    "long tool": 'CALL linger({"seconds": 60})',
    "stuck tool": 'CALL charge({"amount": 2, "seconds": 15})',
}
"""What each turn does. Grace: 3 s, then for tools another 5 s, and the stuck one is a thread that cannot be stopped."""


@dataclass(frozen=True)
class Stopped:
    """What is left when the first worker is gone."""

    fleet: Fleet
    turns: dict[str, Turn]
    waiting: Turn
    seconds: float


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    """A worker stopped by SIGTERM in the middle of all these turns, and another that takes over."""
    with running(Server(tmp_path_factory.mktemp("server"))) as server:
        env = {"SESSIONFLEET_SHUTDOWN_GRACE": "3", "SESSIONFLEET_TOOL_GRACE": "5"}
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), server, env)
        try:
            yield _stop_in_the_middle(fleet)
        finally:
            fleet.close()


def _stop_in_the_middle(fleet: Fleet) -> Stopped:
    first = fleet.start("first")
    fleet.ready()
    tools = ["charge", "look_up", "linger"]
    turns: dict[str, Turn] = {}

    def submit(kind: str) -> None:
        turns[kind] = fleet.session(kind.replace(" ", "-")).Agent("A", tools=tools).submit(MESSAGES[kind])

    for kind in ("model", "long tool", "stuck tool"):
        submit(kind)
    fleet.noted("linger")
    fleet.noted("hung")
    fleet.noted("charge", 2)
    # These must be in their middle when the signal comes, so they begin when all others are where they should be.
    submit("tool")
    fleet.noted("look_up")
    submit("short")
    waiting = fleet.session("short").Agent("A").submit("SAY behind it")
    fleet.noted("model_started", prompt=MESSAGES["short"])
    began = time.monotonic()
    first.signal(15)
    fleet.start("second")
    first.terminate(timeout=40)
    seconds = time.monotonic() - began
    fleet.ready()
    return Stopped(fleet, turns, waiting, seconds)


def _worker(turn: Turn) -> str:
    return str(turn.record().worker).partition("@")[0]


def test_a_turn_that_ends_within_the_grace_period_ends_where_it_is(stopped: Stopped) -> None:
    """It drains: one attempt, on the worker that stops."""
    turn = stopped.turns["short"]
    assert turn.result(timeout=30) == "drained"
    assert (_worker(turn), turn.attempt) == ("first", 1)


def test_a_stopping_worker_begins_no_further_turn(stopped: Stopped) -> None:
    """The next turn of a drained session runs on another worker, though the first one had its lease."""
    assert stopped.waiting.result(timeout=30) == "behind it"
    assert (_worker(stopped.waiting), stopped.waiting.attempt) == ("second", 1)


def test_a_model_request_is_cut_short_and_asked_again_elsewhere(stopped: Stopped) -> None:
    """Handed over after its last completed step: the side effect before it does not happen again."""
    turn = stopped.turns["model"]
    assert turn.result(timeout=30) == "ok: charged 1"
    assert (_worker(turn), turn.attempt) == ("second", 2)
    assert len(stopped.fleet.ledger("charge", amount=1)) == 1
    assert EventType.HANDED_OVER in [event.type for event in turn.events()]


def test_a_tool_is_not_cut_within_its_grace_period(stopped: Stopped) -> None:
    """It ends where it runs, its result is kept, and the other worker resumes after it."""
    turn = stopped.turns["tool"]
    assert turn.result(timeout=30) == "ok: tool found"
    assert (_worker(turn), turn.attempt) == ("second", 2)
    assert len(stopped.fleet.ledger("look_up")) == 1


def test_a_safe_tool_that_outlasts_its_grace_period_runs_again_elsewhere(stopped: Stopped) -> None:
    """It is cut off at the end, and repeated, as `retry="safe"` allows."""
    turn = stopped.turns["long tool"]
    assert turn.result(timeout=30) == "ok: lingered"
    assert [line["attempt"] for line in stopped.fleet.ledger("linger")] == [1, 2]


def test_a_tool_that_nobody_can_stop_is_in_doubt_elsewhere(stopped: Stopped) -> None:
    """A blocking tool runs on in its thread: the turn goes on elsewhere with an unknown outcome, not a second call."""
    turn = stopped.turns["stuck tool"]
    assert "Outcome unknown" in turn.result(timeout=30)
    assert _worker(turn) == "second"
    assert len(stopped.fleet.ledger("charge", amount=2)) == 1


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_handover_is_no_crash(stopped: Stopped, kind: str) -> None:
    """Only a worker that dies counts towards `max_attempts`; each deploy would bring turns nearer to it otherwise."""
    turn = stopped.turns[kind]
    turn.result(timeout=30)
    record = turn.record()
    assert (record.status, record.crashes) == (TurnStatus.SUCCEEDED, 0)


def test_the_worker_is_gone_when_its_grace_periods_are_over(stopped: Stopped) -> None:
    """3 s for turns, 5 s for tools, 5 s to clean up; a blocking tool ends after 15 s. There is always an end."""
    first = stopped.fleet.workers[0]
    assert first.process is not None
    assert first.process.returncode == 0
    assert stopped.seconds < 35
    assert "worker_stopped" in first.log


def test_a_second_worker_of_one_name_says_so(new_fleet: Callable[..., Fleet]) -> None:
    """Two workers with one name look like one: the second one's error says how to name it."""
    fleet = new_fleet()
    fleet.start("twin")
    fleet.ready()
    second = fleet.start("twin")
    wait_until(lambda: "worker_name_taken" in second.log, description="the second worker warns", timeout=40)
    assert "-n NAME@%h" in second.log


def test_a_worker_whose_turns_leave_effects_exits_by_itself(new_server: Server, tmp_path: Path) -> None:
    """A turn's slot outlives its lease, to apply the effects. The process waits for it, and then exits."""
    with running_fleet(tmp_path / "fleet", new_server) as fleet, new_server.client() as store:
        worker = fleet.workers[0]
        for number in range(60):
            agent = fleet.session(f"s-{number % 20}", user_id="ann").Agent("A", tools=["tally"])
            agent.submit(f'SLEEP {0.05 * (number % 9)}\nCALL tally({{"key": "user:n"}})')
        fleet.noted("tally", 20)
        worker.signal(signal.SIGTERM)
        # Slow writes: turns end while the worker stops, and the effects are still to be written.
        for _ in range(10):
            store.execute_command("CLIENT PAUSE", 150, "WRITE")
            time.sleep(0.2)
        worker.process.wait(timeout=30)  # type: ignore[union-attr]
        assert worker.process.returncode == 0  # type: ignore[union-attr]


def test_a_worker_whose_consumer_has_ended_exits_and_says_that_it_failed(new_fleet: Callable[..., Fleet]) -> None:
    """It must not stay as a process that accepts no work: its supervisor sees the status and restarts it."""
    fleet = new_fleet(SESSIONFLEET_IMPORTS="tests.support.doubles,tests.support.broken_consumer")
    worker = fleet.start("w1")
    fleet.ready()
    turn = fleet.session().Agent("A", tools=["end_consumer"]).submit("CALL end_consumer()")
    assert worker.process is not None
    assert worker.process.wait(timeout=40) not in (0, None)
    assert "Unrecoverable error" in worker.log
    assert turn.result(timeout=1) == "ok: told", "the turn that ran was drained"
