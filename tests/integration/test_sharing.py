"""Sessions that several users share: who may read, who may write, and whose memories and tools a message uses."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from broker_config.settings import Settings
from sessions import Session, TurnStatus
from sessions.errors import BadRequest, NotFound, SessionExpired, SessionOwnerError, StateNotFoundError
from tests.integration.test_sealing import NEW
from tests.integration.test_session_lists_elsewhere import cli
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.servers import Server
from tests.support.waiting import wait_until

Open = Callable[..., Session]


@pytest.fixture(params=["local", "remote"])
def opened(request: pytest.FixtureRequest, fleet: Fleet, gateway_process: GatewayProcess) -> Open:
    """Opens one session for a user, from within the fleet or through a gateway."""
    session_id = f"shared-{uuid.uuid4().hex}"

    def make(user_id: str | None = None) -> Session:
        if request.param == "local":
            return fleet.session(session_id, user_id=user_id)
        return Session(session_id, user_id, agent_url=f"{gateway_process.url}/agent", timeout=30)

    return make


def refuses(call: Callable[[], object]) -> None:
    with pytest.raises(SessionOwnerError):
        call()


def test_a_session_is_the_owners_until_it_is_shared(opened: Open) -> None:
    """The error tells what its owner can do about it."""
    opened("ann").chat("SAY hello")
    with pytest.raises(SessionOwnerError, match=r"its owner can call share\('bob', 'read'\)"):
        opened("bob").history()
    opened("ann").share("bob")
    assert [m.text for m in opened("bob").history()] == ["SAY hello", "hello"]
    assert opened("ann").shared_with() == opened("bob").shared_with() == {"bob": "read"}
    refuses(lambda: opened("carl").history())


def test_a_reader_reads_everything_and_changes_nothing(opened: Open) -> None:
    """Turns, streams, state, checkpoints and context can be read; whatever writes is refused."""
    ann, bob = opened("ann"), opened("bob")
    turn = ann.Agent("A", tools=["refund"]).submit('CALL refund({"amount": 1})')
    ann.set_state("color", "red")
    checkpoint = ann.save_state()
    memory = ann.add_memory("likes tea", scope="session")
    ann.share("bob", "read")

    theirs = bob.turn(turn.id)
    wait_until(lambda: theirs.status is TurnStatus.WAITING, description="the turn waits")
    (call,) = theirs.approvals()
    assert (bob.get_state("color"), bob.checkpoints(), bob.get_context()["open_turns"]) == ("red", [checkpoint], 1)
    assert [m["text"] for m in bob.list_memory(scope="session")] == ["likes tea"]
    forked = bob.fork()
    assert forked.user_id == "bob"

    for refused in (
        lambda: bob.chat("hi"),
        lambda: bob.set_state("color", "blue"),
        bob.save_state,
        lambda: bob.restore_state(checkpoint),
        lambda: bob.add_memory("likes coffee", scope="session"),
        lambda: bob.delete_memory(memory),
        lambda: bob.submit_knowledge("a text", name="a.txt"),
        theirs.cancel,
        lambda: theirs.approve(call.call_id),
        lambda: theirs.deny(call.call_id),
        bob.delete,
        lambda: bob.share("carl"),
    ):
        refuses(refused)
    assert ann.get_state("color") == "red"
    assert theirs.status is TurnStatus.WAITING
    ann.turn(turn.id).cancel()


def test_a_writer_takes_part_and_does_not_own(opened: Open) -> None:
    """Messages, cancels, answers and state; but deleting and sharing stay the owner's."""
    ann, bob = opened("ann"), opened("bob")
    ann.chat("SAY hello")
    ann.share("bob", "write")
    assert bob.chat("SAY hi") == "hi"
    bob.set_state("color", "blue")
    assert ann.get_state("color") == "blue"
    turn = ann.Agent("A", tools=["refund"]).submit('CALL refund({"amount": 1})')
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the turn waits")
    bob.turn(turn.id).approve(turn.approvals()[0].call_id)
    assert turn.result(timeout=30) == "ok: refunded 1"
    refuses(bob.delete)
    refuses(lambda: bob.share("carl"))
    refuses(lambda: bob.unshare("bob"))


