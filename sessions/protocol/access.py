"""What a user may do in a session that is another user's."""

from __future__ import annotations

from typing import Literal

from sessions.errors import SessionOwnerError

Rights = Literal["read", "write"]
"""What a session is shared for: to read it, or to read it and write to it."""

Access = Literal["read", "write", "own"]
"""What a call needs: `own` is for what only the owner may do."""


def grants(rights: str | None, needed: Access) -> bool:
    """Whether rights that were shared are enough; None for none."""
    return (rights == "write" and needed != "own") or rights == needed


def refused(session_id: str, user_id: str | None, access: Access = "write") -> SessionOwnerError:
    """The error for a user who may not do that in a session."""
    hint = "only its owner may do that" if access == "own" else f"its owner can call share({user_id!r}, {access!r})"
    return SessionOwnerError(f"session {session_id!r} belongs to another user than {user_id!r}: {hint}")
