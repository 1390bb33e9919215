"""Titles that a model writes in the background."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from sessions import Session, TurnStatus
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server
from tests.support.waiting import wait_until


def auto(fleet: Fleet) -> Session:
    session = fleet.session(uuid.uuid4().hex, user_id="ann")
    assert session.create(title="auto", metadata={"n": 1})
    return session


def titled(session: Session, title: str) -> None:
    wait_until(lambda: session.info().title == title, description=f"the title is {title!r}")


def test_a_model_writes_the_title_after_the_first_turn(fleet: Fleet) -> None:
    """Once: the second turn does not ask again, and neither history nor counts show it."""
    session = auto(fleet)
    session.Agent("A").chat("SAY otters sleep afloat")
    titled(session, "otters sleep afloat")
    before = session.info()
    assert (before.turns, before.requests, before.messages, before.metadata) == (1, 1, 2, {"n": 1})
    session.Agent("A").chat("SAY again")
    assert session.info().title == "otters sleep afloat"
    assert len(session.history()) == 4


def test_a_title_can_be_asked_for_later(fleet: Fleet) -> None:
    """For a session that has a title; without any turn yet, it waits for the first one."""
    session = fleet.session(uuid.uuid4().hex)
    session.Agent("A").chat("SAY seals dive")
    session.update(title="Mine")
    assert session.update(title="auto").title == "Mine"
    titled(session, "seals dive")


def test_a_title_that_fails_or_is_not_wanted_any_more_changes_nothing(fleet: Fleet) -> None:
    """The chat has its answer at once, and the beginning of the first message stays."""
    prompt = f"SLEEP 1\nSAY {uuid.uuid4().hex}"
    session = auto(fleet)
    turn = session.Agent("A").submit(prompt)
    fleet.noted("model_started", count=1, prompt=prompt)
    turn.result(timeout=30)
    session.update(title="Mine")
    lane = fleet.session(session.session_id).keys.lane("title")

    async def ended() -> bool:
        store = fleet.client.stores.turns
        parts = await store.listed(lane)
        return bool(parts) and (await store.read(lane, parts[0])).status.final

    wait_until(lambda: fleet.client.portal.call(ended()), description="the title's turn has ended")
    assert session.info().title == "Mine"
    session.delete()
    with fleet.server.client() as client:
        assert [key for key in client.scan_iter(f"*{session.session_id}*") if b":op:" not in key] == []


def test_a_title_goes_with_the_turn_that_it_is_about(fleet: Fleet) -> None:
    """Also after somebody had chosen another one, and after another turn took the place of that turn."""
    session = fleet.session(uuid.uuid4().hex)
    first = session.Agent("A").submit("SAY seals dive")
    first.result(timeout=30)
    session.update(title="Mine")
    session.update(title="auto")
    titled(session, "seals dive")
    session.regenerate(message="SAY otters sleep")
    session.delete_turn(first.id)
    assert session.info().title == ""
    session.update(title="auto")
    titled(session, "otters sleep")
    session.delete_turn(session.history().messages[0].turn_id)
    assert session.info().title == ""


def test_no_title_about_a_deleted_turn(fleet: Fleet) -> None:
    """The turn is deleted while the model writes the title."""
    prompt = f"SLEEP 1\nSAY {uuid.uuid4().hex}"
    session = auto(fleet)
    turn = session.Agent("A").submit(prompt)
    turn.result(timeout=30)
    lane = fleet.session(session.session_id).keys.lane("title")

    async def statuses() -> list[TurnStatus]:
        store = fleet.client.stores.turns
        return [(await store.read(lane, part)).status for part in await store.listed(lane)]

    wait_until(lambda: fleet.client.portal.call(statuses()), description="the title's turn is there")
    session.delete_turn(turn.id)
    session.Agent("A").chat("SAY otters")
    wait_until(lambda: all(s.final for s in fleet.client.portal.call(statuses())), description="it has ended")
    assert session.info().title == "SAY otters"


def test_a_worker_killed_while_it_writes_a_title(new_fleet: Callable[..., Fleet]) -> None:
    """The other worker writes it; the session's turn is not repeated."""
    fleet = new_fleet(SESSIONFLEET_LEASE="2")
    for name in ("t1", "t2"):
        fleet.start(name)
    fleet.ready()
    session = auto(fleet)
    session.Agent("A").chat("SLEEP 1\nSAY walrus")
    line = fleet.noted("model_started", count=2)[1]
    fleet.worker_of_pid(line["pid"]).kill()
    titled(session, "walrus")
    assert session.info().turns == 1


def test_an_encrypted_title(new_server: Server, tmp_path: Path) -> None:
    """The model gets the exchange in plain, the store never has it."""
    env = {"SESSIONFLEET_ENCRYPTION_KEYS": "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
    with running_fleet(tmp_path / "sealed", new_server, env, workers=("s1",)) as fleet:
        session = auto(fleet)
        session.Agent("A").chat("SAY marlin")
        titled(session, "marlin")
        with new_server.client() as client:
            for key in client.scan_iter("*:meta"):
                assert b"marlin" not in b"".join(client.hvals(key))
