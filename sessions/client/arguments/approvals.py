"""Requests for the inbox of approvals. Checked here, for both back ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

from sessions.client.arguments.memory import results_limit
from sessions.errors import BadRequest
from sessions.protocol.call import SENDER
from sessions.store.calls import PendingCall
from sessions.store.session_index import Position

AskedKind = Literal["approval", "result", "in_doubt"]
"""What a person may be asked: see `PendingCall.kind`."""
_KINDS: Final[tuple[AskedKind, ...]] = get_args(AskedKind)


@dataclass(frozen=True, slots=True)
class InboxQuery:
    """A page of the calls that turns of a user, or of a tenant, wait for.

    Attributes:
        limit: the largest number of sessions whose calls are in it.
        kind: only calls of this kind; None for all that a person is asked, which are not those of the sender's own
            tools: the program that sent the message answers these.
    """

    limit: int
    cursor: str | None
    kind: AskedKind | None

    @classmethod
    def of(cls, limit: object, cursor: str | None, kind: object) -> Self:
        """The request of `Session.approvals`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        if kind is not None and kind not in _KINDS:
            raise BadRequest(f"kind {kind!r}: use one of {', '.join(map(repr, _KINDS))}")
        query = cls(results_limit(limit), cursor, kind)
        query.after  # noqa: B018 - checks the cursor
        return query

    def wants(self, call: PendingCall) -> bool:
        """Whether the page has this call."""
        return call.waits_for != SENDER if self.kind is None else call.kind == self.kind

    @property
    def after(self) -> Position | None:
        """Where to continue.

        Raises:
            BadRequest: the cursor is not one of an inbox.
        """
        if self.cursor is None:
            return None
        position = Position.parse(self.cursor) if isinstance(self.cursor, str) else None
        if position is None:
            raise BadRequest(f"cursor {self.cursor!r}: use the one of the page before", cursor=self.cursor)
        return position
