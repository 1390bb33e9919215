"""Shared sessions and the other features: what a reader may not touch, and for whom a message works."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from sessions import Image, Session, TurnStatus
from sessions.errors import IdempotencyConflict
from tests.integration.test_schedules import NEVER_SOON, tick
from tests.integration.test_sharing import Open, opened, refuses
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

__all__ = ["opened"]

HERON = Image(b"\x89PNG a heron", media_type="image/png", name="heron.png")
OTHER = Image(b"\x89PNG another heron", media_type="image/png", name="other.png")


def test_a_reader_changes_nothing_of_what_else_a_session_has(opened: Open) -> None:
    """Files, schedules, titles, branches, single turns and documents."""
    ann, bob = opened("ann"), opened("bob")
    turn = ann.Agent("A").submit("SAY hello")
    turn.result(timeout=30)
    file = ann.upload(HERON)
    schedule = ann.schedule(NEVER_SOON, "SAY tick", schedule_id="s")
    ann.share("bob", "read")
    theirs = bob.get_schedule("s")
    assert bob.read_file(file.id)
    for refused in (
        lambda: bob.upload(OTHER),
        lambda: bob.delete_file(file.id),
        lambda: bob.chat(["look", OTHER]),
        lambda: bob.schedule(NEVER_SOON, "SAY mine"),
        theirs.trigger,
        theirs.pause,
        theirs.delete,
        lambda: theirs.update(message="SAY theirs"),
        bob.regenerate,
        lambda: bob.delete_turn(turn.id),
        lambda: bob.update(title="mine"),
        lambda: list(bob.turn(turn.id).attend()),
        lambda: bob.delete_knowledge("x"),
        bob.clear_knowledge,
    ):
        refuses(refused)
    assert [each.id for each in ann.files()] == [file.id]
    assert ann.get_schedule("s").info == schedule.info
    assert [message.text for message in ann.history()] == ["SAY hello", "hello"]


def test_what_a_writer_has_a_schedule_say_is_said_by_the_writer(opened: Open, fleet: Fleet) -> None:
    """Else a writer could have the owner's tools and memories work for a message of the writer's."""
    ann, bob = opened("ann"), opened("bob")
    ann.create()
    ann.share("bob", "write")
    ann.schedule(NEVER_SOON, "CALL who_asks()", agent=ann.Agent("A", tools=["who_asks"]), schedule_id="s")

    def said() -> str:
        before = ann.get_schedule("s").info.last_turn_id
        tick(fleet, ann.session_id, "s")
        wait_until(lambda: ann.get_schedule("s").info.last_turn_id != before, description="the tick has a turn")
        return str(ann.turn(str(ann.get_schedule("s").info.last_turn_id)).result(timeout=30))

    bob.get_schedule("s").update(overlap="queue")
    assert "'ann'" in said()
    bob.get_schedule("s").update(message="CALL who_asks()")
    assert "'bob'" in said()
    opened().get_schedule("s").update(message="CALL who_asks()")  # a trusted backend speaks for nobody
    assert "'bob'" in said()


def test_a_message_joins_only_a_turn_of_its_own_user(opened: Open) -> None:
    """A turn works for the user who started it, so what another one says is a turn of its own."""
    ann, bob = opened("ann"), opened("bob")
    ann.create()
    ann.share("bob", "write")
    turn = ann.Agent("A", tools=["linger"]).submit('CALL linger({"seconds": 2})\nSAY done')
    wait_until(lambda: turn.status is TurnStatus.RUNNING, description="the turn runs")
    other = bob.Agent("A", tools=["who_asks"]).submit("CALL who_asks()", policy="steer")
    assert opened().Agent("A").submit("SAY as the owner", policy="steer").id == turn.id
    assert other.id != turn.id
    assert "'bob'" in str(other.result(timeout=30))


def test_an_idempotency_key_is_its_users(opened: Open) -> None:
    """Two users who number their requests do not get the answers of one another."""
    ann, bob = opened("ann"), opened("bob")
    ann.create()
    ann.share("bob", "write")
    first = ann.Agent("A").submit("SAY yes", idempotency_key="1")
    with pytest.raises(IdempotencyConflict, match="another user"):
        bob.Agent("A").submit("SAY yes", idempotency_key="1")
    assert ann.Agent("A").submit("SAY yes", idempotency_key="1").id == first.id
    assert opened().Agent("A").submit("SAY yes", idempotency_key="1").id == first.id


def test_a_message_that_is_sent_again_is_still_its_users(opened: Open) -> None:
    """If a backend that names nobody regenerates it; a user who regenerates it speaks for itself."""
    ann, room = opened("ann"), opened()
    ann.create()
    ann.share("carl", "write")
    room.Agent("A", tools=["who_asks"]).chat("CALL who_asks()", user_id="carl")
    turn = room.submit_regenerate(idempotency_key="again")
    assert "'carl'" in str(turn.result(timeout=30))
    ann.share("dora", "write")
    room.Agent("A").chat("SAY more", user_id="dora")
    assert room.submit_regenerate(idempotency_key="again").id == turn.id
    room.delete_turn(ann.history().messages[-1].turn_id)
    assert "'ann'" in str(room.regenerate(user_id="ann"))
    assert "'carl'" in str(opened("carl").regenerate())
    assert "'ann'" in str(ann.regenerate())


def test_the_record_of_an_expired_session_is_still_its_users(opened: Open, fleet: Fleet) -> None:
    """A turn's record lives longer than its session. Deleting it begins no new session."""
    ann = fleet.session(opened("ann").session_id, user_id="ann", ttl=1)
    turn = ann.Agent("A").submit("SAY hello")
    turn.result(timeout=30)
    wait_until(ann.is_expired, description="the session has expired")
    refuses(lambda: opened("bob").delete_turn(turn.id))
    assert ann.turn(turn.id).result() == "hello"
    assert opened("ann").delete_turn(turn.id)["keys"] == 2
    with fleet.server.client() as store:
        assert not store.exists(ann.keys.meta)


