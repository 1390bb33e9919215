"""Agents of every kind, and the life of their sessions: typed answers, registered agents, lifetimes, deletion."""

from __future__ import annotations

import json
import uuid

import pytest
from pydantic import BaseModel, Field

from sessions import EventType, Session, TurnStatus
from sessions.errors import OutputInvalid, TurnFailed, TurnNotFound
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


class City(BaseModel):
    """What the model is to answer with."""

    name: str
    people: int = Field(gt=0)


def sid() -> str:
    return uuid.uuid4().hex


def keys_of(fleet: Fleet, session: Session) -> list[str]:
    with fleet.server.client() as client:
        return sorted(k.decode() for k in client.scan_iter(f"*{session.session_id}*", count=1000))


def test_an_answer_can_be_an_object(fleet: Fleet) -> None:
    """With `output_type` a validated object comes back, from `chat` and from `result`."""
    agent = fleet.session(sid()).Agent("A", output_type=City)
    rome = '{"name": "Rome", "people": 2800000}'
    assert agent.chat(rome) == City(name="Rome", people=2_800_000)
    turn = agent.submit(rome)
    assert turn.result(timeout=20) == City(name="Rome", people=2_800_000)


async def test_a_list_or_a_number_will_do_as_well(fleet: Fleet) -> None:
    """The output type can be any type that pydantic validates."""
    cities = await fleet.session(sid()).Agent("A", output_type=list[City]).achat(
        '{"result": [{"name": "Rome", "people": 1}, {"name": "Oslo", "people": 2}]}'
    )  # fmt: skip
    assert [c.name for c in cities] == ["Rome", "Oslo"]


def test_a_model_whose_answer_does_not_fit_is_asked_again(fleet: Fleet) -> None:
    """An invalid answer goes back to the model; when it never fits, the turn fails with OutputInvalid."""
    wrong = json.dumps({"name": f"Nowhere-{sid()}", "people": 0})
    with pytest.raises(OutputInvalid):
        fleet.session(sid()).Agent("A", output_type=City).chat(wrong)
    assert len(fleet.ledger("model", prompt=wrong)) > 1


def test_an_agent_registered_by_the_workers_is_run_as_it_is(fleet: Fleet) -> None:
    """`registered=True` names a ready pydantic-ai agent of the workers' modules, with its own tools."""
    agent = fleet.session(sid()).Agent("clerk", registered=True)
    text = sid()
    assert agent.chat(f'CALL stamp({{"text": "{text}"}})') == f"ok: stamped {text}"
    assert len(fleet.ledger("stamp", text=text)) == 1


def test_history_goes_on_over_agents_and_processes(fleet: Fleet) -> None:
    """Each turn is committed by itself: the session's history holds all of them, in order, for whichever agent asks."""
    session = fleet.session(sid())
    for number, name in enumerate(("A", "B", "A")):
        session.Agent(name).chat(f"SAY {number}")
    with fleet.server.client() as client:
        entries = client.lrange(session.keys.history, 0, -1)
    assert [json.loads(e.partition(b"\n")[0])["agent"] for e in entries] == ["A", "B", "A"]


def test_a_failed_turn_says_why_and_the_session_goes_on(fleet: Fleet) -> None:
    """The error is the turn's own type with its message; the next turn runs."""
    agent = fleet.session(sid()).Agent("A")
    with pytest.raises(TurnFailed, match=r"turn '.*~"):
        agent.chat(f"FAIL 400 9\n{sid()}")
    assert agent.chat("SAY on") == "on"


def test_a_session_with_a_lifetime_expires_after_its_last_turn(fleet: Fleet) -> None:
    """While a turn is open nothing of it expires; its end sets an expiry on every key, which the next turn removes."""
    session = fleet.session(sid(), ttl=3600)
    with fleet.server.client() as client:
        session.Agent("A").chat("SAY x")
        lives = {k: client.ttl(k) for k in keys_of(fleet, session)}
        assert all(t > 0 for t in lives.values()), lives
        assert 3500 < client.ttl(session.keys.meta) <= 3600
        turn = session.Agent("A").submit("SLEEP 1.5\nSAY x")
        assert client.ttl(session.keys.meta) == client.ttl(session.keys.history) == -1
        turn.result(timeout=20)
        assert client.ttl(session.keys.meta) > 0


def test_a_session_whose_lifetime_is_over_is_gone(fleet: Fleet) -> None:
    """Its history goes; what is left for a while are its turns' results, and everything left has an expiry."""
    session = fleet.session(sid(), ttl=0.2)
    turn = session.Agent("A").submit("SAY x")
    assert turn.result(timeout=20) == "x"
    with fleet.server.client() as client:
        wait_until(
            lambda: not client.exists(session.keys.meta, session.keys.history), description="the session has expired"
        )
        assert all(client.ttl(key) > 0 for key in keys_of(fleet, session))
    assert turn.result() == "x"


def test_a_session_can_be_deleted_while_its_turn_runs(fleet: Fleet) -> None:
    """Waiters learn that the turn is gone; the worker writes nothing more; the id can be used again at once."""
    session = fleet.session(sid())
    turn = session.Agent("A").submit("SLEEP 1.5\nSAY old", stream=True)
    wait_until(lambda: turn.status is TurnStatus.RUNNING, description="the turn runs")
    told = session.delete()
    assert (told["turns"], told["open_turns"]) == (1, 1)
    assert keys_of(fleet, session) == []
    with pytest.raises(TurnNotFound):
        turn.result(timeout=10)
    anew = session.Agent("A").submit("SAY new")
    assert anew.result(timeout=20) == "new"
    wait_until(
        lambda: any(f"turn='{turn.id}'" in w.log and "lease_lost" in w.log for w in fleet.workers),
        description="the worker noticed that the old turn is gone",
    )
    assert [e.type for e in anew.events()] == [EventType.STARTED, EventType.TEXT, EventType.ENDED]
    with fleet.server.client() as client:
        assert client.llen(session.keys.history) == 1


def test_deleting_what_is_not_there_is_no_error(fleet: Fleet) -> None:
    """Deleting a session that does not exist returns a receipt of zeros."""
    nothing = dict.fromkeys(("keys", "turns", "open_turns", "memories", "files", "documents", "chunks", "passages"), 0)
    assert fleet.session(sid()).delete() == nothing
