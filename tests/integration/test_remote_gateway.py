"""Remote sessions on a real gateway with real workers: turns, events and ends, as local sessions have them."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sessions import EventType, Session, TurnStatus
from sessions.errors import (
    BadRequest,
    IdempotencyConflict,
    InvalidTurnId,
    ModelError,
    RemoteAuthError,
    RemoteTimeout,
    ResultTimeout,
    SessionBusy,
    SessionOwnerError,
    StaleCursor,
    TurnCancelled,
    TurnDeadlineExceeded,
    TurnNotFound,
    UnknownTool,
)
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, made_key, running_gateway
from tests.support.servers import Server
from tests.support.waiting import wait_until

Open = Callable[..., Session]
WORDS = "SAY one two three four five six seven eight\nPACE 0.05"


def sid() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def remote(gateway_process: GatewayProcess, fleet: Fleet) -> Open:
    """Opens sessions on the gateway; `fleet` has the workers that run their turns."""

    def open_session(session_id: str | None = None, **options: Any) -> Session:
        options.setdefault("agent_url", f"{gateway_process.url}/agent")
        return Session(session_id or sid(), **options)

    return open_session


# --- conversations ----------------------------------------------------------------------------------------


def test_a_conversation_is_the_same_from_both_sides(remote: Open, fleet: Fleet) -> None:
    """What was said over HTTP is in the session; a local one of the same id continues it."""
    session = remote(user_id="ann")
    assert session.chat("SAY hi") == "hi"
    assert session.send_message("SAY ho") == "ho"
    local = fleet.session(session.session_id, user_id="ann")
    assert local.send_message("SAY here") == "here"
    assert [m.text for m in session.history()] == ["SAY hi", "hi", "SAY ho", "ho", "SAY here", "here"]
    assert local.get_context()["agents"] == []


def test_an_agent_of_ones_own_has_instructions_and_tools(remote: Open) -> None:
    """`chat`, `start` and `submit` work as with a local agent."""
    agent = remote().Agent("Helper", instructions="Be brief", tools=["look_up"])
    assert agent.chat('CALL look_up({"query": "q"})') == "ok: q found"
    assert agent.start("SAY x") == "x"
    turn = agent.submit("SAY y", timeout=20)
    assert turn.result(timeout=20) == "y"
    assert (turn.status, turn.attempt) == (TurnStatus.SUCCEEDED, 1)
    assert turn.record().usage is not None


class Plan(BaseModel):
    steps: list[str]


def test_an_answer_can_be_an_object(remote: Open) -> None:
    """`output_type` travels as its schema, the answer comes back as an object."""
    agent = remote().Agent("Planner", output_type=Plan)
    assert agent.chat('PLAN {"steps": ["a", "b"]}') == Plan(steps=["a", "b"])


async def test_the_async_twins_do_the_same(remote: Open) -> None:
    """The async methods run on the caller's loop."""
    session = remote()
    assert await session.achat("SAY hi") == "hi"
    agent = session.Agent("A", instructions="x")
    turn = await agent.asubmit("SAY a b", stream=True)
    assert "".join([event.text async for event in turn.aevents()]) == "a b"
    assert await (await session.aturn(turn.id)).aresult(timeout=20) == "a b"


def test_the_address_names_the_agent(gateway_process: GatewayProcess, remote: Open) -> None:
    """`/agent/clerk` asks the pydantic-ai agent that workers registered under this name."""
    clerk = remote(agent_url=f"{gateway_process.url}/agent/clerk")
    assert clerk.chat('CALL stamp({"text": "x"})') == "ok: stamped x"
    assert remote().Agent("clerk", registered=True).chat('CALL stamp({"text": "y"})') == "ok: stamped y"


