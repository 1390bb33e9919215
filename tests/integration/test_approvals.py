"""Turns that wait for people or for outside results, on two real workers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from sessions import Session, Turn
from sessions.errors import ApprovalTimeout, BadRequest, CallAnswered, CallNotFound, TurnCancelled
from sessions.gateway.app import create_app
from sessions.gateway.principal import Principal, Right
from sessions.protocol.call import SENDER
from sessions.protocol.event import EventType
from sessions.protocol.turn import TurnStatus
from tests.integration.test_cli_on_a_fleet import CLI, environment
from tests.support import preloaded
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

TOOLS = ["refund", "long_job", "look_up", "transfer"]
REFUND = 'CALL look_up({"query": "order"})\nCALL refund({"amount": 90})'


def waiting(turn: Turn) -> Turn:
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the turn waits", timeout=30)
    return turn


def ask(session: Session, message: str, **options: object) -> Turn:
    return session.Agent("A", tools=TOOLS).submit(message, **options)


def test_an_approval_is_waited_for_and_given(fleet: Fleet) -> None:
    """Any client sees the question and answers it; the turn continues, with other arguments if those were given."""
    session = fleet.session()
    turn = waiting(ask(session, REFUND))
    (call,) = fleet.session(session.session_id).turn(turn.id).approvals()
    assert (call.tool, call.args, call.kind) == ("refund", {"amount": 90}, "approval")
    assert all(w.running == 0 or w.turns_done >= 0 for w in fleet.registered())
    fleet.session(session.session_id).turn(turn.id).approve(call.call_id, args={"amount": 60})
    assert turn.result(timeout=30) == "ok: refunded 60"
    kinds = [e.type for e in turn.events()]
    assert [k for k in kinds if k in (EventType.WAITING, EventType.ANSWERED, EventType.RESUMED)] == [
        EventType.WAITING, EventType.ANSWERED, EventType.RESUMED,
    ]  # fmt: skip
    assert turn.record().attempt == 1
    assert turn.approvals() == []


def test_a_denial_is_told_to_the_model(fleet: Fleet) -> None:
    """The tool does not run, and the model gets the reason."""
    turn = waiting(ask(fleet.session(), REFUND))
    turn.deny(turn.approvals()[0].call_id, "over budget")
    assert "over budget" in turn.result(timeout=30)


def test_an_outside_result_is_waited_for(fleet: Fleet) -> None:
    """The tool names what is to bring it; chat() waits all the while."""
    session = fleet.session()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(session.Agent("A", tools=TOOLS).chat, 'CALL long_job({"size": 3})')
        part = wait_until(lambda: session.client.portal.call(_first_turn(session)), description="a turn", timeout=30)
        turn = waiting(session.turn(session.keys.public_id(part)))
        (call,) = turn.approvals()
        assert (call.kind, call.metadata, call.waits_for) == ("result", {"size": 3}, "job-3")
        with pytest.raises(BadRequest, match="provide"):
            turn.approve(call.call_id)
        with pytest.raises(BadRequest, match="JSON"):
            turn.provide(call.call_id, object())
        turn.provide(call.call_id, {"rows": 3})
        assert answer.result(30) == "ok: {'rows': 3}"


async def _first_turn(session: Session) -> str | None:
    await session.client.open()
    listed = await session.client.stores.turns.listed(session.keys)
    return listed[0] if listed else None


def test_only_the_first_answer_counts(fleet: Fleet) -> None:
    """Two clients answer at the same time: one of them gets an error, and the tool runs at most once."""
    turn = waiting(ask(fleet.session(), REFUND))
    call_id = turn.approvals()[0].call_id
    before = len(fleet.ledger("refund"))

    def answer(number: int) -> str:
        try:
            turn.approve(call_id) if number % 2 else turn.deny(call_id, "no")
        except (CallAnswered, CallNotFound):
            return "late"
        return "approve" if number % 2 else "deny"

    with ThreadPoolExecutor(8) as pool:
        words = set(pool.map(answer, range(8)))
    assert len(words - {"late"}) == 1
    turn.result(timeout=30)
    assert len(fleet.ledger("refund")) - before == (1 if "approve" in words else 0)
    with pytest.raises(CallNotFound, match="nothing"):
        turn.approve("nothing")


def test_a_waiting_turn_blocks_its_session_unless_told_otherwise(fleet: Fleet) -> None:
    """By default later turns wait; with waiting_blocks=False they overtake it."""
    session = fleet.session()
    first = waiting(ask(session, REFUND))
    second = ask(session, "SAY two")
    first.approve(first.approvals()[0].call_id)
    assert second.result(timeout=30) == "two"
    assert first.status is TurnStatus.SUCCEEDED

    session = fleet.session(waiting_blocks=False)
    first = waiting(ask(session, REFUND))
    assert ask(session, "SAY two").result(timeout=30) == "two"
    assert first.status is TurnStatus.WAITING
    first.approve(first.approvals()[0].call_id)
    assert first.result(timeout=30) == "ok: refunded 90"
    assert [m.text for m in session.history(limit=50) if m.role == "user"] == ["SAY two", REFUND]


def test_nobody_answers(fleet: Fleet) -> None:
    """The wait has its own time limit, and its own error."""
    session = fleet.session()
    turn = ask(session, REFUND, approval_timeout=1.0)
    with pytest.raises(ApprovalTimeout):
        turn.result(timeout=30)
    assert ask(session, "SAY next").result(timeout=30) == "next"


def test_a_waiting_turn_is_cancelled_or_interrupted(fleet: Fleet) -> None:
    """Both keep what the turn completed before."""
    session = fleet.session()
    first = waiting(ask(session, REFUND))
    assert first.cancel() is TurnStatus.QUEUED
    with pytest.raises(TurnCancelled):
        first.result(timeout=10)
    second = waiting(ask(session, REFUND))
    assert ask(session, "SAY three", policy="interrupt").result(timeout=30) == "three"
    with pytest.raises(TurnCancelled):
        second.result(timeout=10)
    lines = [(m.role, m.text) for m in session.history(limit=50)]
    assert ("tool", "order found") in lines
    assert any(role == "tool" and "turn ended before" in text for role, text in lines)


def test_calls_are_answered_on_the_command_line(fleet: Fleet) -> None:
    """`turns show` lists what a turn waits for; `turns approve`, `deny` and `provide` answer it."""

    def turns(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*CLI, "turns", *arguments]
        env = environment(fleet.server.url)
        return preloaded.run(command, env=env, timeout=60)

    message = 'CALL refund({"amount": 7})\nCALL long_job({"size": 3})'
    turn = waiting(ask(fleet.session(), message))
    shown = turns("show", turn.id)
    assert "refund" in shown.stdout
    assert "approval" in shown.stdout
    assert turns("approve", turn.id, "call1", "--args", '{"amount": 8}').returncode == 0
    wait_until(lambda: [c.call_id for c in turn.approvals()] == ["call2"], description="the second call", timeout=30)
    pending = json.loads(turns("show", turn.id, "--json").stdout)["pending"]
    assert [(c["tool"], c["waits_for"]) for c in pending] == [("long_job", "job-3")]
    wrong = turns("provide", turn.id, "call2", "no json")
    assert (wrong.returncode, "is not JSON" in wrong.stderr) == (1, True)
    assert turns("provide", turn.id, "call2", "[1]").returncode == 0
    assert turn.result(timeout=30) == "ok: [1]"
    late = turns("deny", turn.id, "call2")
    assert (late.returncode, "does not wait" in late.stderr) == (1, True)
    assert fleet.ledger("refund", amount=8)


@pytest.mark.parametrize("when", ["while it waits", "right behind the answer"])
def test_a_worker_may_die(new_fleet: Callable[..., Fleet], when: str) -> None:
    """kill -9 of the worker that asked, or of the one that continued: completed steps are not repeated."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    workers = {name: fleet.start(name) for name in ("one", "two")}
    fleet.ready()
    turn = waiting(ask(fleet.session(), REFUND + "\nHANG 2 60"))
    call_id = turn.approvals()[0].call_id

    def kill() -> None:
        worker = turn.record().worker
        assert worker is not None
        workers[worker.partition("@")[0]].kill()

    if when == "while it waits":
        kill()
        turn.approve(call_id)
        wait_until(lambda: fleet.ledger("hung"), description="it went on", timeout=30)
        turn.cancel()
        with pytest.raises(TurnCancelled):
            turn.result(timeout=20)
    else:
        turn.approve(call_id)
        wait_until(lambda: fleet.ledger("hung"), description="it went on", timeout=30)
        kill()
        assert turn.result(timeout=40) == "ok: refunded 90"
    assert len(fleet.ledger("look_up")) == 1
    assert len(fleet.ledger("refund")) == 1


