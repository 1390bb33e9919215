"""The request of a search in transcripts. Its arguments are checked here, once, for both back ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from sessions.client.arguments.memory import memory_query
from sessions.client.arguments.sessions import optional_time
from sessions.errors import BadRequest
from sessions.protocol.transcript_requests import SearchTranscript, SpokenRole

MOST_MATCHES: Final = 100


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """A search in the transcript of a session, or of all sessions of a user.

    Attributes:
        since, until: only messages of turns that began in this time (`until` excluded).
        role: only what the user said, or only what was answered.
        timeout: seconds to wait for a worker; None for SESSIONFLEET_RETRIEVAL_TIMEOUT.
    """

    query: str
    limit: int
    since: datetime | None
    until: datetime | None
    role: SpokenRole | None
    timeout: float | None

    @classmethod
    def of(
        cls, query: object, limit: object, since: object, until: object, role: object, timeout: float | None
    ) -> Self:
        """The request of `search_history` and `Session.search`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_MATCHES:
            raise BadRequest(f"limit {limit!r}: use an integer from 1 to {MOST_MATCHES}")
        return cls(
            memory_query(query),
            limit,
            optional_time("since", since),
            optional_time("until", until),
            role_named(role),
            timeout,
        )

    def request(self, user_id: str | None = None) -> SearchTranscript:
        """The operation: in all sessions of a user, or without one in the session in whose lane it runs."""
        return SearchTranscript(
            query=self.query,
            user=user_id,
            limit=self.limit,
            since_ms=None if self.since is None else math.floor(self.since.timestamp() * 1000),
            until_ms=None if self.until is None else math.ceil(self.until.timestamp() * 1000),
            role=self.role,
        )


def role_named(value: object) -> SpokenRole | None:
    """Check a role; None for both.

    Raises:
        BadRequest: it is neither `user` nor `assistant`.
    """
    match value:
        case None | "user" | "assistant":
            return value
        case _:
            raise BadRequest(f'role {value!r}: use "user", "assistant", or None for both')
