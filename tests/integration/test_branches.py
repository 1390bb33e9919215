"""Answers are regenerated, messages edited and turns deleted, on real workers: what the model sees, and what stays."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from sessions import EventType, Image, Session, Turn, TurnStatus
from sessions.errors import (
    BadRequest,
    HistoryChanged,
    IdempotencyConflict,
    InvalidTurnId,
    ModelError,
    SessionBusy,
    SessionOwnerError,
    TurnCancelled,
    TurnNotFound,
)
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem
from tests.support.waiting import wait_until

KEY = f"k:{base64.b64encode(bytes(range(32))).decode()}"


@pytest.fixture(params=["local", "remote"])
def session(request: pytest.FixtureRequest, fleet: Fleet) -> Session:
    """A session of the test's own, on the fleet itself or behind a gateway."""
    if request.param == "local":
        return fleet.session(uuid.uuid4().hex)
    gateway: GatewayProcess = request.getfixturevalue("gateway_process")
    return Session(uuid.uuid4().hex, agent_url=f"{gateway.url}/agent")


def said(session: Session, branch: str | None = None) -> list[str]:
    """The texts of the transcript, or of a branch."""
    return [message.text for message in session.history(branch=branch)]


def talk(session: Session, *messages: str) -> list[Turn]:
    """Send messages one after the other; returns their turns."""
    turns = [session.Agent("A").submit(message) for message in messages]
    for turn in turns:
        turn.result(timeout=40)
    return turns


def test_an_answer_is_regenerated(session: Session) -> None:
    """The same message to the same agent, which sees what was before it; both are paid for; the old answer is kept."""
    first, second = talk(session, "SAY one", "RECITE")
    before = session.get_context()
    assert session.regenerate() == "SAY one | one"
    assert said(session) == ["SAY one", "one", "RECITE", "SAY one | one"]
    (branch,) = session.branches()
    newest = session.history(1, order="newest").messages[0]
    assert (branch.id, branch.replaced_by, branch.turns, branch.messages) == (second.id, newest.turn_id, 1, 2)
    assert branch.left_at >= newest.at
    assert said(session, branch.id) == ["SAY one", "one", "RECITE", "SAY one | one"]
    assert [message.turn_id for message in session.history(branch=branch.id)] == [first.id] * 2 + [second.id] * 2
    after = session.get_context()
    assert after["message_count"] == before["message_count"] == 4
    assert after["requests"] == before["requests"] + 1
    assert second.result() == "SAY one | one"


def test_a_message_is_edited(session: Session) -> None:
    """All turns from there on leave; the other branch can be read in pages; the next turn sees the new one only."""
    first, second, _ = talk(session, "SAY one", "SAY two", "SAY three")
    assert session.regenerate(second.id, "SAY 2") == "2"
    assert session.Agent("A").chat("RECITE") == "SAY one | one | SAY 2 | 2"
    assert said(session, second.id) == ["SAY one", "one", "SAY two", "two", "SAY three", "three"]
    page = session.history(2, order="newest", branch=second.id)
    assert [message.text for message in page] == ["SAY two", "two", "SAY three", "three"]
    rest = session.history(2, order="newest", branch=second.id, cursor=page.cursor)
    assert [message.text for message in rest] == ["SAY one", "one"]
    assert session.regenerate(first.id, "SAY 1") == "1"
    assert said(session) == ["SAY 1", "1"]
    assert [branch.turns for branch in session.branches()] == [2, 3]
    assert said(session, second.id) == ["SAY one", "one", "SAY two", "two", "SAY three", "three"]
    assert said(session, first.id) == ["SAY one", "one", "SAY 2", "2", "RECITE", "SAY one | one | SAY 2 | 2"]
    assert session.get_context()["message_count"] == 2


def test_a_new_answer_is_streamed(session: Session) -> None:
    """`submit_regenerate` returns a turn like any other."""
    talk(session, "SAY a b c")
    turn = session.submit_regenerate(stream=True)
    assert "".join(event.text for event in turn.events() if event.type is EventType.TEXT_DELTA) == "a b c"
    assert turn.result(timeout=20) == "a b c"
    assert len(said(session)) == 2


