"""The names of scopes, `session:<id>`, `user:<id>` and `base:<name>`, and where each keeps its list of documents."""

from __future__ import annotations

from sessions.operations import KNOWLEDGE
from sessions.store.keys import SessionKeys, wide_name


def session_name(session_id: str) -> str:
    """The scope of one session."""
    return f"session:{session_id}"


def user_name(user_id: str) -> str:
    """The scope of one user in all sessions."""
    return f"user:{user_id}"


def lane_of(tenant: str, scope: str, partitions: int) -> SessionKeys:
    """The lane in which a scope's documents are taken in."""
    kind, _, name = scope.partition(":")
    if kind == "session":
        return SessionKeys.of(tenant, name, partitions).lane(KNOWLEDGE)
    return SessionKeys.wide(tenant, wide_name(kind, name), partitions).lane(KNOWLEDGE)
