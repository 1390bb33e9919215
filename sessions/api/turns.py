"""The methods of `Session` about its turns: lists of them, the open one, and the events of all as one stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sessions.api.turn import Turn
from sessions.client.arguments.turns import TurnListing
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking, iterating
from sessions.client.transcript import SortOrder
from sessions.protocol.event import SessionEvent
from sessions.protocol.turn import TurnError, TurnStatus, Usage
from sessions.sse import KEEP_ALIVE, pieces
from sessions.store.turns import TurnSummary

__all__ = ["TurnInfo", "TurnMethods", "TurnPage"]


@dataclass(frozen=True, slots=True)
class TurnInfo:
    """A turn as it was when it was listed. Its answer is not read: `info.turn.result()` returns it.

    Attributes:
        turn: to wait for it, follow, cancel or answer it.
        agent: the name of the agent; message: what was said to it; metadata: what the caller attached to it.
        attempt: how often it was begun, 0 while it is queued.
        not_before: the time that it was scheduled for, if it was.
        error: why it ended without an answer; usage: what it cost; finish_reason: why the model stopped.
    """

    turn: Turn
    id: str
    status: TurnStatus
    agent: str
    message: str
    attempt: int
    accepted_at: datetime
    not_before: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: TurnError | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, turn: Turn, summary: TurnSummary) -> TurnInfo:
        """A stored turn as it is listed."""
        record = summary.record
        return cls(
            turn=turn,
            id=turn.id,
            status=record.status,
            agent=summary.request.agent,
            message=summary.request.in_words,
            attempt=record.attempt,
            accepted_at=_time(record.accepted_ms),
            not_before=None if record.not_before_ms is None else _time(record.not_before_ms),
            started_at=None if record.started_ms is None else _time(record.started_ms),
            ended_at=None if record.ended_ms is None else _time(record.ended_ms),
            error=record.error,
            usage=record.usage,
            finish_reason=record.finish_reason,
            metadata=record.metadata,
        )


@dataclass(frozen=True, slots=True)
class TurnPage:
    """Some turns, and the cursor of the next page (`session.turns(cursor=...)`); None at the end."""

    turns: list[TurnInfo] = field(default_factory=list)
    cursor: str | None = None

    def __iter__(self) -> Iterator[TurnInfo]:
        return iter(self.turns)

    def __len__(self) -> int:
        return len(self.turns)


class TurnMethods:
    """The methods of `Session` about its turns, each with an async form."""

    async def aturns(
        self: BackedSession,
        *,
        open: bool | None = None,  # noqa: A002 - as in REST: `?open=1`
        limit: int = 50,
        order: SortOrder | None = None,
        cursor: str | None = None,
        scheduled: bool = True,
    ) -> TurnPage:
        """A page of the session's turns whose records still exist (SESSIONFLEET_RESULT_TTL after their ends).

        Args:
            open: True for the turns that have not ended only, in the order in which they run; those that wait for an
                answer and let others pass come after these, and those that are scheduled for later come last.
            limit: the largest number of turns, up to 1,000. A page has fewer if their messages are large.
            order: of all turns, "oldest" (the default) or "newest" first. Turns that have ended are in the order of
                their ends; open ones are newer than all of them, in the order of their acceptance.
            cursor: of the page before.
            scheduled: with `open`, False leaves out the turns that are scheduled for later.

        Raises:
            BadRequest: an argument cannot be used; InvalidTurnId: the cursor is none.
            SessionOwnerError: the session belongs to another user.
        """
        listing = TurnListing.of(open, order, limit, cursor, scheduled)
        page = await self.portal.acall(self.backend.turns.page(self, listing))
        client, keys = self.client, self.keys
        found = [
            TurnInfo.of(Turn(client, keys, summary.record.part, user_id=self.user_id), summary)
            for summary in page.turns
        ]
        return TurnPage(found, page.cursor)

    turns = blocking(aturns)

    async def aopen_turn(self: BackedSession) -> Turn | None:
        """The turn that runs or is next; None if the session is idle.

        A turn that waits for an answer is open, too; if later turns pass it, they come first. A turn that is scheduled
        for later does not count until it is due.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        part = await self.portal.acall(self.backend.turns.open_turn(self))
        return None if part is None else Turn(self.client, self.keys, part, user_id=self.user_id)

    open_turn = blocking(aopen_turn)

    # --- the session's stream ---------------------------------------------------------------------------

    def aevents(self: BackedSession, after: str | None = None) -> AsyncIterator[SessionEvent]:
        """Iterate over the events of the open turn from its start, and of the turns after it, until none is open.

        Each turn begins with an event `turn`, whose data has its id, agent and message.

        Args:
            after: an event of this stream: everything comes that follows it. That is the rest of its turn, then the
                turns that have ended since, then the open one. If the record of its turn is gone, it is as None.

        Raises:
            StaleCursor: `after` is beyond the end of its turn, or from elsewhere (the ids of `turn.events()` are).
            SessionOwnerError: the session belongs to another user.
        """
        return self.portal.aiterate(self.backend.turns.follow(self, after))

    events = iterating(aevents)

    async def asse(
        self: BackedSession, after: str | None = None, *, keep_alive: float = KEEP_ALIVE, full_errors: bool = False
    ) -> AsyncIterator[str] | None:
        """The session's stream (`aevents`) as pieces of an SSE response; None if the session is idle: respond with 204.

        A browser's `EventSource` sends the last id as `Last-Event-ID` when it reconnects, also after the stream's end;
        204 stops it. See `Turn.asse` for the arguments.

        Raises:
            SessionOwnerError, StaleCursor, BackendError: all of them before the first piece.
        """
        calls = self.backend.turns
        if not await self.portal.acall(calls.has_events(self, after)):
            return None
        return self.portal.aiterate(pieces(calls.follow(self, after), keep_alive, full_errors=full_errors))

    def sse(
        self: BackedSession, after: str | None = None, *, keep_alive: float = KEEP_ALIVE, full_errors: bool = False
    ) -> Iterator[str] | None:
        """The session's stream as pieces of an SSE response; see `asse`. Each reader occupies a thread."""
        calls = self.backend.turns
        if not self.portal.call(calls.has_events(self, after)):
            return None
        return self.portal.iterate(pieces(calls.follow(self, after), keep_alive, full_errors=full_errors))


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