def test_a_person_decides_what_became_of_a_call(new_fleet: Callable[..., Fleet]) -> None:
    """`in_doubt="wait"`: its worker died while it ran; what the person says is what the model gets."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    workers = {name: fleet.start(name) for name in ("one", "two")}
    fleet.ready()
    turn = ask(fleet.session(), 'CALL transfer({"amount": 5, "seconds": 60})')
    wait_until(lambda: fleet.ledger("transfer"), description="the transfer runs", timeout=30)
    worker = turn.record().worker
    assert worker is not None
    workers[worker.partition("@")[0]].kill()
    (call,) = waiting(turn).approvals()
    assert call.kind == "in_doubt"
    turn.provide(call.call_id, "it had arrived")
    assert turn.result(timeout=30) == "ok: it had arrived"
    assert len(fleet.ledger("transfer")) == 1


class _Limited:
    """Identifies every caller as one with these rights."""

    def __init__(self, *rights: Right) -> None:
        self._principal = Principal("default", rights=frozenset(rights))

    async def principal(self, headers: Headers) -> Principal:
        return self._principal


async def test_a_sender_provides_results_of_its_own_tools_and_no_others(fleet: Fleet) -> None:
    """Who may send a message brings its tools; decisions and results of the agent's tools need the right to approve."""
    session = fleet.session()
    message = 'CALL weather({})\nCALL long_job({"size": 3})\nTOGETHER'
    turn = waiting(ask(session, message, outside_tools=[{"name": "weather"}]))
    app = create_app(fleet.settings, authenticator=_Limited(Right.WRITE))
    path = f"/v1/sessions/{session.session_id}/turns/{turn.id}/approvals"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        assert (await http.post(f"{path}/call1", json={"action": "deny"})).status_code == 403
        assert (await http.post(f"{path}/call2", json={"action": "provide", "result": 1})).status_code == 403
        for _ in range(2):  # a repeat changes nothing
            assert (await http.post(f"{path}/call1", json={"action": "provide", "result": "rain"})).status_code == 204
    turn.provide("call2", "three rows")
    assert turn.result(timeout=30) == "ok: three rows"