def test_another_agent_answers(session: Session) -> None:
    """With a typed answer; otherwise the agent of the replaced turn answers, as the session knows it."""

    class Plan(BaseModel):
        day: str

    session.Agent("Planner", instructions="Plan.", output_type=Plan).chat('PLAN {"day": "Monday"}')
    planner = session.Agent("Planner", instructions="Plan.", output_type=Plan)
    assert session.regenerate(message='PLAN {"day": "Friday"}', agent=planner) == Plan(day="Friday")
    assert session.regenerate() == {"day": "Friday"}
    assert session.regenerate(message="SAY hi", agent="B") == "hi"
    assert session.history().messages[0].agent == "B"
    assert session.regenerate() == "hi"
    assert session.history().messages[0].agent == "B"


def test_nothing_changes_if_the_new_turn_fails_or_is_cancelled(session: Session) -> None:
    """Neither history nor state nor count; what it cost is counted."""
    agent = session.Agent("A", tools=["tally", "refund"])
    agent.chat("SAY one")
    last = agent.submit("SAY two")
    last.result(timeout=40)
    before = session.get_context()
    with pytest.raises(ModelError):
        session.regenerate(message='CALL tally({"key": "n"})\nFAIL_AFTER 1 400 99', agent=agent)
    waiting = session.submit_regenerate(last.id, 'CALL refund({"amount": 3})', agent=agent)
    wait_until(waiting.approvals, description="it waits for a person")
    waiting.cancel()
    with pytest.raises(TurnCancelled):
        waiting.result(timeout=40)
    interrupted = session.submit_regenerate(last.id, "SLEEP 30", agent=agent)
    wait_until(lambda: interrupted.status is TurnStatus.RUNNING, description="it runs")
    assert agent.chat("RECITE", policy="interrupt", timeout=40) == "SAY one | one | SAY two | two"
    with pytest.raises(TurnCancelled):
        interrupted.result(timeout=40)
    assert session.branches() == []
    assert said(session)[:4] == ["SAY one", "one", "SAY two", "two"]
    assert session.get_state() == {}
    after = session.get_context()
    assert after["message_count"] == before["message_count"] + 2
    assert after["requests"] > before["requests"] + 2


def test_a_failed_turn_is_sent_again(session: Session) -> None:
    """What it left in the history is replaced, too."""
    message = f"FAIL 400 1\nONCE {session.session_id}"
    with pytest.raises(ModelError):
        session.Agent("A").chat(message)
    assert [each.incomplete for each in session.history()] == ["failed"]
    assert session.regenerate() == "ok"
    assert [(each.text, each.incomplete) for each in session.history()] == [(message, ""), ("ok", "")]


def test_a_turn_is_replaced_once(session: Session) -> None:
    """Of two that are accepted for it, the second one fails and writes nothing; later ones are refused."""
    (turn,) = talk(session, "SAY one")
    first = session.submit_regenerate(turn.id, "SLEEP 0.5\nSAY two")
    second = session.submit_regenerate(turn.id, "SAY three")
    assert first.result(timeout=40) == "two"
    with pytest.raises(HistoryChanged, match="was replaced by turn"):
        second.result(timeout=40)
    assert said(session)[1:] == ["two"]
    with pytest.raises(TurnNotFound, match="was replaced by another turn"):
        session.regenerate(turn.id)


def test_if_the_first_fails_the_second_replaces(session: Session) -> None:
    """Nothing changed, so the turn is where it was."""
    (turn,) = talk(session, "SAY one")
    first = session.submit_regenerate(turn.id, f"FAIL 400 1\nONCE {session.session_id}")
    second = session.submit_regenerate(turn.id, "SAY three")
    with pytest.raises(ModelError):
        first.result(timeout=40)
    assert second.result(timeout=40) == "three"
    assert said(session) == ["SAY three", "three"]


