"""A worker that was stopped for longer than its lease: another has its turns, and it can write nothing."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import pytest

from sessions import Session, Turn, TurnStatus
from tests.support.fleet import Fleet, Worker, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers with a short lease; the tests stop one and continue it."""
    folder, lease = tmp_path_factory.mktemp("pair"), {"SESSIONFLEET_LEASE": "2"}
    with running(Server(folder / "server")) as server, running_fleet(folder, server, lease, ("one", "two")) as fleet:
        yield fleet


@pytest.fixture
def session(pair: Fleet) -> Session:
    """A session of the pair's."""
    return pair.session(uuid.uuid4().hex)


def _stop_worker_of(fleet: Fleet, session: Session, message: str) -> tuple[Turn, Worker]:
    """A turn, and the worker that had begun it, stopped in the middle of it."""
    tag = session.session_id
    turn = session.Agent("A", tools=["charge", "linger"]).submit(f"{tag}\n{message}")
    last_step = 1 if "HANG" in message else 0
    [line] = fleet.noted("model_started", prompt=f"{tag}\n{message}", step=last_step)
    if "linger" in message:
        wait_until(lambda: tag in str(fleet.ledger("linger")), description="the tool runs")
    worker = fleet.worker_of_pid(line["pid"])
    worker.signal(signal.SIGSTOP)
    return turn, worker


def _lost_lines(worker: Worker, turn: Turn) -> list[str]:
    return [line for line in worker.log.splitlines() if "lease_lost" in line and turn.id in line]


def _says_that_it_lost(worker: Worker, turn: Turn) -> str:
    return wait_until(lambda: _lost_lines(worker, turn), description="the worker says that it lost its lease")[0]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param('CALL charge({"amount": 1})\nHANG 1 4', id="before-its-commit"),
        pytest.param('CALL linger({"seconds": 4})', id="before-a-step"),
    ],
)
def test_a_worker_that_comes_back_after_its_lease_commits_nothing(pair: Fleet, session: Session, message: str) -> None:
    """SIGSTOP past the lease, then SIGCONT: the turn is the other's, and the log of the first says what it lost."""
    turn, stopped = _stop_worker_of(pair, session, message)
    answer = turn.result(timeout=40)
    before = _everything_of(pair, session)
    stopped.signal(signal.SIGCONT)
    said = _says_that_it_lost(stopped, turn)

    assert "written='nothing'" in said
    assert "why='lost'" in said, "the store was in reach: this is no outage, and it counts as a crash"
    assert session.Agent("A").chat("SAY on we go") == "on we go"
    assert answer.startswith("ok: ")
    record = turn.record()
    assert (record.status, record.attempt, record.crashes) == (TurnStatus.SUCCEEDED, 2, 1)
    assert record.worker is not None
    assert not record.worker.startswith(f"{stopped.name}@")
    after = _everything_of(pair, session)
    part = turn.id.rpartition("~")[2]
    assert {k: v for k, v in after.items() if part in k} == {k: v for k, v in before.items() if part in k}
    assert sum(turn.id.partition("~")[0] in line["key"] for line in pair.ledger("charge")) == message.count("charge")


def test_a_worker_that_comes_back_does_not_disturb_the_attempt_that_runs(pair: Fleet, session: Session) -> None:
    """The first worker wakes up while the second is in the middle of the same turn: the second one's way stands."""
    turn, stopped = _stop_worker_of(pair, session, "SLEEP 3\nSAY the second one")
    wait_until(lambda: turn.attempt == 2, description="the second worker runs the turn", timeout=40)
    stopped.signal(signal.SIGCONT)
    _says_that_it_lost(stopped, turn)
    assert turn.result(timeout=40) == "the second one"
    resets = [event for event in turn.events() if event.type == "attempt_reset"]
    assert len(resets) == 1
    assert turn.record().crashes == 1
    with pair.server.client() as client:
        assert client.llen(session.keys.history) == 1


def _everything_of(fleet: Fleet, session: Session) -> dict[str, object]:
    """Every key of the session with its content."""
    with fleet.server.client() as client:
        return {key.decode(): client.dump(key) for key in client.scan_iter(f"{session.keys.base}:*", count=1000)}
