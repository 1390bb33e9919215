"""What a session says of itself, and how to go back: checkpoints, context, history, forks, expiry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions.client.blocking import blocking
from sessions.client.ports import BackedSession
from sessions.client.transcript import Page, SortOrder
from sessions.errors import BadRequest


class LifecycleMethods:
    """The methods of `Session` about its own records, each with its async form."""

    async def acreate(self: BackedSession) -> bool:
        """Make the session, empty, if there is none yet. Nobody has to: its first turn or state makes it too.

        Returns:
            Whether it was made; False where it was there already, as it is then.

        Raises:
            SessionOwnerError: it belongs to another user.
        """
        return await self.portal.acall(self.backend.lifecycle.create(self))

    create = blocking(acreate)

    # --- checkpoints ------------------------------------------------------------------------------------

    async def asave_state(self: BackedSession, values: Mapping[str, Any] | None = None) -> int:
        """Write a numbered checkpoint: state, agents' configurations, position in history; returns its number.

        Turns and state are kept without it, by their own commits. A checkpoint is what one can go back to; the
        newest 100 are kept.

        Args:
            values: merged into the state first, in the same atomic step.
        """
        return await self.portal.acall(self.backend.lifecycle.save(self, _values(values)))

    save_state = blocking(asave_state)

    async def acheckpoints(self: BackedSession) -> list[int]:
        """The numbers of the checkpoints that `restore_state` can go back to, oldest first."""
        return await self.portal.acall(self.backend.lifecycle.checkpoints(self))

    checkpoints = blocking(acheckpoints)

    async def arestore_state(self: BackedSession, checkpoint: int | None = None) -> dict[str, Any]:
        """Attach to a session that was saved; returns its state.

        Without a number nothing changes: later turns and later state stay. With one, the state goes back to that
        checkpoint; history is never cut (`fork` makes a session from an earlier turn).

        Raises:
            StateNotFoundError: there is no (such) checkpoint. SessionExpired: there was, until the ttl ran out.
            CorruptRecord, StoreUnavailable: it cannot be read, now or at all.
        """
        return await self.portal.acall(self.backend.lifecycle.restore(self, checkpoint))

    restore_state = blocking(arestore_state)

    # --- context ----------------------------------------------------------------------------------------

    async def aget_context(self: BackedSession, query: str | None = None, *, max_items: int = 3) -> Any:
        """What is known of the session, as a dict; or, for a query, prompt text from what was said about it.

        The dict has session_id, user_id, created_at (datetime, None before the first turn), message_count, turns,
        open_turns, agents, requests, input_tokens, output_tokens, cost (US dollars, as far as prices are known), queue
        and expires_in (seconds, None for never).
        """
        calls = self.backend.lifecycle
        work = calls.context(self) if query is None else calls.context_for(self, query, max_items)
        return await self.portal.acall(work)

    get_context = blocking(aget_context)

    async def ahistory(
        self: BackedSession, limit: int = 50, *, order: SortOrder = "oldest", cursor: int | None = None
    ) -> Page:
        """A page of the transcript: the messages of so many turns, oldest or newest turns first.

        Within a page messages always stand in the order in which they were written.
        """
        _check_page(limit, order)
        return await self.portal.acall(self.backend.lifecycle.history(self, limit, order, cursor))

    history = blocking(ahistory)

    # --- expiry -----------------------------------------------------------------------------------------

    async def ais_expired(self: BackedSession) -> bool:
        """Whether the session was there and its ttl ran out. Using it again begins a fresh one."""
        return (await self.portal.acall(self.backend.lifecycle.lifetime(self)))[0]

    is_expired = blocking(ais_expired)

    async def atime_to_expiry(self: BackedSession) -> float | None:
        """Seconds until the session expires; None when it never does, or a turn is open."""
        return (await self.portal.acall(self.backend.lifecycle.lifetime(self)))[1]

    time_to_expiry = blocking(atime_to_expiry)

    def close(self: BackedSession) -> None:
        """Nothing has to be closed: all is saved, and connections belong to the process. For `with` and PraisonAI."""


def _values(values: object) -> Mapping[str, Any]:
    if values is not None and not isinstance(values, Mapping):
        raise BadRequest(f"save_state({values!r}): give a dict to merge into the state, or nothing")
    return values or {}


def _check_page(limit: object, order: object) -> None:
    if not isinstance(limit, int) or limit < 1 or order not in ("oldest", "newest"):
        raise BadRequest(f'history(limit={limit!r}, order={order!r}): a limit of 1 or more, "oldest" or "newest"')