def test_turns_accepted_before_it_come_first(session: Session) -> None:
    """A turn that is named is replaced with what was committed since; the last one only as long as it is that."""
    (turn,) = talk(session, "SAY one")
    busy = session.Agent("A").submit("SLEEP 0.5\nSAY between")
    strict = session.submit_regenerate(message="SAY strict")
    named = session.submit_regenerate(turn.id, "SAY named")
    behind = session.Agent("A").submit("RECITE")
    assert busy.result(timeout=40) == "between"
    with pytest.raises(HistoryChanged, match="no longer the last one"):
        strict.result(timeout=40)
    assert named.result(timeout=40) == "named"
    assert behind.result(timeout=40) == "SAY named | named"
    (branch,) = session.branches()
    assert (branch.id, branch.turns) == (turn.id, 2)
    assert said(session, turn.id) == ["SAY one", "one", "SLEEP 0.5\nSAY between", "between"]


def test_a_running_turn_is_interrupted_for_it(session: Session) -> None:
    """With a turn to replace, what the interrupted one left goes with it; without, the last turn is another one."""
    (turn,) = talk(session, "SAY one")
    running = session.Agent("A").submit("SLEEP 30")
    wait_until(lambda: running.status is TurnStatus.RUNNING, description="it runs")
    assert session.regenerate(turn.id, "SAY two", policy="interrupt", timeout=40) == "two"
    assert running.status is TurnStatus.CANCELLED
    assert said(session) == ["SAY two", "two"]
    assert said(session, turn.id) == ["SAY one", "one", "SLEEP 30"]
    again = session.Agent("A").submit("SLEEP 30")
    wait_until(lambda: again.status is TurnStatus.RUNNING, description="it runs")
    with pytest.raises(HistoryChanged, match="no longer the last one"):
        session.regenerate(policy="interrupt", timeout=40)
    assert [message.incomplete for message in session.history()] == ["", "", "cancelled"]
    assert session.regenerate(message="SAY three") == "three"


def test_what_waits_for_an_answer_keeps_its_history(session: Session) -> None:
    """A turn that let others pass would be replayed with another history; one that saw none of it does no harm."""
    agent = session.Agent("A", tools=["refund"])
    agent.chat("SAY one")
    two = agent.submit("SAY two")
    two.result(timeout=40)
    waiting = agent.submit('CALL refund({"amount": 3})', waiting_blocks=False)
    wait_until(waiting.approvals, description="it waits for a person")
    three = agent.submit("SAY three")
    three.result(timeout=40)
    with pytest.raises(HistoryChanged, match="answer or cancel that one first"):
        session.regenerate(two.id, timeout=40)
    with pytest.raises(SessionBusy, match="builds on"):
        session.delete_turn(two.id)
    assert session.regenerate(three.id, "SAY 3") == "3"
    waiting.approve(waiting.approvals()[0].call_id)
    assert waiting.result(timeout=40) == "ok: refunded 3"
    assert session.regenerate(two.id) == "two"
    assert said(session) == ["SAY one", "one", "SAY two", "two"]


def test_a_repeat_under_the_same_key_is_the_same_turn(session: Session) -> None:
    """Also when the turn that it replaced has left the history, and when another turn is the last one by now."""
    (turn,) = talk(session, "SAY one")
    named = session.submit_regenerate(turn.id, idempotency_key="k1")
    named.result(timeout=40)
    assert session.submit_regenerate(turn.id, idempotency_key="k1").id == named.id
    last = session.submit_regenerate(idempotency_key="k2")
    last.result(timeout=40)
    talk(session, "SAY two")
    assert session.submit_regenerate(idempotency_key="k2").id == last.id
    with pytest.raises(IdempotencyConflict):
        session.submit_regenerate(message="SAY other", idempotency_key="k2")
    assert said(session) == ["SAY one", "one", "SAY two", "two"]


def test_arguments_are_checked(session: Session) -> None:
    """Each with an error that says what to do; nothing is accepted."""
    with pytest.raises(TurnNotFound, match="no committed turn"):
        session.regenerate()
    other = f"{uuid.uuid4().hex}~{uuid.uuid4().hex}"
    for call in (session.regenerate, session.delete_turn):
        with pytest.raises(InvalidTurnId):
            call(other)
    with pytest.raises(BadRequest, match="steer"):
        session.regenerate(policy="steer")
    with pytest.raises(BadRequest, match="waiting_blocks"):
        session.regenerate(waiting_blocks=False)
    with pytest.raises(TurnNotFound, match="has no branch"):
        session.history(branch=f"{session.session_id}~{uuid.uuid4().hex}")
    with pytest.raises(TypeError, match="did you mean 'metadata'"):
        session.regenerate(metadat={})  # type: ignore[call-arg]


