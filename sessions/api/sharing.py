"""The methods of `Session` about sharing it with other users."""

from __future__ import annotations

from sessions.client.arguments.values import rights_named, short_string
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.protocol.access import Rights


class SharingMethods:
    """The methods of `Session` about sharing it with other users, each with an async form.

    A session belongs to its first user. Sharing lets others read it, or read it and write to it: send messages, cancel
    and answer turns, change state, memories and documents. Only the owner deletes and shares it.
    """

    async def ashare(self: BackedSession, user_id: str, rights: Rights = "read") -> None:
        """Let another user read the session, or (`rights="write"`) read it and write to it; replaces earlier rights.

        Raises:
            SessionOwnerError: the session belongs to another user. NotFound: it does not exist yet (`create`).
            BadRequest: it has no owner, so every user may use it; or it is shared with 100 users already.
        """
        other, wanted = short_string("user_id", user_id), rights_named(rights)
        await self.portal.acall(self.backend.sharing.share(self, other, wanted))

    share = blocking(ashare)

    async def aunshare(self: BackedSession, user_id: str) -> bool:
        """End the sharing with a user; returns whether there was any. Turns that the user has sent run to their end.

        Raises:
            As `ashare`.
        """
        return await self.portal.acall(self.backend.sharing.unshare(self, short_string("user_id", user_id)))

    unshare = blocking(aunshare)

    async def ashared_with(self: BackedSession) -> dict[str, Rights]:
        """The users that the session is shared with, and what each may do: "read" or "write".

        Raises:
            SessionOwnerError: the session is neither this user's nor shared with it.
        """
        return await self.portal.acall(self.backend.sharing.shared_with(self))

    shared_with = blocking(ashared_with)
