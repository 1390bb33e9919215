"""Memories of random sessions, users and tenants compared with plain dictionaries: no search finds another's."""

from __future__ import annotations

import itertools
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule, run_state_machine_as_test

from broker_config.settings import Settings
from sessions import Session
from tests.support.local_search import search_here
from tests.support.servers import Server

_examples = itertools.count()
KINDS = st.sampled_from(["short", "long"])
SCOPES = st.sampled_from([None, "session", "user"])
TOPICS = st.sampled_from(["a", "b"])


class MemoryMachine(RuleBasedStateMachine):
    """Two tenants with the same users and session ids; every memory says `tea`, so that every search could find it."""

    url = ""
    sessions = Bundle("sessions")
    memories = Bundle("memories")

    def __init__(self) -> None:
        super().__init__()
        example = f"{os.getpid()}-{next(_examples)}"
        # The one name begins with the other.
        self.tenants = [
            Settings(redis_url=self.url, tenant=f"t{example}"),
            Settings(redis_url=self.url, tenant=f"t{example}x"),
        ]
        for tenant in self.tenants:
            search_here(tenant)
        self.plain: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        self.owners: dict[tuple[str, str], str] = {}
        self.numbers = itertools.count()

    def _user(self, session: Session) -> str | None:
        return session.user_id or self.owners.get((session.client.settings.tenant, session.session_id))

    def _place(self, session: Session, scope: str) -> dict[str, dict[str, Any]]:
        name = session.session_id if scope == "session" else self._user(session)
        return self.plain.setdefault((session.client.settings.tenant, scope, str(name)), {})

    def _scope(self, session: Session, scope: str | None) -> str:
        known = "session" if self._user(session) is None else "user"
        return known if scope in (None, "user") else "session"

    def _reached(self, session: Session) -> dict[str, dict[str, Any]]:
        user = self._place(session, "user") if self._user(session) is not None else {}
        return self._place(session, "session") | user

    @rule(
        target=sessions,
        tenant=st.integers(0, 1),
        name=st.sampled_from(["s", "s:1", "user:ann"]),
        user=st.sampled_from([None, "ann", "s", "ann:memory"]),
    )
    def open(self, tenant: int, name: str, user: str | None) -> Any:
        owner = self.owners.get((self.tenants[tenant].tenant, name))
        if user is not None and owner not in (None, user):
            return multiple()  # refused, which other tests look at
        return Session(name, user, settings=self.tenants[tenant])

    def _mine(self, session: Session) -> bool:
        owner = self.owners.get((session.client.settings.tenant, session.session_id))
        return session.user_id is None or owner in (None, session.user_id)

    @rule(target=memories, session=sessions, kind=KINDS, scope=SCOPES, topic=TOPICS)
    def add(self, session: Session, kind: str, scope: str | None, topic: str) -> Any:
        if not self._mine(session):
            return multiple()
        where = self._scope(session, scope)
        text = f"tea {next(self.numbers)}"
        memory_id = session.add_memory(text, kind, metadata={"topic": topic}, scope=where)
        self._place(session, where)[memory_id] = {"text": text, "type": kind, "topic": topic}
        if session.user_id is not None:
            self.owners[session.client.settings.tenant, session.session_id] = session.user_id
        return memory_id

    @rule(session=sessions, memory_id=memories, topic=TOPICS)
    def update(self, session: Session, memory_id: str, topic: str) -> None:
        """Whoever owns the id: only what the session reaches is changed."""
        if not self._mine(session):
            return
        changed = session.update_memory(memory_id, metadata={"topic": topic})
        assert (changed is not None) == (memory_id in self._reached(session))
        if changed is not None:
            self._place(session, changed["scope"])[memory_id]["topic"] = topic

    @rule(session=sessions, memory_id=memories)
    def add_again(self, session: Session, memory_id: str) -> None:
        """The same text, kind and metadata in the same scope are the same memory."""
        if self._mine(session) and memory_id in self._reached(session):
            known = session.get_memory(memory_id)
            assert known is not None
            again = session.add_memory(known["text"], known["type"], metadata=known["metadata"], scope=known["scope"])
            assert again == memory_id
            if session.user_id is not None:
                self.owners[session.client.settings.tenant, session.session_id] = session.user_id

    @rule(session=sessions, memory_id=memories)
    def forget(self, session: Session, memory_id: str) -> None:
        """Whoever owns the id: only what the session reaches is deleted."""
        if self._mine(session):
            assert session.delete_memory(memory_id) == (memory_id in self._reached(session))
            self._place(session, "session").pop(memory_id, None)
            if self._user(session) is not None:
                self._place(session, "user").pop(memory_id, None)

    @rule(session=sessions, kind=st.one_of(st.none(), KINDS), scope=SCOPES)
    def clear(self, session: Session, kind: str | None, scope: str | None) -> None:
        if self._mine(session):
            where = self._scope(session, scope)
            place = self._place(session, where)
            gone = [memory_id for memory_id, memory in place.items() if kind in (None, memory["type"])]
            assert session.clear_memory(kind, scope=where) == len(gone)
            for memory_id in gone:
                del place[memory_id]

    @rule(session=consumes(sessions))
    def remove(self, session: Session) -> None:
        """The session's memories go; its user's stay."""
        if self._mine(session):
            place = self._place(session, "session")
            assert session.delete()["memories"] == len(place)
            place.clear()
            self.owners.pop((session.client.settings.tenant, session.session_id), None)

    @rule(session=sessions, scope=SCOPES, kind=st.one_of(st.none(), KINDS), topic=st.one_of(st.none(), TOPICS))
    def search(self, session: Session, scope: str | None, kind: str | None, topic: str | None) -> None:
        """Exactly the existing ones, in the requested scope."""
        if not self._mine(session):
            return
        where = None if scope is None else self._scope(session, scope)
        place = self._reached(session) if where is None else self._place(session, where)
        filters = None if topic is None else {"topic": topic}
        found = session.search_memory("tea", kind, limit=1000, scope=where, filters=filters)
        wanted = {
            memory_id: memory["text"]
            for memory_id, memory in place.items()
            if kind in (None, memory["type"]) and topic in (None, memory["topic"])
        }
        assert {memory["id"]: memory["text"] for memory in found} == wanted

    @rule(session=sessions, memory_id=memories)
    def look(self, session: Session, memory_id: str) -> None:
        if self._mine(session):
            wanted = self._reached(session).get(memory_id)
            told = session.get_memory(memory_id)
            assert (told and told["text"]) == (wanted and wanted["text"])


def test_nobody_finds_another_s_memories(server: Server) -> None:
    """P8: whatever sessions, users and tenants add, clear and delete, a search returns its own scopes' memories."""
    MemoryMachine.url = server.url
    examples = int(os.environ.get("SF_PROPERTY_EXAMPLES", "40"))
    run_state_machine_as_test(
        MemoryMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