def test_files_are_sent_again_and_replaced(session: Session, fleet: Fleet) -> None:
    """The same message has the same files; an edited one has its own, which count for its idempotency key."""
    agent, message = session.Agent("A"), f"SAY {uuid.uuid4().hex[:12]}"
    red, blue = (Image(colour * 40, media_type="image/png", name=f"{colour[:1]!r}.png") for colour in (b"r", b"b"))
    agent.chat([message, red], timeout=40)
    session.regenerate(timeout=40)
    session.regenerate(message=[message, blue], idempotency_key="k", timeout=40)
    seen = [line["files"] for line in fleet.ledger("model_started", prompt=message)]
    assert seen[0] == seen[1]
    assert [len(files) for files in seen] == [1, 1, 1]
    assert seen[2] != seen[0]
    with pytest.raises(IdempotencyConflict):
        session.submit_regenerate(message=[message, red], idempotency_key="k")
    session.submit_regenerate(message=[message, blue], idempotency_key="k").result(timeout=20)
    assert len(session.branches()) == 2


def test_middleware_hears_of_it(fleet: Fleet) -> None:
    """With the message that was sent, also when it is that of the replaced turn."""
    heard: list[tuple[str, Any]] = []

    def listen(message: str, response: Any) -> str:
        heard.append((message, response))
        return f"<{response}>"

    session = fleet.session(uuid.uuid4().hex, middleware=[listen])
    talk(session, "SAY one")
    assert session.regenerate() == "<one>"
    assert session.regenerate(message="SAY two") == "<two>"
    assert heard == [("SAY one", "one"), ("SAY two", "two")]


def test_a_session_that_steers_enqueues_it(fleet: Fleet) -> None:
    """A turn that replaces another one cannot join the running turn."""
    session = fleet.session(uuid.uuid4().hex, policy="steer", waiting_blocks=False)
    talk(session, "SAY one")
    assert session.regenerate() == "one"


def test_a_conversation_goes_on_from_a_branch(session: Session) -> None:
    """A fork at a turn that was replaced has what was before it then."""
    first, second, third = talk(session, "SAY one", "SAY two", "SAY three")
    session.regenerate(second.id, "SAY 2")
    session.regenerate(first.id, "SAY 1")
    forked = session.fork(at=third.id)
    assert said(forked) == ["SAY one", "one", "SAY two", "two", "SAY three", "three"]
    assert said(session.fork(at=second.id)) == ["SAY one", "one", "SAY two", "two"]
    assert forked.Agent("A").chat("RECITE").startswith("SAY one | one | SAY two")


# --- deleting ---------------------------------------------------------------------------------------------


def test_a_turn_is_deleted(session: Session, fleet: Fleet) -> None:
    """From the history, with its record, and its copy in a branch; nothing of it is left in the store."""
    first, second, third = talk(session, "SAY one", "SAY two", "SAY three")
    session.regenerate(third.id, "SAY 3")
    assert session.delete_turn(second.id)["messages"] == 2
    assert said(session) == ["SAY one", "one", "SAY 3", "3"]
    assert said(session, third.id) == ["SAY one", "one", "SAY three", "three"]
    assert session.delete_turn(third.id)["messages"] == 2
    assert session.branches() == []
    assert session.delete_turn(third.id) == {"keys": 0, "messages": 0}
    context = session.get_context()
    assert (context["message_count"], context["turns"]) == (4, 2)
    with pytest.raises(TurnNotFound):
        second.record()
    assert session.Agent("A").chat("RECITE") == "SAY one | one | SAY 3 | 3"
    with fleet.server.client() as store:
        keys = [*store.scan_iter(f"*{session.session_id}*", count=1000)]
        parts = [turn.id.partition("~")[2].encode() for turn in (second, third)]
        assert [key for key in keys if any(part in key for part in parts)] == []
    assert first.result() == "one"