def test_a_stream_has_the_events_of_a_local_one(remote: Open, fleet: Fleet) -> None:
    """Same ids, same data; after any cursor the rest; nothing after the last."""
    session = remote()
    turn = session.Agent("A", tools=["look_up"]).submit(f'CALL look_up({{"query": "x"}})\n{WORDS}', stream=True)
    events = list(turn.events())
    assert events == list(fleet.session(session.session_id).turn(turn.id).events())
    assert "".join(event.text for event in events) == "one two three four five six seven eight"
    for place in (0, 2, len(events) - 1):
        assert list(turn.events(after=events[place].id)) == events[place + 1 :]
    assert [event.type for event in session.Agent("A").stream("SAY z")][-1] is EventType.ENDED
    pieces = turn.sse(after=events[-2].id)
    assert pieces is not None
    assert f"id: {events[-1].id}\nevent: ended\n" in "".join(pieces)
    assert turn.sse(after=events[-1].id) is None


# --- errors are those of the local API ---------------------------------------------------------------------


LEFT = """
import sys
from sessions import Session
events = Session(agent_url=sys.argv[1]).Agent("A").stream("SAY one two three\\nPACE 0.2")
print(next(events).type)
"""


def test_a_stream_that_is_left_ends_quietly_with_the_process(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """Nothing is printed about generators that could not be closed."""
    command = [sys.executable, "-W", "error", "-c", LEFT, f"{gateway_process.url}/agent"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("started\n", "")


def test_errors_have_the_classes_of_the_local_api(remote: Open, fleet: Fleet) -> None:
    """`except` clauses written for local sessions work with remote ones."""
    session = remote(user_id="ann")
    agent = session.Agent("A", instructions="x")
    turn = agent.submit("SAY x", idempotency_key="k")
    assert agent.submit("SAY x", idempotency_key="k").id == turn.id
    with pytest.raises(IdempotencyConflict):
        agent.submit("SAY other", idempotency_key="k")
    with pytest.raises(SessionOwnerError):
        remote(session.session_id, user_id="bob").chat("x")
    with pytest.raises(SessionOwnerError):
        remote(session.session_id, user_id="bob").turn(turn.id)
    with pytest.raises(TurnNotFound):
        session.turn(f"{session.session_id}~{'0' * 32}").record()
    with pytest.raises(InvalidTurnId):
        session.turn(f"other~{'0' * 32}")
    with pytest.raises(StaleCursor):
        list(turn.events(after="999-1"))
    with pytest.raises(UnknownTool, match="no_such_tool"):
        session.Agent("A", tools=["no_such_tool"]).chat("x")
    with pytest.raises(BadRequest, match="agents as tools"):
        session.Agent("A", tools=[fleet.session(sid()).Agent("B", instructions="b")]).chat("x")


def test_a_gateway_takes_no_other_keywords(remote: Open) -> None:
    """A typing error must not be lost among fields that the gateway does not know."""
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'polic'.*TurnOptions"):
        remote("keywords-1").chat("Hi", polic="reject")  # type: ignore[call-arg]


def test_a_turn_that_fails_raises_what_a_local_one_raises(remote: Open) -> None:
    """It has the class and the message of the turn's own error."""
    session = remote()
    with pytest.raises(ModelError, match=r"turn '.*': the model's provider refused") as caught:
        session.chat("FAIL 400 9")
    assert not isinstance(caught.value, ConnectionError)
    with pytest.raises(TurnDeadlineExceeded):
        session.Agent("A").chat("SLEEP 30", timeout=0.5)


def test_a_busy_session_refuses(remote: Open) -> None:
    """With `policy="reject"` the error is raised at once, without another try."""
    session = remote()
    open_turn = session.Agent("A").submit("SLEEP 20")
    with pytest.raises(SessionBusy):
        session.Agent("A").chat("x", policy="reject")
    open_turn.cancel()
    with pytest.raises(TurnCancelled):
        open_turn.result(timeout=20)


# --- time -------------------------------------------------------------------------------------------------


def test_a_chat_that_takes_too_long_leaves_its_turn(remote: Open, fleet: Fleet) -> None:
    """The error names the turn, and the same call with the same key is answered by it."""
    session = remote(timeout=20)
    session.get_context()  # the first call also asks what kind of server this is
    with pytest.raises(RemoteTimeout, match="it is still running") as caught:
        session.chat(f"SLEEP 6\nSAY {session.session_id}", timeout=4)
    turn = session.turn(caught.value.turn_id or "")
    assert turn.result(timeout=20) == session.session_id
    key = caught.value.idempotency_key
    again = session.chat(f"SLEEP 6\nSAY {session.session_id}", idempotency_key=key, timeout=20)
    assert again == session.session_id
    assert len(fleet.ledger("model", prompt=f"SLEEP 6\nSAY {session.session_id}")) == 1


def test_waiting_for_a_result_ends_the_waiting(remote: Open) -> None:
    """It raises ResultTimeout, as locally; timeouts below a second work, too."""
    turn = remote().Agent("A").submit("SLEEP 20")
    for seconds in (0.3, 1.3):
        with pytest.raises(ResultTimeout):
            turn.result(timeout=seconds)
    turn.cancel()


# --- credentials ------------------------------------------------------------------------------------------


def test_a_gateway_that_asks_who_one_is(new_server: Server, tmp_path: Path) -> None:
    """Without a credential, with a wrong one, with one that lacks a right, and with a good one in each form."""
    ann, backend = made_key(new_server, user="ann"), made_key(new_server, acts_for_users=True)
    with running_gateway(new_server, tmp_path, SESSIONFLEET_GATEWAY_AUTH="on") as gateway:
        url = f"{gateway.url}/agent"
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            with pytest.raises(RemoteAuthError, match=r"401 Unauthorized: .*pass credentials with headers=") as caught:
                Session(agent_url=url, headers=headers).set_state("k", 1)
            assert isinstance(caught.value, PermissionError)
            assert caught.value.problem["type"] == "urn:sessionfleet:error:Unauthenticated"
        mine = Session("s", agent_url=url, headers={"X-API-Key": ann})
        mine.set_state("k", 1)
        assert Session("s", agent_url=url.replace("//", f"//any:{ann}@")).get_state() == {"k": 1}
        for options in ({}, {"user_id": "ann"}):
            session = Session("s", agent_url=url, headers={"Authorization": f"Bearer {backend}"}, **options)
            assert session.get_state() == {"k": 1}
        with pytest.raises(SessionOwnerError):
            Session("s", "bob", agent_url=url, headers={"Authorization": f"Bearer {backend}"}).get_state()
        with pytest.raises(
            RemoteAuthError, match=r"403 Forbidden: you are not 'bob'.*the credentials do not allow this"
        ):
            Session("s", "bob", agent_url=url, headers={"X-API-Key": ann}).get_state()
        with pytest.raises(RemoteAuthError, match="'configure'"):
            mine.Agent("A", instructions="mine").submit("x")


# --- a person in the middle ---------------------------------------------------------------------------------


def test_a_turn_waits_for_approvals_over_http(remote: Open, fleet: Fleet) -> None:
    """Listed, approved, denied and provided by another process than the one that asked."""
    session = remote()
    agent = session.Agent("A", tools=["refund", "long_job"])
    calls = 'TOGETHER\nCALL refund({"amount": 1})\nCALL refund({"amount": 2})\nCALL long_job({"size": 3})'
    turn = agent.submit(calls)
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the turn waits")
    pending = sorted(turn.approvals(), key=lambda call: str(call.args))
    local = fleet.session(session.session_id).turn(turn.id)
    assert turn.approvals() == local.approvals()
    assert [(call.tool, call.kind) for call in pending] == [
        ("refund", "approval"),
        ("refund", "approval"),
        ("long_job", "result"),
    ]
    turn.approve(pending[0].call_id, args={"amount": 5})
    turn.deny(pending[1].call_id, "too much")
    turn.provide(pending[2].call_id, {"done": True})
    assert turn.result(timeout=20).startswith("ok")
    assert fleet.ledger("refund", amount=5)
    assert not fleet.ledger("refund", amount=2)