def test_a_writer_changes_encrypted_state(new_server: Server) -> None:
    """With encryption the client decides on the new value, so it checks the right itself before it reads."""
    settings = Settings(redis_url=new_server.url, encryption_keys=NEW)  # type: ignore[arg-type]
    ann, bob, carl = (Session("sealed", user, settings=settings) for user in ("ann", "bob", "carl"))
    ann.set_state("count", 1)
    ann.share("bob", "write")
    ann.share("carl", "read")
    assert bob.increment_state("count") == 2
    refuses(lambda: carl.increment_state("count"))
    assert carl.get_state("count") == 2


def test_a_message_works_for_the_user_who_sent_it(opened: Open) -> None:
    """Its tools see that user, and the transcript says who wrote it; the owner's memories stay the owner's."""
    ann, bob = opened("ann"), opened("bob")
    ann.chat("SAY hello")
    ann.set_state("user:plan", "ann's")
    ann.share("bob", "write")
    assert "'bob'" in str(bob.Agent("A", tools=["who_asks"]).chat("CALL who_asks()"))
    assert "ann's" not in str(bob.Agent("A", tools=["read_state"]).chat("CALL read_state()"))
    assert "ann's" in str(ann.Agent("A", tools=["read_state"]).chat("CALL read_state()"))
    senders = [message.user_id for message in ann.history() if message.role == "user"]
    assert senders == [None, "bob", "bob", None]


def test_a_backend_sends_messages_of_several_users(opened: Open) -> None:
    """One session object for all of them: `user_id=` says who speaks, and rights are checked as ever."""
    opened("ann").chat("SAY hello")
    opened("ann").share("bob", "write")
    agent = opened().Agent("A", tools=["who_asks"])
    assert "'ann'" in str(agent.chat("CALL who_asks()", user_id="ann"))
    assert "'bob'" in str(agent.chat("CALL who_asks()", user_id="bob"))
    refuses(lambda: agent.chat("hi", user_id="carl"))
    with pytest.raises(BadRequest, match="opened for user 'bob'"):
        opened("bob").Agent("A").chat("hi", user_id="ann")


def test_a_room_without_an_owner_takes_everybody(opened: Open) -> None:
    """Naming a sender does not make the session that user's."""
    agent = opened().Agent("A", tools=["who_asks"])
    for user in ("ann", "bob"):
        assert repr(user) in str(agent.chat("CALL who_asks()", user_id=user))
    with pytest.raises(BadRequest, match="has no owner"):
        opened().share("ann")


def test_the_end_of_sharing_is_immediate(opened: Open) -> None:
    """Unsharing says whether there was something to end."""
    ann, bob = opened("ann"), opened("bob")
    with pytest.raises(NotFound, match="there is no session"):
        ann.share("bob")
    ann.create()
    ann.share("bob", "write")
    ann.share("bob", "read")
    assert ann.shared_with() == {"bob": "read"}
    assert ann.unshare("bob") is True
    assert ann.unshare("bob") is False
    refuses(bob.history)
    assert ann.shared_with() == {}


def test_shared_sessions_are_listed_for_whom_they_are_shared_with(
    fleet: Fleet, gateway_process: GatewayProcess
) -> None:
    """The last used one first, until the sharing or the session ends; the user's own list has only its own."""
    bob, where = f"bob-{uuid.uuid4().hex}", {"agent_url": f"{gateway_process.url}/agent"}
    sessions = [fleet.session(f"{number}-{bob}", user_id="ann") for number in range(3)]
    for session in sessions:
        session.create()
        session.share(bob, "write")
    fleet.session(f"own-{bob}", user_id=bob).create()
    fleet.session(sessions[0].session_id, user_id=bob).chat("SAY hi")

    def listed(**options: Any) -> list[str]:
        local = [info.session_id for info in Session.list(bob, settings=fleet.settings, **options)]
        assert [info.session_id for info in Session.list(bob, **where, **options)] == local
        return local

    assert listed(shared=True) == [sessions[n].session_id for n in (0, 2, 1)]
    assert listed() == [f"own-{bob}"]
    sessions[2].unshare(bob)
    sessions[1].delete()
    assert listed(shared=True) == [sessions[0].session_id]
    assert Session.list("ann", shared=True, settings=fleet.settings).sessions == []
    with pytest.raises(BadRequest, match="pass user_id="):
        Session.list(shared=True, settings=fleet.settings)
    with pytest.raises(BadRequest, match="last_used"):
        listed(shared=True, order="created")


