"""The methods of `Session` about its own records: creation, checkpoints, context, history, expiry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions.client.arguments.sessions import SessionChange
from sessions.client.arguments.turns import own_part
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.client.transcript import Page, SortOrder
from sessions.errors import BadRequest
from sessions.store.session_info import MetadataValue


class LifecycleMethods:
    """The methods of `Session` about its own records, each with an async form."""

    async def acreate(
        self: BackedSession, *, title: str | None = None, metadata: Mapping[str, MetadataValue] | None = None
    ) -> bool:
        """Create the session, empty, if it does not exist. Optional: its first turn or state creates it too.

        Args:
            title, metadata: as for `update`; a session without a title gets one from its first message.

        Returns:
            Whether it was created; an existing session is left unchanged.

        Raises:
            SessionOwnerError: it belongs to another user.
        """
        return await self.portal.acall(self.backend.lifecycle.create(self, SessionChange.of(title, metadata)))

    create = blocking(acreate)

    # --- checkpoints ------------------------------------------------------------------------------------

    async def asave_state(self: BackedSession, values: Mapping[str, Any] | None = None) -> int:
        """Save a numbered checkpoint of state, agents' configurations and position in the history; returns its number.

        Turns and state are durable without it. A checkpoint is a point to return to with `restore_state`; the newest
        100 are kept.

        Args:
            values: merged into the state first, in the same transaction.
        """
        return await self.portal.acall(self.backend.lifecycle.save(self, _values(values)))

    save_state = blocking(asave_state)

    async def acheckpoints(self: BackedSession) -> list[int]:
        """The numbers of the checkpoints that `restore_state` can restore, oldest first."""
        return await self.portal.acall(self.backend.lifecycle.checkpoints(self))

    checkpoints = blocking(acheckpoints)

    async def arestore_state(self: BackedSession, checkpoint: int | None = None) -> dict[str, Any]:
        """Restore a checkpoint, or check that there is one; returns the session's state.

        Without a number nothing changes. With a number, the state is set back to that checkpoint. The history is never
        shortened (`fork` creates a session from an earlier turn).

        Raises:
            StateNotFoundError: there is no (such) checkpoint. SessionExpired: the session's ttl ran out.
            CorruptRecord, StoreUnavailable: it cannot be read.
        """
        return await self.portal.acall(self.backend.lifecycle.restore(self, checkpoint))

    restore_state = blocking(arestore_state)

    # --- context ----------------------------------------------------------------------------------------

    async def aget_context(self: BackedSession, query: str | None = None, *, max_items: int = 3) -> Any:
        """Facts about the session, as a dict; or, with a query, the transcript's best matching lines as prompt text.

        The dict has session_id, user_id, created_at (datetime, None before the first turn), message_count, turns,
        open_turns, agents, requests, input_tokens, cache_read_tokens and cache_write_tokens (of the input tokens, those
        that came from or went to providers' prompt caches), output_tokens, cost (US dollars, as far as prices are
        known; None if none is), unpriced_requests (those whose price is not known), queue and expires_in (seconds, None
        for never).
        """
        calls = self.backend.lifecycle
        work = calls.context(self) if query is None else calls.context_for(self, query, max_items)
        return await self.portal.acall(work)

    get_context = blocking(aget_context)

    async def ahistory(
        self: BackedSession,
        limit: int = 50,
        *,
        order: SortOrder = "oldest",
        cursor: int | None = None,
        branch: str | None = None,
    ) -> Page:
        """A page of the transcript: the messages of up to `limit` turns, the oldest or the newest turns first.

        Within a page, messages are always in the order in which they were written.

        Args:
            cursor: of the page before.
            branch: id of a branch (`session.branches()`): the transcript as it was before that turn was replaced.

        Raises:
            TurnNotFound: there is no such branch. InvalidTurnId: it is not an id of this session.
        """
        _check_page(limit, order)
        part = None if branch is None else own_part(self.session_id, branch)
        return await self.portal.acall(self.backend.lifecycle.history(self, limit, order, cursor, part))

    history = blocking(ahistory)

    # --- expiry -----------------------------------------------------------------------------------------

    async def ais_expired(self: BackedSession) -> bool:
        """Whether the session existed and its ttl ran out. Using it again starts a new, empty one."""
        return (await self.portal.acall(self.backend.lifecycle.lifetime(self)))[0]

    is_expired = blocking(ais_expired)

    async def atime_to_expiry(self: BackedSession) -> float | None:
        """Seconds until the session expires; None if it never does, or while a turn is open."""
        return (await self.portal.acall(self.backend.lifecycle.lifetime(self)))[1]

    time_to_expiry = blocking(atime_to_expiry)

    def close(self: BackedSession) -> None:
        """Does nothing: everything is saved, and connections belong to the process. For code written for PraisonAI."""


def _values(values: object) -> Mapping[str, Any]:
    if values is not None and not isinstance(values, Mapping):
        raise BadRequest(f"save_state({values!r}): pass a dict to merge into the state, or nothing")
    return values or {}


def _check_page(limit: object, order: object) -> None:
    if not isinstance(limit, int) or limit < 1 or order not in ("oldest", "newest"):
        raise BadRequest(
            f'history(limit={limit!r}, order={order!r}): use a limit of 1 or more, and "oldest" or "newest"'
        )
