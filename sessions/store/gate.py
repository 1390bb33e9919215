"""What the limits of a tenant and a user say about a turn that is about to be accepted.

They are decided in another slot than the turn's session, before `accept_turn.lua` runs. The script refuses the turn all
the same, where it would accept one: not a repeat of an accepted turn, and not a message that joins a running one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from sessions.errors import RateLimited

LimitWord = Literal["", "minute", "flight", "open", "sessions"]


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a new turn may be accepted, and whether it may create its session.

    Attributes:
        limit: the one that is reached; empty for none.
        error: what the caller gets if the turn is refused for it.
        new_session: says whether a new session is refused; asked only if the turn would create one. None: it is not.
    """

    limit: LimitWord = ""
    error: RateLimited | None = None
    new_session: Callable[[], Awaitable[RateLimited | None]] | None = None

    async def for_new_session(self) -> Gate:
        """The gate for a turn that would create its session."""
        error = None if self.new_session is None else await self.new_session()
        return replace(self, new_session=None) if error is None else Gate("sessions", error)


OPEN_GATE: Final = Gate()