def test_the_command_line_shares(fleet: Fleet) -> None:
    """As the owner: share, show, list for the other user, unshare."""
    session_id = f"cli-{uuid.uuid4().hex}"
    fleet.session(session_id, user_id="ann").create()
    bob = f"bob-{session_id}"

    def run(*command: str) -> str:
        done = cli(fleet, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "may write" in run("share", session_id, bob, "--rights", "write")
    assert json.loads(run("show", session_id, "--json"))["shared_with"] == {bob: "write"}
    listed = json.loads(run("list", "--user", bob, "--shared", "--json"))
    assert [each["session_id"] for each in listed["sessions"]] == [session_id]
    assert "no longer shared" in run("unshare", session_id, bob)
    assert "was not shared" in run("unshare", session_id, bob)
    refused = cli(fleet, "share", session_id, bob, "--rights", "own")
    assert refused.returncode == 1
    assert "use 'read' or 'write'" in refused.stderr


def test_a_stale_entry_shows_no_foreign_session(fleet: Fleet) -> None:
    """A session expired and another user made one of the same id: the list of shared sessions does not show that."""
    bob, session_id = f"bob-{uuid.uuid4().hex}", uuid.uuid4().hex
    ann = fleet.session(session_id, user_id="ann", ttl=1)
    ann.create()
    ann.share(bob)
    wait_until(ann.is_expired, description="the session has expired")
    fleet.session(session_id, user_id="carl").create()
    assert Session.list(bob, shared=True, settings=fleet.settings).sessions == []


@pytest.mark.parametrize(("user", "rights"), [("", "read"), ("x" * 300, "read"), ("bob", "own"), ("bob", None)])
def test_wrong_arguments_are_refused(fleet: Fleet, user: str, rights: str) -> None:
    """Before anything is asked of the store."""
    with pytest.raises(BadRequest):
        fleet.session("x").share(user, rights)  # type: ignore[arg-type]


def test_a_share_ends_with_its_session(fleet: Fleet) -> None:
    """Deleting the session or its expiry leaves no right for a later session of the same id."""
    session_id = uuid.uuid4().hex
    ann = fleet.session(session_id, user_id="ann")
    ann.create()
    ann.share("bob", "write")
    ann.delete()
    refuses_new = fleet.session(session_id, user_id="ann", ttl=1)
    refuses_new.create()
    refuses(lambda: fleet.session(session_id, user_id="bob").history())
    refuses_new.share("bob", "write")
    wait_until(refuses_new.is_expired, description="the session has expired")
    with pytest.raises((SessionExpired, StateNotFoundError)):
        refuses_new.restore_state()
    fresh = fleet.session(session_id, user_id="carl")
    fresh.create()
    refuses(lambda: fleet.session(session_id, user_id="bob").history())


def test_tenants_do_not_see_each_others_shares(fleet: Fleet) -> None:
    """A session of the same id in another tenant is another session."""
    session_id = uuid.uuid4().hex
    ann = Session(session_id, "ann", settings=fleet.settings, tenant="one")
    ann.create()
    ann.share("bob", "write")
    other = Session(session_id, "ann", settings=fleet.settings, tenant="two")
    other.create()
    refuses(lambda: Session(session_id, "bob", settings=fleet.settings, tenant="two").history())


def test_a_shared_turn_survives_its_worker(new_fleet: Callable[..., Fleet]) -> None:
    """kill -9 in the middle of a turn of a user who does not own the session: it resumes as that user's."""
    fleet = new_fleet()
    workers = [fleet.start("first"), fleet.start("second")]
    fleet.ready()
    ann, bob = fleet.session("room", user_id="ann"), fleet.session("room", user_id="bob")
    ann.create()
    ann.share("bob", "write")
    turn = bob.Agent("A", tools=["who_asks", "linger"]).submit('CALL linger({"seconds": 60})\nCALL who_asks()')
    fleet.noted("linger", 1)
    ann.unshare("bob")  # what was accepted runs to its end
    next(worker for worker in workers if str(turn.record().worker).startswith(worker.name)).kill()
    refuses(bob.history)
    assert "'bob'" in str(ann.turn(turn.id).result(timeout=60))
    assert ann.history().messages[0].user_id == "bob"
