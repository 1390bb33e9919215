"""The methods of `Session` about what a list of sessions shows of it: its title, metadata and counts."""

from __future__ import annotations

from collections.abc import Mapping

from sessions.client.arguments.sessions import SessionChange
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.protocol.compaction_requests import Compact
from sessions.store.session_info import MetadataValue, SessionInfo


class ListingMethods:
    """The methods of `Session` about its entry in lists; `Session.list` makes the lists."""

    async def ainfo(self: BackedSession) -> SessionInfo:
        """The session as lists show it: title, metadata, owner, times, turns, tokens, cost.

        Raises:
            NotFound: there is no such session. SessionExpired: its ttl ran out. SessionOwnerError: it belongs to
                another user.
        """
        return await self.portal.acall(self.backend.listing.info(self))

    info = blocking(ainfo)

    async def aupdate(
        self: BackedSession,
        *,
        title: str | None = None,
        metadata: Mapping[str, MetadataValue | None] | None = None,
        searchable: bool | None = None,
        compact: Compact | None = None,
    ) -> SessionInfo:
        """Change title, metadata, whether it is searchable, whether it is compacted. Its place in lists stays.

        Args:
            title: up to 200 characters on one line; None leaves it as it is. `"auto"` has a model write it in the
                background: after the first turn, or now if there was one. Nothing waits for it, and if it fails, the
                title that there is stays. The model is that of the agent of the first turn; its tokens are not
                counted in the session.
            metadata: strings, numbers and booleans by name, merged into those that there are; None as a value removes
                its name. Up to 8 KiB in total.
            searchable: True has its history indexed in the background, False has it removed from the index; None leaves
                it as it is.
            compact: "auto" has the turns before its window summarised in the background; "off" ends that, and deletes
                the summary.

        Returns:
            The session as it is then.

        Raises:
            NotFound, SessionExpired: there is no such session. SessionOwnerError: it belongs to another user.
            BadRequest: an argument cannot be used, or the metadata would be too large.
        """
        change = SessionChange.of(title, metadata, searchable, compact)
        return await self.portal.acall(self.backend.listing.update(self, change))

    update = blocking(aupdate)
