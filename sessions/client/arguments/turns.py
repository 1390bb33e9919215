"""Requests about a session's turns. Their arguments are checked here, once, for both back ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

from sessions.client.arguments.values import boolean
from sessions.client.transcript import SortOrder
from sessions.errors import BadRequest, InvalidTurnId
from sessions.store.keys import split_turn_id

OnDisconnect = Literal["continue", "cancel"]
MOST_TURNS: Final = 1000


@dataclass(frozen=True, slots=True)
class TurnListing:
    """A page of a session's turns.

    Attributes:
        open_only: only turns that have not ended, in the order in which they run; order: of all turns.
        scheduled: with open_only, whether turns are listed that are scheduled for later.
        cursor: id of the last turn of the page before; None for the first page.
    """

    open_only: bool
    order: SortOrder
    limit: int
    cursor: str | None
    scheduled: bool = True

    @classmethod
    def of(cls, open_only: object, order: object, limit: object, cursor: object, scheduled: object = True) -> Self:
        """The request of `turns`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        if open_only is not True and open_only is not None:
            raise BadRequest(f"turns(open={open_only!r}): use True for the open turns, or None for all")
        if order not in (None, "oldest", "newest"):
            raise BadRequest(f'turns(order={order!r}): use "oldest" or "newest"')
        if open_only and order is not None:
            raise BadRequest("turns(open=True) lists the turns in the order in which they run: leave order= out")
        if not boolean("scheduled", scheduled) and not open_only:
            raise BadRequest("turns(scheduled=False) is for the open turns: pass open=True as well")
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST_TURNS:
            raise BadRequest(f"turns(limit={limit!r}): use a number from 1 to {MOST_TURNS}")
        if cursor is not None and not isinstance(cursor, str):
            raise BadRequest(f"turns(cursor={cursor!r}): use the cursor of the page before")
        return cls(bool(open_only), "newest" if order == "newest" else "oldest", limit, cursor, bool(scheduled))


def cancels(value: object) -> bool:
    """Check what happens to a turn when its reader leaves (`on_disconnect=`); returns whether it is cancelled.

    Raises:
        BadRequest: it is neither `continue` nor `cancel`.
    """
    if value not in ("continue", "cancel"):
        raise BadRequest(f'on_disconnect={value!r}: use "continue" or "cancel"')
    return value == "cancel"


def own_part(session_id: str, turn_id: str) -> str:
    """The part of the id of one of the session's turns.

    Raises:
        InvalidTurnId: it is not a turn id, or it is one of another session.
    """
    owner, part = split_turn_id(turn_id)
    if owner != session_id:
        raise InvalidTurnId(f"turn {turn_id!r} belongs to session {owner!r}, not to {session_id!r}")
    return part