def test_an_accepted_turn_keeps_its_files_after_the_end_of_sharing(opened: Open) -> None:
    """It runs to its end, with what its tools return."""
    ann, bob = opened("ann"), opened("bob")
    ann.create()
    ann.share("bob", "write")
    agent = bob.Agent("A", tools=["linger", "draw"])
    turn = agent.submit('CALL linger({"seconds": 2})\nCALL draw({"text": "x"})\nSAY done')
    wait_until(lambda: turn.status is TurnStatus.RUNNING, description="the turn runs")
    ann.unshare("bob")
    ann.turn(turn.id).result(timeout=30)
    assert len(ann.files()) == 1


def test_a_refused_message_leaves_no_file(fleet: Fleet) -> None:
    """A backend names the sender, who may not write."""
    ann = fleet.session(uuid.uuid4().hex, user_id="ann")
    ann.create()
    ann.share("bob", "read")
    refuses(lambda: fleet.session(ann.session_id).chat(["look", HERON], user_id="bob"))
    assert ann.files() == []


def test_nothing_of_a_deleted_user_still_runs_in_a_shared_session(fleet: Fleet) -> None:
    """Schedules and turns for later would bring back what was deleted. The owner's stay."""
    bob_id = f"bob-{uuid.uuid4().hex}"
    ann = fleet.session(uuid.uuid4().hex, user_id="ann")
    bob = fleet.session(ann.session_id, user_id=bob_id)
    ann.create()
    ann.share(bob_id, "write")
    bob.schedule(NEVER_SOON, "SAY bob", schedule_id="b")
    ann.schedule(NEVER_SOON, "SAY ann", schedule_id="a")
    theirs, own = (each.Agent("A").submit("SAY later", not_before=3600) for each in (bob, ann))
    Session.delete_user(bob_id, settings=fleet.settings)
    assert [schedule.schedule_id for schedule in ann.schedules()] == ["a"]
    assert (ann.turn(theirs.id).status, own.status) == (TurnStatus.CANCELLED, TurnStatus.QUEUED)
    assert ann.shared_with() == {}
    ann.delete()


def test_pruning_keeps_a_session_with_an_active_schedule(fleet: Fleet) -> None:
    """It waits for its next tick, which may be far away; once it is paused, nothing does."""
    user = f"ann-{uuid.uuid4().hex}"
    session = fleet.session(uuid.uuid4().hex, user_id=user)
    schedule = session.schedule(NEVER_SOON, "SAY tick")
    soon = datetime.now(UTC) + timedelta(minutes=5)
    assert Session.prune(soon, user, settings=fleet.settings)["sessions"] == 0
    schedule.pause()
    assert Session.prune(soon, user, settings=fleet.settings)["sessions"] == 1


def test_a_fork_says_who_said_what(opened: Open) -> None:
    """A message without a sender is the owner's, and the fork has another owner."""
    ann, bob = opened("ann"), opened("bob")
    ann.chat("SAY one")
    ann.share("bob", "write")
    bob.chat("SAY two")
    fork = bob.fork()
    assert [m.user_id for m in fork.history() if m.role == "user"] == ["ann", None]
    assert [m.user_id for m in ann.fork().history() if m.role == "user"] == [None, "bob"]