def test_the_title_goes_with_its_message(session: Session) -> None:
    """It is the beginning of the first message, unless somebody has chosen one."""
    (turn,) = talk(session, "SAY secret")
    assert session.info().title == "SAY secret"
    forked = session.fork()
    session.delete_turn(turn.id)
    assert session.info().title == ""
    assert forked.info().title == "SAY secret"
    forked.delete_turn(forked.history().messages[0].turn_id)
    assert forked.info().title == ""
    (turn,) = talk(session, "SAY next")
    assert session.info().title == "SAY next"
    session.update(title="Chosen")
    session.delete_turn(turn.id)
    assert session.info().title == "Chosen"


def test_an_open_turn_is_not_deleted(session: Session) -> None:
    """Nor one that it has seen; the next moment it can be."""
    first, second = talk(session, "SAY one", "SAY two")
    running = session.Agent("A").submit("SLEEP 2")
    wait_until(lambda: running.status is TurnStatus.RUNNING, description="it runs")
    with pytest.raises(SessionBusy, match="is running"):
        session.delete_turn(running.id)
    with pytest.raises(SessionBusy, match="builds on"):
        session.delete_turn(first.id)
    running.cancel()
    with pytest.raises(TurnCancelled):
        running.result(timeout=40)
    assert session.delete_turn(second.id)["messages"] == 2


def test_a_deleted_turn_is_not_replaced(session: Session) -> None:
    """A regeneration that was accepted before finds it gone; one of a later turn finds its turn where it is now."""
    first, second, third = talk(session, "SAY one", "SAY two", "SAY three")
    of_second = session.submit_regenerate(second.id, "SAY 2", not_before=1.5)
    of_third = session.submit_regenerate(third.id, "SAY 3", not_before=1.5)
    session.delete_turn(second.id)
    session.delete_turn(first.id)
    with pytest.raises(HistoryChanged, match="was deleted"):
        of_second.result(timeout=40)
    assert of_third.result(timeout=40) == "3"
    assert said(session) == ["SAY 3", "3"]


# --- promises ---------------------------------------------------------------------------------------------


def test_other_users_see_and_change_nothing(fleet: Fleet, gateway_process: GatewayProcess) -> None:
    """Of the same session id; over HTTP it is 403."""
    ann = fleet.session(uuid.uuid4().hex, user_id="ann")
    (turn,) = talk(ann, "SAY one")
    ann.regenerate(turn.id, "SAY two")
    bob = fleet.session(ann.session_id, user_id="bob")
    newest = ann.history().messages[0].turn_id
    for call in (
        bob.regenerate,
        lambda: bob.regenerate(newest),
        lambda: bob.delete_turn(newest),
        bob.branches,
        lambda: bob.history(branch=turn.id),
    ):
        with pytest.raises(SessionOwnerError):
            call()
    with gateway_process.client() as http:
        path, headers = f"/v1/sessions/{ann.session_id}", {"X-User-ID": "bob"}
        problem(http.post(f"{path}/regenerate", headers=headers), 403, "SessionOwnerError")
        problem(http.get(f"{path}/branches", headers=headers), 403, "SessionOwnerError")
        problem(http.delete(f"{path}/turns/{newest}", headers=headers), 403, "SessionOwnerError")
    assert said(ann) == ["SAY two", "two"]


def test_over_http(fleet: Fleet, gateway_process: GatewayProcess) -> None:
    """Accepted with 202, or 200 with the answer; branches, their messages; deletion; errors."""
    with gateway_process.client() as http:
        path = f"/v1/sessions/{uuid.uuid4().hex}"
        wait = {"Prefer": "wait=30"}
        first = good(http.post(f"{path}/turns", json={"message": "SAY one"}, headers=wait))
        new = http.post(f"{path}/regenerate", json={"message": "SAY two"}, headers=wait)
        assert good(new)["result"] == "two"
        again = http.post(f"{path}/regenerate", headers=wait)
        assert good(again)["result"] == "two"
        branches = good(http.get(f"{path}/branches"))["branches"]
        assert [branch["id"] for branch in branches] == [first["id"], good(new)["id"]]
        read = good(http.get(f"{path}/messages", params={"branch": first["id"]}))
        assert [message["text"] for message in read["messages"]] == ["SAY one", "one"]
        assert good(http.delete(f"{path}/turns/{first['id']}"))["messages"] == 2
        assert good(http.delete(f"{path}/turns/{first['id']}")) == {"keys": 0, "messages": 0}
        problem(http.get(f"{path}/messages", params={"branch": first["id"]}), 404, "TurnNotFound")
        problem(http.post(f"{path}/regenerate", json={"turn_id": first["id"]}), 404, "TurnNotFound")
        problem(http.post(f"{path}/regenerate", json={"policy": "steer"}), 422, "BadRequest")
        problem(http.delete(f"{path}/turns/other~{'0' * 32}"), 404, "InvalidTurnId")


