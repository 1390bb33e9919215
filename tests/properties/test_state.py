"""State scopes, checkpoints and forks against a plain model: dictionaries."""

from __future__ import annotations

import base64
import copy
import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from broker_config.settings import Settings
from sessions import Session
from sessions.errors import InvalidState, StateConflict, StateNotFoundError
from tests.support.servers import Server

_tenants = itertools.count()
KEY = f"k1:{base64.b64encode(bytes(32)).decode()}"
KEYS = st.sampled_from(["a", "b", "user:a", "user:b", "app:a"])
VALUES = st.one_of(
    st.integers(-(10**6), 10**6),
    st.text(max_size=5),
    st.booleans(),
    st.lists(st.integers(0, 9), max_size=2),
    st.just({}),
)


def _scope(key: str) -> str:
    return key.partition(":")[0] if ":" in key else "session"


class StateMachine(RuleBasedStateMachine):
    """Two users with a session each, and forks of those; every call is also made on dictionaries."""

    url = ""
    encryption_keys: str | None = None
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        # A separate tenant for each example: nothing is left over from the previous one.
        self.settings = Settings(
            redis_url=self.url,
            tenant=f"t{os.getpid()}-{next(_tenants)}",
            encryption_keys=self.encryption_keys,  # type: ignore[arg-type]
        )
        self.live: list[Session] = []
        self.plain: dict[str, dict[str, Any]] = {}
        self.users: dict[str, dict[str, Any]] = {"ann": {}, "bob": {}}
        self.app: dict[str, Any] = {}
        self.saved: dict[str, list[dict[str, Any]]] = {}
        self.names = itertools.count()

    def _dict(self, session: Session, key: str) -> dict[str, Any]:
        assert session.user_id is not None
        return {"session": self.plain[session.session_id], "user": self.users[session.user_id], "app": self.app}[
            _scope(key)
        ]

    @rule(target=sessions, user=st.sampled_from(["ann", "bob"]))
    def open(self, user: str) -> Session:
        session = Session(f"s{next(self.names)}", user_id=user, settings=self.settings)
        self.plain[session.session_id], self.saved[session.session_id] = {}, []
        self.live.append(session)
        return session

    @rule(session=sessions, key=KEYS, value=VALUES)
    def set(self, session: Session, key: str, value: Any) -> None:
        session.set_state(key, value)
        self._dict(session, key)[key] = value

    @rule(session=sessions, key=KEYS)
    def delete(self, session: Session, key: str) -> None:
        session.delete_state(key)
        self._dict(session, key).pop(key, None)

    @rule(session=sessions, key=KEYS, amount=st.integers(-5, 5), default=st.integers(0, 3))
    def increment(self, session: Session, key: str, amount: int, default: int) -> None:
        values = self._dict(session, key)
        now = values.get(key)
        if now is not None and (isinstance(now, bool) or not isinstance(now, int)):
            with pytest.raises(InvalidState):
                session.increment_state(key, amount, default)
            return
        values[key] = (default if now is None else now) + amount
        assert session.increment_state(key, amount, default) == values[key]

    @rule(session=sessions, key=KEYS, expected=st.one_of(st.none(), VALUES), value=VALUES)
    def swap(self, session: Session, key: str, expected: Any, value: Any) -> None:
        values = self._dict(session, key)
        if (expected is None and key not in values) or (key in values and _equal(values[key], expected)):
            session.compare_and_set_state(key, expected, value)
            values[key] = value
        else:
            with pytest.raises(StateConflict):
                session.compare_and_set_state(key, expected, value)

    @rule(session=sessions, merge=st.dictionaries(st.sampled_from(["a", "c"]), VALUES, max_size=2))
    def save(self, session: Session, merge: dict[str, Any]) -> None:
        self.plain[session.session_id] |= merge
        checkpoints = self.saved[session.session_id]
        checkpoints.append(copy.deepcopy(self.plain[session.session_id]))
        assert session.save_state(merge) == len(checkpoints)

    @rule(session=sessions, number=st.integers(1, 4))
    def rewind(self, session: Session, number: int) -> None:
        checkpoints = self.saved[session.session_id]
        if number > len(checkpoints):
            with pytest.raises(StateNotFoundError):
                session.restore_state(checkpoint=number)
            return
        self.plain[session.session_id] = copy.deepcopy(checkpoints[number - 1])
        assert session.restore_state(checkpoint=number) == checkpoints[number - 1]

    @rule(session=sessions)
    def attach(self, session: Session) -> None:
        """Without a number restoring changes nothing, and needs a checkpoint."""
        if not self.saved[session.session_id]:
            with pytest.raises(StateNotFoundError):
                session.restore_state()
        else:
            assert session.restore_state() == self.plain[session.session_id]

    @rule(target=sessions, session=sessions)
    def fork(self, session: Session) -> Session:
        forked = session.fork(f"s{next(self.names)}")
        self.plain[forked.session_id] = copy.deepcopy(self.plain[session.session_id])
        self.saved[forked.session_id] = []
        self.live.append(forked)
        return forked

    @rule(target=sessions, session=consumes(sessions))
    def remove(self, session: Session) -> Any:
        """A deleted session is gone; its user's and tenant's state is not."""
        session.delete()
        self.live.remove(session)
        del self.plain[session.session_id]
        return multiple()

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        for session in self.live[-3:]:
            assert session.get_state() == self.plain[session.session_id]
            for key in ("user:a", "user:b", "app:a"):
                assert session.get_state(key, "nothing") == self._dict(session, key).get(key, "nothing")


def _equal(one: Any, other: Any) -> bool:
    """Equality of JSON: `True` is not 1."""
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("keys", [None, KEY], ids=["open", "sealed"])
def test_state_is_what_a_dictionary_would_be(server: Server, keys: str | None) -> None:
    """In every scope, through checkpoints, rewinds, forks and deletions."""
    StateMachine.url, StateMachine.encryption_keys = server.url, keys
    examples = int(os.environ.get("SF_PROPERTY_EXAMPLES", "25"))
    checked = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        StateMachine,
        settings=settings(max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=checked),
    )
