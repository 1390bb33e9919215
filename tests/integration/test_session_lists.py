"""Lists of sessions, with real workers: who sees what, what is shown, and what crashes and expiry leave of it."""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sessions import AgentTeam, Session, SessionPage, Task
from sessions.errors import BadRequest, NotFound, SessionExpired, SessionOwnerError
from sessions.store.keys import INDEXED
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server
from tests.support.waiting import wait_until

KEYS = f"k1:{base64.b64encode(bytes(range(32))).decode()}"


def new_name() -> str:
    return uuid.uuid4().hex[:12]


def pages(fleet: Fleet, user: str | None, **options: object) -> list[SessionPage]:
    found = [Session.list(user, settings=fleet.settings, **options)]  # type: ignore[arg-type]
    while found[-1].cursor is not None:
        found.append(Session.list(user, settings=fleet.settings, cursor=found[-1].cursor, **options))  # type: ignore[arg-type]
    return found


def ids(page: SessionPage) -> list[str]:
    return [info.session_id for info in page]


def test_a_user_s_sessions_with_what_a_sidebar_shows(fleet: Fleet) -> None:
    """Title, owner, times and counts; the last used first."""
    ann, begun = new_name(), datetime.now(UTC) - timedelta(seconds=60)
    first, second = (fleet.session(f"{ann}-{n}", user_id=ann) for n in (1, 2))
    first.Agent("A").chat("SAY one two\nand more of this")
    second.Agent("A").chat("SAY x " + "word " * 100)
    first.Agent("A").chat("SAY again")
    page = Session.list(ann, settings=fleet.settings)
    assert (ids(page), page.cursor, page.complete) == ([first.session_id, second.session_id], None, True)
    shown = page.sessions[0]
    assert (shown.title, shown.user_id, shown.turns, shown.messages) == ("SAY one two and more of this", ann, 2, 4)
    assert (shown.open_turns, shown.requests, shown.queue, shown.expires_at) == (0, 2, "turns", None)
    assert shown.input_tokens > 0
    assert shown.output_tokens > 0
    assert begun < shown.created_at < shown.last_used_at
    assert shown == first.info()
    assert page.sessions[1].title.endswith("word…")
    assert ids(Session.list(ann, order="created", settings=fleet.settings)) == [second.session_id, first.session_id]
    assert asyncio.run(Session.alist(ann, settings=fleet.settings)) == page


def test_pages_filters_and_bad_arguments(fleet: Fleet) -> None:
    """Pages have each session once; filters read on until a page is full."""
    ann = new_name()
    for number in range(12):
        session = fleet.session(f"{ann}-{number:02}", user_id=ann)
        assert session.create(title=f"number {number}", metadata={"third": number % 3 == 0, "n": number})
    newest = [f"{ann}-{number:02}" for number in reversed(range(12))]
    assert [ids(page) for page in pages(fleet, ann, limit=5)] == [newest[:5], newest[5:10], newest[10:]]
    assert [ids(page) for page in pages(fleet, ann, limit=6)] == [newest[:6], newest[6:]]
    thirds = [name for name in newest if int(name[-2:]) % 3 == 0]
    for order in ("last_used", "created"):
        for limit in (1, 3, 4):
            found = [
                name
                for page in pages(fleet, ann, limit=limit, metadata={"third": True}, order=order)
                for name in ids(page)
            ]
            assert found == thirds
    assert ids(Session.list(ann, metadata={"n": [2, 5, 99]}, settings=fleet.settings)) == [newest[6], newest[9]]
    assert ids(Session.list(ann, metadata={"third": 1}, settings=fleet.settings)) == []
    used = {name: fleet.session(name).info().last_used_at for name in newest}
    middle = used[newest[5]]
    recent = [name for name in newest if used[name] >= middle]  # two may have been created in the same millisecond
    older = [name for name in newest if used[name] < middle]
    for order in ("last_used", "created"):
        assert ids(Session.list(ann, active_since=middle, order=order, settings=fleet.settings)) == recent  # type: ignore[arg-type]
        assert ids(Session.list(ann, unused_since=middle, order=order, settings=fleet.settings)) == older  # type: ignore[arg-type]
    cursor = pages(fleet, ann, limit=5)[0].cursor
    for wrong in (
        {"limit": 0}, {"limit": 1001}, {"order": "size"}, {"cursor": "x"}, {"cursor": cursor, "order": "created"},
        {"active_since": datetime(2026, 1, 1)}, {"metadata": ["x"]}, {"cursor": "used:1:é"},
    ):  # fmt: skip
        with pytest.raises(BadRequest):
            Session.list(ann, settings=fleet.settings, **wrong)  # type: ignore[arg-type]


