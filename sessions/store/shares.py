"""Whom a session is shared with: users who may read it, or read and write it, besides its owner."""

from __future__ import annotations

from typing import Final

from sessions.errors import BadRequest, NotFound
from sessions.protocol.access import Rights, refused
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.records import Unowned, share_session
from sessions.store.transitions.shared import Full, Missing, OtherOwner

MOST_SHARES: Final = 100
"""Each use of a session moves it to the front of the list of each of these users."""


class ShareStore:
    """Reads and writes whom sessions are shared with."""

    def __init__(self, scripts: ScriptRunner) -> None:
        self._scripts = scripts

    async def share(self, keys: SessionKeys, user_id: str | None, other: str, rights: Rights | None) -> bool:
        """Let another user read or write the session; None ends that. Returns whether anything was shared before.

        Raises:
            SessionOwnerError: the session belongs to another user than `user_id`. NotFound: it does not exist.
            BadRequest: it has no owner, or is shared with 100 users already.
        """
        call = share_session(keys.pair, user=user_id, other=other, rights=rights or "", most=MOST_SHARES)
        match await self._scripts.run(call):
            case OtherOwner():
                raise refused(keys.session_id, user_id, "own")
            case Missing():
                raise NotFound(f"there is no session {keys.session_id!r}; its first turn creates it, or create()")
            case Unowned():
                raise BadRequest(
                    f"session {keys.session_id!r} has no owner, so every user may use it already: send its first "
                    "message with user_id= to share it with some only"
                )
            case Full(count=count):
                raise BadRequest(f"session {keys.session_id!r} is shared with {count} users, which is the limit")
            case shared:
                return shared.before is not None

    async def rights(self, keys: SessionKeys, user_id: str) -> Rights | None:
        """What the owner lets a user do; None for nothing."""
        found = await self._scripts.read("HGET", keys.shares, user_id)
        return None if found is None else found.decode()

    async def shared_with(self, keys: SessionKeys) -> dict[str, Rights]:
        """The users that the session is shared with, and what each may do."""
        found = await self._scripts.read("HGETALL", keys.shares)
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return {user.decode(): rights.decode() for user, rights in sorted(pairs)}
