"""What leaves the window is summarised in the background, whatever becomes of the workers that do it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest

from sessions import Session, TurnStatus
from sessions.errors import BadRequest
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server
from tests.support.waiting import wait_until

KEYS = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture(scope="module")
def crew(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers that may be killed, with encryption and small windows: a summary takes several chunks."""
    env = {
        "SESSIONFLEET_LEASE": "1.5", "SESSIONFLEET_QUEUES": "turns.compact", "SESSIONFLEET_ENCRYPTION_KEYS": KEYS,
        "SESSIONFLEET_HISTORY_WINDOW": "6", "SESSIONFLEET_HISTORY_TOKENS": "1000",
        "SESSIONFLEET_COMPACT_MODEL": "summariser",
    }  # fmt: skip
    with running_fleet(tmp_path_factory.mktemp("crew"), server, env, workers=("k1", "k2")) as fleet:
        yield fleet


def talk(fleet: Fleet, more: str = "") -> Session:
    """A session whose window has just moved to its fifth turn, with a fact in each turn; a chunk has two of them.

    Args:
        more: what the third one says besides.
    """
    session = fleet.session(uuid.uuid4().hex, user_id="ann", queue="turns.compact", compact="auto")
    for number in range(8):
        told = more if number == 2 else ""
        session.Agent("A").chat(f"fact-{number} of {session.session_id}. {told} {'x' * 800}\nSAY noted", timeout=60)
    return session


def asked(fleet: Fleet, session: Session, kind: str = "summary_started") -> list[str]:
    """The facts in each request for a summary of the session."""
    prompts = [line["prompt"] for line in fleet.ledger(kind) if session.session_id in line["prompt"]]
    return [" ".join(dict.fromkeys(re.findall(r"fact-\d", prompt))) for prompt in prompts]


def summarised(fleet: Fleet, session: Session, turns: int) -> None:
    """Wait until prompts have a summary of so many turns."""

    def upto() -> bool:
        with fleet.server.client() as client:
            return client.hget(session.keys.meta, "summary_upto") == str(turns).encode()

    wait_until(upto, description=f"{turns} turns are summarised", timeout=60)


def summary_in(session: Session) -> str:
    """What a turn sees before its window."""
    seen = session.Agent("A").chat("RECITE", timeout=60)
    return seen.partition("</summary>")[0] if seen.startswith("<summary>") else ""


def test_the_facts_of_old_turns_stay_in_the_prompt(crew: Fleet) -> None:
    """The history keeps the turns; the usage of the session has the summaries, too; nothing is left when it goes."""
    session = talk(crew)
    summarised(crew, session, 4)
    assert asked(crew, session) == ["fact-0 fact-1", "fact-0 fact-1 fact-2 fact-3"]
    assert "fact-0 fact-1 fact-2 fact-3" in summary_in(session)
    assert sum(message.text.startswith("fact-") for message in session.history(limit=16, order="oldest")) == 8
    info = session.info()
    assert (info.compact, info.requests - info.turns) == ("auto", 2)
    used = {row.model: row.requests for row in Session.usage("ann", by=["model"], settings=crew.settings)}
    assert used["summariser"] >= 2
    with crew.server.client() as client:
        assert not [value for value in client.hvals(session.keys.meta) if b"fact-" in value]
        session.delete()
        assert [key for key in client.scan_iter(f"*{session.session_id}*") if b":op:" not in key] == []


def test_a_deleted_turn_leaves_the_summary(crew: Fleet) -> None:
    """At once; then a new one is written, of the turns that are left. Without the choice, there is none."""
    session = talk(crew)
    summarised(crew, session, 4)
    session.delete_turn(session.history(limit=4, order="oldest").messages[2].turn_id)
    assert "fact-1" not in summary_in(session)
    summarised(crew, session, 3)
    assert "fact-0 fact-2 fact-3" in summary_in(session)
    session.update(compact="off")
    assert summary_in(session) == ""
    session.delete()


def test_turns_run_while_a_summary_is_stuck(crew: Fleet) -> None:
    """They have the window alone, and do not wait."""
    session = talk(crew, "summary hangs 61")
    crew.noted("summary_hung", what="summary hangs 61")
    assert summary_in(session) == ""
    assert len(asked(crew, session, "summary")) == 1, "it is still stuck"
    session.delete()


def test_a_worker_killed_in_the_middle_of_a_summary(crew: Fleet) -> None:
    """The other one goes on with the chunk that was not finished; the finished one is not paid for again."""
    session = talk(crew, "summary hangs 62")
    [line] = crew.noted("summary_hung", what="summary hangs 62")
    crew.worker_of_pid(line["pid"]).kill()
    crew.start("k3")
    summarised(crew, session, 4)
    second = "fact-0 fact-1 fact-2 fact-3"
    assert asked(crew, session) == ["fact-0 fact-1", second, second]
    assert second in summary_in(session)
    assert {turn.status for turn in session.turns(limit=100)} == {TurnStatus.SUCCEEDED}
    session.delete()


def test_by_default_nothing_is_summarised(fleet: Fleet) -> None:
    """And a choice that is none is refused."""
    session = fleet.session(uuid.uuid4().hex)
    agent = session.Agent("A", model="double")
    agent.chat("fact-0\nSAY one")
    agent.chat("many words: " + "otter " * 40_000 + "\nSAY two")
    assert "<summary>" not in agent.chat("RECITE")
    assert session.info().compact == "off"
    with pytest.raises(BadRequest, match="use 'auto' or 'off'"):
        session.update(compact="on")  # type: ignore[arg-type]
    session.delete()