def test_titles_and_metadata_belong_to_the_owner(fleet: Fleet) -> None:
    """An update merges; a stranger changes and sees nothing; what does not exist is not created."""
    ann = new_name()
    session = fleet.session(f"{ann}-1", user_id=ann)
    session.set_state("x", 1)
    assert session.info().title == ""
    assert session.update(title="  My \n trip ", metadata={"a": 1, "b": "x"}).title == "My trip"
    assert session.update(metadata={"a": None, "c": 1.5}).metadata == {"b": "x", "c": 1.5}
    session.Agent("A").chat("SAY hello")
    assert session.info().title == "My trip"
    stranger = fleet.session(session.session_id, user_id="eve")
    for forbidden in (stranger.info, lambda: stranger.update(title="Mine")):
        with pytest.raises(SessionOwnerError):
            forbidden()
    with pytest.raises(NotFound, match="no session"):
        fleet.session(new_name()).update(title="x")
    for wrong in ({"title": ""}, {"title": "x" * 201}, {"title": 5}, {"metadata": {"a": [1]}}, {"metadata": {"": 1}},
                  {"metadata": {"a": "x" * 9000}}, {"metadata": {"a": float("nan")}}):  # fmt: skip
        with pytest.raises(BadRequest):
            session.update(**wrong)  # type: ignore[arg-type]
    for number in range(4):
        if number < 3:
            session.update(metadata={f"k{number}": "x" * 2500})
        else:
            with pytest.raises(BadRequest, match="limit"):
                session.update(metadata={f"k{number}": "x" * 2500})
    fork = session.fork()
    assert (fork.info().title, fork.info().metadata["b"]) == ("My trip", "x")


def test_users_and_tenants_see_only_their_own(fleet: Fleet) -> None:
    """The same user name in another tenant is another user; a trusted backend sees its tenant's."""
    ann, bob = new_name(), new_name()
    one, two = f"t{new_name()}", f"t{new_name()}"
    for tenant, user in ((one, ann), (one, bob), (two, ann)):
        fleet.session(f"s-{tenant}-{user}", user_id=user, tenant=tenant).create()
    fleet.session("nobody", tenant=one).create()
    listed = lambda user, tenant: ids(Session.list(user, tenant=tenant, settings=fleet.settings))  # noqa: E731
    assert listed(ann, one) == [f"s-{one}-{ann}"]
    assert listed(ann, two) == [f"s-{two}-{ann}"]
    assert listed(bob, two) == []
    assert sorted(listed(None, one)) == sorted(["nobody", f"s-{one}-{ann}", f"s-{one}-{bob}"])


def test_deleted_and_expired_sessions_leave_the_list(fleet: Fleet) -> None:
    """At once, whether or not a worker has removed the entry."""
    ann = new_name()
    kept, gone, short = (fleet.session(f"{ann}-{name}", user_id=ann) for name in ("kept", "gone", "short"))
    for session in (kept, gone):
        session.create()
    brief = fleet.session(short.session_id, user_id=ann, ttl=1.5)
    brief.create()
    expires = brief.info().expires_at
    assert expires is not None
    assert 0 < (expires - brief.info().last_used_at).total_seconds() <= 1.5
    gone.delete()
    assert ids(Session.list(ann, settings=fleet.settings)) == [brief.session_id, kept.session_id]
    wait_until(brief.is_expired, description="it has expired")
    assert ids(Session.list(ann, settings=fleet.settings)) == [kept.session_id]
    with pytest.raises(SessionExpired):
        brief.info()
    with fleet.server.client() as client:

        def entries() -> list[bytes]:
            return [key for key in client.scan_iter(f"*:used~*~{ann}") if client.zscore(key, brief.session_id)]

        wait_until(lambda: not entries(), description="a worker has removed the entry")


