"""The method of `Session` that searches its transcript; `Session.search` searches those of all sessions of a user."""

from __future__ import annotations

from datetime import datetime

from sessions.client.arguments.history_search import HistoryQuery
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.client.transcript import FoundMessage
from sessions.protocol.transcript_requests import SpokenRole


class HistorySearchMethods:
    """The method of `Session` that searches its transcript."""

    async def asearch_history(
        self: BackedSession,
        query: str,
        *,
        limit: int = 10,
        since: datetime | None = None,
        until: datetime | None = None,
        role: SpokenRole | None = None,
        timeout: float | None = None,
    ) -> list[FoundMessage]:
        """Find messages of this session by meaning and by words, the best first; of equally good ones, the newest.

        The session must be searchable (`Session(..., searchable=True)`). A message can be found a moment after its
        turn has ended. Turns that were replaced or deleted are not found.

        Args:
            limit: up to 100. since, until: only messages of turns that began in this time (`until` excluded).
            role: only what the user said ("user"), or what was answered ("assistant").
            timeout: seconds to wait for a worker; SESSIONFLEET_RETRIEVAL_TIMEOUT by default.

        Raises:
            BadRequest: an argument cannot be used. NotSearchable: the session is not searchable. SessionOwnerError: it
                belongs to another user, who has not shared it. ResultTimeout: no result in time (NoWorkerAlive: no
                worker serves retrieval).
        """
        wanted = HistoryQuery.of(query, limit, since, until, role, timeout)
        return await self.portal.acall(self.backend.history_search.search(self, wanted))

    search_history = blocking(asearch_history)
