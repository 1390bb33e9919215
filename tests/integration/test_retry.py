"""Errors of the model's provider: transient ones are retried, in the session's order; others end the turn."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from sessions import Turn, TurnStatus, errors
from sessions.protocol.event import EventType
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def hasty(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker with short pauses between two tries."""
    folder: Path = tmp_path_factory.mktemp("hasty")
    env = {"SESSIONFLEET_MODEL_BACKOFF": "0.2", "SESSIONFLEET_MODEL_RETRIES": "2"}
    with running_fleet(folder, server, env, workers={"hasty": {"SESSIONFLEET_QUEUES": "hasty"}}) as fleet:
        yield fleet


@pytest.fixture
def ask(hasty: Fleet) -> Callable[..., object]:
    """An agent of a new session on the hasty worker."""
    return lambda **options: hasty.session(uuid.uuid4().hex, queue="hasty").Agent("A", **options)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_error_is_tried_again_and_the_session_keeps_its_order(
    hasty: Fleet, ask: Callable, status: int
) -> None:
    """429 and 5xx: the turn pauses and continues in its place; later messages wait for it."""
    agent = ask(tools=["charge"])
    tag = uuid.uuid4().hex
    failing = agent.submit(f"{tag}\nFAIL {status} 2\nSAY first")
    following = agent.submit(f"{tag}\nSAY second")
    assert following.result(timeout=30) == "second"
    assert failing.result(timeout=20) == "first"

    record = failing.record()
    assert (record.status, record.retries, record.crashes) == (TurnStatus.SUCCEEDED, 2, 0)
    ran = [line["prompt"].splitlines()[-1] for line in hasty.ledger("model") if tag in line["prompt"]]
    assert ran == ["SAY first", "SAY second"]
    assert [event.type for event in failing.events()].count(EventType.RETRYING) == 2


def test_pauses_grow(ask: Callable) -> None:
    """Each pause is twice the one before."""
    turn = ask().submit(f"{uuid.uuid4().hex}\nFAIL 503 2")
    turn.result(timeout=30)
    pauses = [event.data["pause"] for event in turn.events() if event.type is EventType.RETRYING]
    assert pauses == [0.2, 0.4]


def test_finished_steps_are_not_repeated_by_a_retry(hasty: Fleet, ask: Callable) -> None:
    """A tool that ran before the model failed does not run again."""
    tag = uuid.uuid4().hex
    turn = ask(tools=["charge"]).submit(f'{tag}\nCALL charge({{"amount": 77}})\nFAIL_AFTER 1 503 2')
    assert turn.result(timeout=30) == "ok: charged 77"
    assert turn.record().retries == 2
    assert len(hasty.ledger("charge", amount=77)) == 1
    assert len([line for line in hasty.ledger("model", step=0) if tag in line["prompt"]]) == 1


def test_when_all_tries_are_used_up_the_turn_fails_and_the_session_goes_on(ask: Callable) -> None:
    """`ModelUnavailable` says how often it was tried; the next turn runs."""
    agent = ask()
    with pytest.raises(errors.ModelUnavailable, match="tried 3 times"):
        agent.chat(f"{uuid.uuid4().hex}\nFAIL 503 99")
    assert agent.chat("SAY on we go") == "on we go"


def test_an_error_that_cannot_pass_ends_the_turn_at_once(ask: Callable) -> None:
    """A refused request (401) is not sent again."""
    turn = ask().submit(f"{uuid.uuid4().hex}\nFAIL 401 99")
    with pytest.raises(errors.ModelError):
        turn.result(timeout=30)
    assert turn.record().retries == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_rate_limit_holds_back_the_calls_of_all_turns(hasty: Fleet, ask: Callable, stream: bool) -> None:
    """They wait as the provider asked, without a slot; only the call that was refused is a retry."""
    tag, number = uuid.uuid4().hex, count()

    def submit(command: str = "SAY ok", **options: object) -> Turn:
        return ask(model="scarce").submit(f"{tag} {next(number)}\n{command}", stream=stream, **options)

    refused = submit("FAIL 429 1 RETRY 8")
    wait_until(lambda: pauses(refused), description="the provider refuses the call")
    turns = [refused, *(submit() for _ in range(3))]
    impatient = submit(timeout=1)
    with pytest.raises(errors.ModelUnavailable, match="deadline"):
        impatient.result(timeout=10)
    wait_until(lambda: all(map(pauses, turns)), description="all have met the limit")
    assert ask().chat("SAY another model") == "another model"
    assert not called(hasty, tag)

    for turn in turns:
        turn.result(timeout=30)
    assert [turn.record().retries for turn in turns] == [1, 0, 0, 0]
    assert sorted(called(hasty, tag)) == [f"{tag} {n}" for n in range(4)]


def pauses(turn: Turn) -> bool:
    """Whether a worker has taken the turn and given it back."""
    record = turn.record()
    return record.status is TurnStatus.QUEUED and record.started_ms is not None


def called(fleet: Fleet, tag: str) -> list[str]:
    """The messages that the model has answered."""
    return [line["prompt"].splitlines()[0] for line in fleet.ledger("model") if tag in line["prompt"]]


def test_a_turn_that_fails_was_paid_for(fleet: Fleet) -> None:
    """What its finished model requests cost stands in its record, and in the session's sum."""
    session = fleet.session(uuid.uuid4().hex)
    turn = session.Agent("A", tools=["divide"]).submit('CALL divide({"number": 1, "by": 0})')
    with pytest.raises(errors.ToolError):
        turn.result(timeout=20)
    usage = turn.record().usage
    assert usage is not None
    assert usage.requests == 1
    assert session.get_context()["requests"] == 1
