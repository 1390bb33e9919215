"""Asking again with the same idempotency key: for clients that die or lose the reply."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from typing import Any

import pytest

from sessions.errors import IdempotencyConflict, ResultTimeout
from sessions.store.turns import TurnStore
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet
from tests.support.waiting import wait_until

# Dies as hard as a process can, right after the turn was accepted.
SUBMIT_AND_DIE = """
import os, signal, sys
from sessions import Session
turn = Session(sys.argv[1]).Agent("A", tools=["charge"]).submit(sys.argv[2], idempotency_key="order-7")
print(turn.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def submit_and_die(fleet: Fleet, session_id: str, message: str) -> str:
    env = {**os.environ, "REDIS_URL": fleet.server.url, "PYTHONPATH": str(ROOT)}
    done = preloaded.run(
        [sys.executable, "-c", SUBMIT_AND_DIE, session_id, message],
        env=env, timeout=40,
    )  # fmt: skip
    assert done.returncode == -9
    return done.stdout.strip()


def test_a_client_that_died_finds_its_turn_again(fleet: Fleet) -> None:
    """The same key with the same body gives the same turn, whichever way it is asked; its effect happens once."""
    name, message = uuid.uuid4().hex, f'CALL charge({{"amount": {uuid.uuid4().int % 10**9}}})'
    first = submit_and_die(fleet, name, message)
    agent = fleet.session(name).Agent("A", tools=["charge"])
    again = agent.submit(message, idempotency_key="order-7")
    assert again.id == first
    answer = again.result(timeout=20)
    assert agent.chat(message, idempotency_key="order-7") == answer
    assert agent.submit(message, idempotency_key="order-7").id == first
    amount = int(message.split(": ")[1].rstrip("})"))
    assert len(fleet.ledger("charge", amount=amount)) == 1


def test_the_same_key_with_another_body_is_a_conflict(fleet: Fleet) -> None:
    """IdempotencyConflict names the turn that has the key; nothing is accepted, nothing is run."""
    session = fleet.session(uuid.uuid4().hex)
    turn = session.Agent("A").submit("SAY one", idempotency_key="k")
    for agent, message in ((session.Agent("A"), "SAY two"), (session.Agent("B"), "SAY one")):
        with pytest.raises(IdempotencyConflict, match=turn.id) as caught:
            agent.submit(message, idempotency_key="k")
        assert caught.value.detail["turn_id"] == turn.id
    assert turn.result(timeout=20) == "one"
    assert session.client.portal.call(session.client.stores.turns.listed(session.keys)) == [turn.id.partition("~")[2]]


def test_a_timeout_names_the_turn_that_the_key_has(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that never existed; and of a queued turn the error does not say that it "goes on"."""
    monkeypatch.setattr("sessions.client.turns._DEADLINE_SLACK", 0.2)
    agent = fleet.session(uuid.uuid4().hex).Agent("A")
    turn, second = agent.submit("SLEEP 20", idempotency_key="k"), agent.submit("SAY next")
    with pytest.raises(ResultTimeout, match=turn.id) as caught:
        agent.chat("SLEEP 20", idempotency_key="k", timeout=0.1)
    assert caught.value.turn_id == turn.id
    with pytest.raises(ResultTimeout, match=r"no worker has started it yet.*1 is before it") as caught:
        second.result(timeout=0.1)
    assert caught.value.turn_id == second.id
    turn.cancel()


def test_a_timeout_never_names_a_turn_whose_acceptance_is_not_known(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes longer to accept the request than the caller waits: the error names the turn that exists."""
    monkeypatch.setattr("sessions.client.turns._DEADLINE_SLACK", 0.2)
    agent = fleet.session(uuid.uuid4().hex).Agent("A")
    turn = agent.submit("SLEEP 20", idempotency_key="k")
    accept = TurnStore.accept

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.5)
        return await accept(*args, **options)

    monkeypatch.setattr(TurnStore, "accept", slow)
    with pytest.raises(ResultTimeout) as caught:
        agent.chat("SLEEP 20", idempotency_key="k", timeout=0.1)
    assert caught.value.turn_id == turn.id
    turn.cancel()


def test_keys_are_a_sessions_own(fleet: Fleet) -> None:
    """The same key in two sessions gives two turns."""
    turns = [fleet.session(uuid.uuid4().hex).Agent("A").submit("SAY x", idempotency_key="k") for _ in range(2)]
    assert turns[0].id != turns[1].id
    assert [t.result(timeout=20) for t in turns] == ["x", "x"]


def test_many_at_once_with_one_key_are_one_turn(fleet: Fleet) -> None:
    """Callers that race with the same key all get the same turn."""
    from concurrent.futures import ThreadPoolExecutor

    agent = fleet.session(uuid.uuid4().hex).Agent("A")
    with ThreadPoolExecutor(20) as threads:
        ids = list(threads.map(lambda _: agent.submit("SAY once", idempotency_key="k").id, range(20)))
    assert len(set(ids)) == 1


def test_a_key_is_kept_for_a_while_after_its_turn(fleet: Fleet) -> None:
    """While the turn is open its key has no expiry; when it ends the key gets a day (SESSIONFLEET_IDEMPOTENCY_TTL)."""
    session = fleet.session(uuid.uuid4().hex)
    turn = session.Agent("A").submit("SLEEP 0.5\nSAY x", idempotency_key="k")
    with fleet.server.client() as client:
        (key,) = client.scan_iter(f"*{session.session_id}:idem:*", count=1000)
        assert client.ttl(key) == -1
        turn.result(timeout=20)
        assert 86300 < client.ttl(key) <= 86400


def test_a_key_means_nothing_to_a_session_that_came_after(fleet: Fleet) -> None:
    """When a session expired, its keys do not lead the next user of its id to the old turns."""
    one = fleet.session(uuid.uuid4().hex, user_id="ann", ttl=0.3)
    first = one.Agent("A").submit("SAY hers", idempotency_key="k")
    assert first.result(timeout=20) == "hers"
    wait_until(one.is_expired, description="the session has expired")
    two = fleet.session(one.session_id, user_id="bob")
    second = two.Agent("A").submit("SAY his", idempotency_key="k")
    assert second.id != first.id
    assert second.result(timeout=20) == "his"
