"""Cancel and deadline: they end what waits and what runs, down to the request to the model."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from sessions import Session, TurnStatus, errors
from sessions.protocol.event import EventType
from tests.support.fleet import Fleet, running_fleet
from tests.support.openai_server import OpenAIServer
from tests.support.servers import Server
from tests.support.waiting import wait_until

SLOW_MODEL = "openai-chat:x"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIServer]:
    """A model provider on this machine."""
    with OpenAIServer() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def workers(server: Server, provider: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker that asks that provider; its lease is long, so that only the message of a cancel can be quick."""
    env = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "none", "SESSIONFLEET_QUEUES": "cancel"}
    # No test waits for a pause to end, so a pause that a slow machine cannot outlast costs nothing.
    env |= {"SESSIONFLEET_MODEL_BACKOFF": "60", "SESSIONFLEET_MODEL_BACKOFF_LIMIT": "60"}
    folder, lease = tmp_path_factory.mktemp("cancel"), {"SESSIONFLEET_LEASE": "30"}
    with running_fleet(folder, server, lease, workers={"canceller": env}) as fleet:
        # The first request imports the provider's client: seconds, which would count against a test's deadline.
        fleet.session(queue="cancel").Agent("A", model=SLOW_MODEL).chat("hello")
        yield fleet


@pytest.fixture
def session(workers: Fleet) -> Session:
    """A session of that worker's queue."""
    return workers.session(uuid.uuid4().hex, queue="cancel")


def test_the_provider_answers(session: Session) -> None:
    """What the other tests rely on: a worker talks to this server."""
    assert session.Agent("A", model=SLOW_MODEL).chat("hello") == "you said hello"


@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_a_running_turn_stops_the_request_to_the_model(
    session: Session, provider: OpenAIServer, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    """The connection to the provider closes, so that nothing more is paid for; the session continues."""
    message = f"SLOW {uuid.uuid4().hex}"
    turn = session.Agent("A", model=SLOW_MODEL).submit(message, stream=stream)
    following = session.Agent("B", model="double").submit("SAY on we go")
    wait_until(lambda: message in provider.asked, description="the model is asked")
    cancelled = time.time()
    assert turn.cancel() is TurnStatus.RUNNING
    with pytest.raises(errors.TurnCancelled):
        turn.result(timeout=20)
    wait_until(lambda: message in provider.hung_up, description="the connection to the provider is closed")

    assert turn.status is TurnStatus.CANCELLED
    assert following.result(timeout=20) == "on we go"
    with capsys.disabled():
        took = provider.hung_up[message] - cancelled
        print(f"\ncancel: the connection to the model closed {took * 1000:.0f} ms after the call")


def test_cancelling_a_queued_turn_ends_it_before_it_runs(workers: Fleet, session: Session) -> None:
    """It never asks the model, and the turns before and after it are not affected."""
    agent, tag = session.Agent("A"), session.session_id
    running = agent.submit(f"{tag}\nSLEEP 3\nSAY before")
    queued = agent.submit(f"{tag}\nSAY cancelled")
    behind = agent.submit(f"{tag}\nSAY behind")
    assert queued.cancel() is TurnStatus.CANCELLED
    with pytest.raises(errors.TurnCancelled):
        queued.result(timeout=20)
    assert (running.result(timeout=20), behind.result(timeout=20)) == ("before", "behind")
    said = [line["prompt"].splitlines()[-1] for line in workers.ledger("model") if tag in line["prompt"]]
    assert said == ["SAY before", "SAY behind"]
    assert [event.type for event in queued.events()] == [EventType.ENDED]


def test_cancelling_a_turn_that_ended_says_how_it_ended(session: Session) -> None:
    """Cancelling too late is not an error and changes nothing."""
    turn = session.Agent("A").submit("SAY done")
    assert turn.result(timeout=20) == "done"
    assert turn.cancel() is TurnStatus.SUCCEEDED
    assert turn.result(timeout=20) == "done"


def test_cancelling_a_turn_that_pauses_ends_it_and_the_session_goes_on(session: Session) -> None:
    """Between two tries no worker holds the turn: one ends it soon, and the next turn does not wait for its pause."""
    agent = session.Agent("A")
    turn = agent.submit(f"{session.session_id}\nFAIL 503 99")
    wait_until(lambda: turn.attempt >= 1 and turn.status is TurnStatus.QUEUED, description="it pauses for a minute")
    behind = agent.submit("SAY behind")
    assert turn.cancel() is TurnStatus.QUEUED
    with pytest.raises(errors.TurnCancelled):
        turn.result(timeout=20)
    assert behind.result(timeout=20) == "behind"


def test_a_running_turn_ends_at_its_deadline(session: Session, provider: OpenAIServer) -> None:
    """A model that never answers costs the deadline and no more: its connection is closed, the session continues."""
    message = f"SLOW {uuid.uuid4().hex}"
    turn = session.Agent("A", model=SLOW_MODEL).submit(message, timeout=3)
    with pytest.raises(errors.TurnDeadlineExceeded):
        turn.result(timeout=20)
    wait_until(lambda: message in provider.hung_up, description="the connection to the provider is closed")
    assert turn.status is TurnStatus.FAILED
    assert session.Agent("B", model="double").chat("SAY on we go") == "on we go"


def test_a_queued_turn_past_its_deadline_ends_without_running(workers: Fleet, session: Session) -> None:
    """A turn whose deadline has passed is not begun."""
    agent, tag = session.Agent("A"), session.session_id
    running = agent.submit(f"{tag}\nSLEEP 1.5\nSAY before")
    late = agent.submit(f"{tag}\nSAY too late", timeout=0.5)
    with pytest.raises(errors.TurnDeadlineExceeded):
        late.result(timeout=20)
    assert running.result(timeout=20) == "before"
    assert not [
        line for line in workers.ledger("model_started") if "too late" in line["prompt"] and tag in line["prompt"]
    ]