def test_runs_of_teams_are_not_conversations(fleet: Fleet) -> None:
    """Neither the run nor the sessions of its tasks are listed."""
    ann = new_name()
    helper = fleet.session(f"{ann}-1", user_id=ann).Agent("Helper")
    helper.chat("SAY hello")
    AgentTeam([helper], [Task("SAY one"), Task("SAY two")], "parallel").start()
    assert ids(Session.list(ann, settings=fleet.settings)) == [f"{ann}-1"]


def test_encrypted_titles_and_metadata(new_server: Server, tmp_path: Path) -> None:
    """They are unreadable in the store; a filter works all the same."""
    env = {"SESSIONFLEET_ENCRYPTION_KEYS": KEYS}
    with running_fleet(tmp_path / "sealed", new_server, env, workers=("s1",)) as fleet:
        session = fleet.session("secret", user_id="ann")
        session.Agent("A").chat("SAY hello swordfish")
        assert session.update(metadata={"folder": "marlin"}).title == "SAY hello swordfish"
        fleet.session("other", user_id="ann").create(title="marlin")
        assert ids(Session.list("ann", metadata={"folder": "marlin"}, settings=fleet.settings)) == ["secret"]
        with new_server.client() as client:
            for key in client.scan_iter("*:meta"):
                assert b"swordfish" not in b"".join(client.hvals(key))
                assert b"marlin" not in b"".join(client.hvals(key))


def test_a_worker_killed_in_a_turn_leaves_the_right_counts(new_fleet: Callable[..., Fleet]) -> None:
    """The turn stays open in the list until the other worker has ended it, and counts once."""
    mortal = new_fleet(SESSIONFLEET_LEASE="2")
    for name in ("m1", "m2"):
        mortal.start(name)
    mortal.ready()
    ann = new_name()
    session = mortal.session(f"{ann}-1", user_id=ann)
    prompt = 'CALL look_up({"query": "lists"})\nSLEEP 1'
    turn = session.Agent("A", tools=["look_up"]).submit(prompt)
    line = mortal.noted("model_started", prompt=prompt, step=1)[0]
    mortal.worker_of_pid(line["pid"]).kill()
    shown = Session.list(ann, settings=mortal.settings).sessions[0]
    assert (shown.open_turns, shown.turns, shown.messages) == (1, 0, 0)
    turn.result(timeout=30)
    after = Session.list(ann, settings=mortal.settings).sessions[0]
    assert (after.open_turns, after.turns, after.messages) == (0, 1, 2)
    assert after.last_used_at > shown.last_used_at


def test_a_deployment_without_lists_gets_them_once(new_fleet: Callable[..., Fleet]) -> None:
    """In the background; a page says that sessions are missing until then. Two workers do it together."""
    fleet = new_fleet()
    fleet.start("old")
    fleet.ready()
    fleet.session("chat", user_id="ann").Agent("A").chat("SAY first message")
    fleet.session("state", user_id="ann", ttl=1000).set_state("x", 1)
    fleet.session("nobody").create()
    AgentTeam([fleet.session("chat", user_id="ann").Agent("A")], [Task("SAY task")], "parallel").start()
    before = fleet.session("chat").info()
    fleet.workers[0].terminate()
    with fleet.server.client() as client:  # as an older version left it
        for key in client.scan_iter("sf:v1:{*}:*"):
            if re.search(rb":(used|made|hidden)~|:expiring$", key):
                client.delete(key)
            elif key.endswith(b":meta"):
                client.hdel(key, "used", "title", "hidden")
        client.delete(INDEXED)
    page = Session.list(settings=fleet.settings)
    assert (ids(page), page.complete) == ([], False)
    fleet.start("new1")
    fleet.start("new2")
    fleet.ready()
    wait_until(lambda: Session.list(settings=fleet.settings).complete, description="the lists are built")
    assert sorted(ids(Session.list(settings=fleet.settings))) == ["chat", "nobody", "state"]
    assert sorted(ids(Session.list("ann", settings=fleet.settings))) == ["chat", "state"]
    after = fleet.session("chat").info()
    assert (after.title, after.turns) == ("SAY first message", before.turns)
    assert before.created_at <= after.last_used_at <= before.last_used_at
    assert fleet.session("state").info().expires_at is not None