def _killed_in_the_middle(fleet: Fleet, turn: Turn) -> None:
    """kill -9 of the worker that runs it, while it waits for its model; another one is there."""
    fleet.noted("hung")
    worker = turn.record().worker
    assert worker is not None
    next(each for each in fleet.workers if each.name == worker.partition("@")[0]).kill()


@pytest.mark.parametrize("keys", [None, KEY], ids=["plain", "sealed"])
def test_a_worker_dies_in_the_middle(new_fleet: Callable[..., Fleet], keys: str | None) -> None:
    """The next one sees the same history, does no completed step again, and replaces the turns once."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1", **({} if keys is None else {"SESSIONFLEET_ENCRYPTION_KEYS": keys}))
    for name in ("one", "two"):
        fleet.start(name)
    fleet.ready()
    session = fleet.session(uuid.uuid4().hex)
    agent = session.Agent("A", tools=["charge"])
    agent.chat("SAY one", timeout=40)
    second = agent.submit("SAY two")
    agent.submit("SAY three").result(timeout=40)
    turn = session.submit_regenerate(second.id, 'CALL charge({"amount": 7})\nHANG 1 60\nRECITE', agent=agent)
    behind = agent.submit("SAY behind")
    _killed_in_the_middle(fleet, turn)
    assert said(session) == ["SAY one", "one", "SAY two", "two", "SAY three", "three"]
    assert turn.result(timeout=40).startswith("SAY one | one")
    assert "two" not in turn.result()
    assert turn.record().attempt == 2
    assert len(fleet.ledger("charge")) == 1
    assert behind.result(timeout=40) == "behind"
    assert [message.turn_id for message in session.history() if message.role == "user"][1:] == [turn.id, behind.id]
    assert [branch.turns for branch in session.branches()] == [2]
    assert said(session, second.id) == ["SAY one", "one", "SAY two", "two", "SAY three", "three"]
    if keys is not None:
        with fleet.server.client() as store:
            for name in ("history", "left"):
                assert all(b"SAY" not in raw for raw in store.lrange(f"{session.keys.base}:{name}", 0, -1))
    session.delete()
    with fleet.server.client() as store:
        assert [key for key in store.scan_iter(f"*{session.session_id}*", count=1000) if b":op:" not in key] == []


def test_branches_expire_with_their_session(fleet: Fleet) -> None:
    """All keys at the same time; while a turn is open none does."""
    session = fleet.session(uuid.uuid4().hex, ttl=600)
    (turn,) = talk(session, "SAY one")
    session.regenerate(turn.id, "SAY two")
    with fleet.server.client() as store:
        base = session.keys.base
        times = {store.pexpiretime(f"{base}:{name}") for name in ("meta", "history", "left", "branches")}
        assert len(times) == 1
        assert times.pop() > time.time() * 1000
        running = session.submit_regenerate(message="SLEEP 1")
        assert {store.pexpiretime(f"{base}:{name}") for name in ("history", "left", "branches")} == {-1}
        running.result(timeout=40)
        assert store.pexpiretime(f"{base}:left") == store.pexpiretime(f"{base}:history") > 0


def test_what_was_replaced_is_sent_again_after_its_record_expired(fleet: Fleet) -> None:
    """The message then comes from the history."""
    session = fleet.session(uuid.uuid4().hex)
    (turn,) = talk(session, "SAY one")
    with fleet.server.client() as store:
        store.delete(session.keys.turn(turn.id.partition("~")[2]))
    assert session.regenerate() == "one"
    forked = session.fork()
    assert forked.regenerate() == "one"
    assert [branch.turns for branch in forked.branches()] == [1]
