"""State, from several processes at once."""

from __future__ import annotations

import multiprocessing
import uuid

import pytest

from broker_config.settings import Settings
from sessions import Session
from sessions.errors import BadRequest, InvalidState, SessionOwnerError, StateConflict
from tests.support.servers import Server


@pytest.fixture
def settings(server: Server) -> Settings:
    return Settings(redis_url=server.url)


@pytest.fixture
def session(settings: Settings) -> Session:
    return Session(uuid.uuid4().hex, user_id="ann", settings=settings)


def test_values_are_kept(session: Session, settings: Settings) -> None:
    """What one handle sets, another one reads; a missing value is the default."""
    session.set_state("theme", {"dark": True})
    session.update_state({"a": 1, "b": [1, 2]})
    session.delete_state("a")
    other = Session(session.session_id, settings=settings)
    assert other.get_state() == {"theme": {"dark": True}, "b": [1, 2]}
    assert other.get_state("a", "gone") == "gone"


def test_increments_return_the_new_value(session: Session) -> None:
    """Whole numbers stay whole, a missing one counts as the default."""
    assert session.increment_state("n") == 1
    assert session.increment_state("n", 4) == 5
    assert session.increment_state("m", 1, default=10) == 11
    assert session.increment_state("f", 0.5) == 0.5


def _ten(url: str, session_id: str) -> None:
    session = Session(session_id, settings=Settings(redis_url=url))
    for _ in range(10):
        session.increment_state("n")


def test_two_processes_lose_no_increment(session: Session, server: Server) -> None:
    """Two processes with 10 increments each give 20."""
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_ten, args=(server.url, session.session_id)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert session.get_state("n") == 20


def test_scopes_reach_as_far_as_they_say(settings: Settings) -> None:
    """`user:` is seen in all sessions of a user, `app:` in all of the tenant, plain keys in one session."""
    one, two = (Session(uuid.uuid4().hex, user_id="bob", settings=settings) for _ in range(2))
    eve = Session(uuid.uuid4().hex, user_id="eve", settings=settings)
    one.set_state("user:lang", "de")
    one.set_state("plain", 1)
    one.set_state("app:motd", "hi")
    assert (two.get_state("user:lang"), two.get_state("plain")) == ("de", None)
    assert (eve.get_state("user:lang"), eve.get_state("app:motd")) == (None, "hi")


def test_what_cannot_be_state_is_refused_and_changes_nothing(session: Session, settings: Settings) -> None:
    """Values that are not JSON, numbers that are none, several scopes at once, a user's state without a user."""
    session.set_state("text", "x")
    for work in (
        lambda: session.set_state("bad", object()),
        lambda: session.set_state("bad", float("nan")),
        lambda: session.increment_state("text"),
        lambda: session.increment_state("bad", "1"),  # type: ignore[arg-type]
        lambda: session.update_state({"bad": 1, "user:bad": 1}),
        lambda: session.set_state("temp:bad", 1),
        lambda: session.set_state("", 1),
    ):
        with pytest.raises(InvalidState):
            work()
    assert session.get_state() == {"text": "x"}
    with pytest.raises(BadRequest, match="pass user_id="):
        Session(uuid.uuid4().hex, settings=settings).set_state("user:x", 1)


def test_compare_and_set_finds_the_lost_race(session: Session) -> None:
    """Only a caller that has seen the current value may replace it."""
    session.compare_and_set_state("lock", None, "a")
    with pytest.raises(StateConflict, match='is "a"'):
        session.compare_and_set_state("lock", None, "b")
    session.compare_and_set_state("lock", "a", "b")
    assert session.get_state("lock") == "b"


def test_state_is_its_owner_s(session: Session, settings: Settings) -> None:
    """Another user neither reads nor writes it."""
    session.set_state("secret", 1)
    eve = Session(session.session_id, user_id="eve", settings=settings)
    with pytest.raises(SessionOwnerError):
        eve.set_state("secret", 2)
    with pytest.raises(SessionOwnerError):
        eve.get_state("secret")
    assert session.get_state("secret") == 1
