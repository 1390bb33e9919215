"""What a user may do in a session that is another user's."""

from __future__ import annotations

from typing import Literal

Rights = Literal["read", "write"]
"""What a session is shared for: to read it, or to read it and write to it."""

Access = Literal["read", "write", "own"]
"""What a call needs: `own` is for what only the owner may do."""


def grants(rights: str | None, needed: Access) -> bool:
    """Whether rights that were shared are enough; None for none."""
    return (rights == "write" and needed != "own") or rights == needed