@pytest.mark.parametrize("remote", [False, True])
def test_a_tool_is_approved_for_the_session(fleet: Fleet, tmp_path: Path, remote: bool) -> None:
    """Until that is revoked: for this tool, and in this session only."""
    user = f"ann-{uuid.uuid4().hex}"
    gateway = GatewayProcess(fleet.server, tmp_path).start() if remote else None
    try:
        where: dict[str, Any] = (
            {"settings": fleet.settings} if gateway is None else {"agent_url": f"{gateway.url}/agent"}
        )
        session = Session(uuid.uuid4().hex, user, **where)
        turn = waiting(ask(session, REFUND))
        turn.approve(turn.approvals()[0].call_id, always=True)
        assert turn.result(timeout=30) == "ok: refunded 90"
        assert session.approved_tools() == ["refund"]
        assert ask(session, REFUND).result(timeout=30) == "ok: refunded 90"
        other = waiting(ask(Session(uuid.uuid4().hex, user, **where), REFUND))
        other.cancel()
        assert (session.revoke_approval("refund"), session.revoke_approval("refund")) == (True, False)
        assert session.approved_tools() == []
        waiting(ask(session, REFUND)).cancel()
    finally:
        if gateway is not None:
            gateway.stop()


async def test_the_inbox_has_what_turns_of_all_sessions_wait_for(fleet: Fleet) -> None:
    """Of one user, or of the tenant: by the API, by REST, and by a remote session; answered there, it is gone."""
    ann, bob = f"ann-{uuid.uuid4().hex}", f"bob-{uuid.uuid4().hex}"
    turns = [ask(fleet.session(user_id=user), REFUND) for user in (ann, ann, bob)]
    own = ask(fleet.session(user_id=ann), "CALL weather({})", outside_tools=[{"name": "weather"}])
    for turn in (*turns, own):
        await asyncio.to_thread(waiting, turn)
    page = await Session.aapprovals(ann, settings=fleet.settings)
    assert {found.turn.id for found in page} == {turn.id for turn in turns[:2]}
    assert page.cursor is None
    newest = page.approvals[0]
    assert (newest.call.tool, newest.call.args, newest.user_id, newest.agent) == ("refund", {"amount": 90}, ann, "A")
    assert newest.message == REFUND
    assert newest.since < newest.expires_at
    (results,) = await Session.aapprovals(ann, kind="result", settings=fleet.settings)
    assert (results.turn.id, results.call.waits_for) == (own.id, SENDER)
    seen, cursor = [], None
    while True:
        small = await Session.aapprovals(ann, limit=1, cursor=cursor, settings=fleet.settings)
        seen += [found.turn.id for found in small]
        if (cursor := small.cursor) is None:
            break
    assert sorted(seen) == sorted(turn.id for turn in turns[:2])
    app = create_app(fleet.settings, authenticator=_Limited(*Right))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        answer = (await http.get("/v1/approvals", params={"limit": 1000})).json()
        found = {each["turn_id"]: each for each in answer["approvals"]}
        assert found.keys() >= {turn.id for turn in turns}
        links = found[newest.turn.id]["links"]
        assert (await http.post(links["answer"], json={"action": "deny", "reason": "no"})).status_code == 204
        assert (await http.get(links["turn"])).json()["id"] == newest.turn.id
        assert (await http.get("/v1/approvals", params={"cursor": "x"})).status_code == 422
        assert (await http.get("/v1/approvals", params={"kind": "turn"})).status_code == 422
    (last,) = await Session.aapprovals(ann, settings=fleet.settings)
    await last.turn.aapprove(last.call.call_id)
    assert await last.turn.aresult(timeout=30) == "ok: refunded 90"
    assert len(await Session.aapprovals(ann, settings=fleet.settings)) == 0
    for turn in (turns[2], own):
        await turn.acancel()


def test_the_inbox_on_the_command_line_and_at_a_gateway(fleet: Fleet, tmp_path: Path) -> None:
    """What both show is enough to answer: by the ids of the turn and the call."""
    user = f"ann-{uuid.uuid4().hex}"
    turn = waiting(ask(fleet.session(user_id=user), REFUND))
    gateway = GatewayProcess(fleet.server, tmp_path).start()
    try:
        (found,) = Session.approvals(user, agent_url=f"{gateway.url}/agent")
        assert (found.turn.id, found.call.tool, found.user_id) == (turn.id, "refund", user)
        command, env = [*CLI, "approvals", "--user", user], environment(fleet.server.url)
        shown = preloaded.run(command, env=env, timeout=60)
        assert all(text in shown.stdout for text in (turn.id, found.call.call_id, "refund"))
        plain = preloaded.run([*command, "--json"], env=env, timeout=60)
        (row,) = json.loads(plain.stdout)
        assert (row["turn_id"], row["call_id"], row["args"]) == (turn.id, found.call.call_id, {"amount": 90})
        found.turn.deny(found.call.call_id, "over budget")
    finally:
        gateway.stop()
    assert "over budget" in turn.result(timeout=30)
    assert "no turn waits for an answer" in preloaded.run(command, env=env, timeout=60).stdout
