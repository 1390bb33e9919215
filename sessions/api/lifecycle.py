"""What a session says of itself, and how to go back: checkpoints, context, history, forks, expiry."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sessions.client.ports import HasPortal, RecordCalls
from sessions.client.transcript import Order, Page
from sessions.local import lifecycle as local_lifecycle

if TYPE_CHECKING:
    from sessions.api.session import Session


class _Session(Protocol):
    """What of a session these methods need."""

    _record_calls: ClassVar[RecordCalls]

    @property
    def client(self) -> HasPortal: ...


class RecordMethods:
    """The methods of `Session` over what is kept of it, each with its async twin."""

    _record_calls: ClassVar[RecordCalls] = local_lifecycle

    async def acreate(self: _Session) -> bool:
        """Make the session, empty, if there is none yet. Nobody has to: its first turn or state makes it too.

        Returns:
            Whether it was made; False where it was there already, as it is then.

        Raises:
            SessionOwnerError: it belongs to another user.
        """
        return await self.client.portal.acall(self._record_calls.create(self))

    def create(self: _Session) -> bool:
        """Make the session, empty, if there is none yet; see `acreate`."""
        return self.client.portal.call(self._record_calls.create(self))

    # --- checkpoints ------------------------------------------------------------------------------------

    async def asave_state(self: _Session, values: Mapping[str, Any] | None = None) -> int:
        """Write a numbered checkpoint: state, agents' configurations, position in history; returns its number.

        Turns and state are kept without it, by their own commits. A checkpoint is what one can go back to; the
        newest 100 are kept.

        Args:
            values: merged into the state first, in the same atomic step.
        """
        return await self.client.portal.acall(self._record_calls.save(self, values))

    def save_state(self: _Session, values: Mapping[str, Any] | None = None) -> int:
        """Write a numbered checkpoint; see `asave_state`."""
        return self.client.portal.call(self._record_calls.save(self, values))

    async def acheckpoints(self: _Session) -> list[int]:
        """The numbers of the checkpoints that `restore_state` can go back to, oldest first."""
        return await self.client.portal.acall(self._record_calls.checkpoints(self))

    def checkpoints(self: _Session) -> list[int]:
        """The numbers of the checkpoints; see `acheckpoints`."""
        return self.client.portal.call(self._record_calls.checkpoints(self))

    async def arestore_state(self: _Session, checkpoint: int | None = None) -> dict[str, Any]:
        """Attach to a session that was saved; returns its state.

        Without a number nothing changes: later turns and later state stay. With one, the state goes back to that
        checkpoint; history is never cut (`fork` makes a session from an earlier turn).

        Raises:
            StateNotFoundError: there is no (such) checkpoint. SessionExpired: there was, until the ttl ran out.
            CorruptRecord, StoreUnavailable: it cannot be read, now or at all.
        """
        return await self.client.portal.acall(self._record_calls.restore(self, checkpoint))

    def restore_state(self: _Session, checkpoint: int | None = None) -> dict[str, Any]:
        """Attach to a session that was saved; see `arestore_state`."""
        return self.client.portal.call(self._record_calls.restore(self, checkpoint))

    # --- context ----------------------------------------------------------------------------------------

    async def aget_context(self: _Session, query: str | None = None, *, max_items: int = 3) -> Any:
        """What is known of the session, as a dict; or, for a query, prompt text from what was said about it.

        The dict has session_id, user_id, created_at (datetime, None before the first turn), message_count, turns,
        open_turns, agents, requests, input_tokens, output_tokens, cost (US dollars, as far as prices are known), queue
        and expires_in (seconds, None for never).
        """
        work = _context(self, query, max_items)
        return await self.client.portal.acall(work)

    def get_context(self: _Session, query: str | None = None, *, max_items: int = 3) -> Any:
        """What is known of the session; see `aget_context`."""
        work = _context(self, query, max_items)
        return self.client.portal.call(work)

    async def ahistory(self: _Session, limit: int = 50, *, order: Order = "oldest", cursor: int | None = None) -> Page:
        """A page of the transcript: the messages of so many turns, oldest or newest turns first.

        Within a page messages always stand in the order in which they were written.
        """
        return await self.client.portal.acall(self._record_calls.history(self, limit, order, cursor))

    def history(self: _Session, limit: int = 50, *, order: Order = "oldest", cursor: int | None = None) -> Page:
        """A page of the transcript; see `ahistory`."""
        return self.client.portal.call(self._record_calls.history(self, limit, order, cursor))

    # --- copies -----------------------------------------------------------------------------------------

    async def afork(self: _Session, session_id: str | None = None, *, at: str | None = None) -> Session:
        """A new session with this one's history up to a turn, its state, memories and agents; they share nothing.

        Args:
            session_id: of the new session; made up when None.
            at: id of the last turn it keeps; None keeps all committed turns.

        Raises:
            TurnNotFound: `at` is no committed turn of this session. SessionExists: the id is taken.
            ResultTimeout, NoWorkerAlive: its documents could not be copied; the new session is there without them.
        """
        return await self.client.portal.acall(self._record_calls.fork(self, session_id, at))

    def fork(self: _Session, session_id: str | None = None, *, at: str | None = None) -> Session:
        """A new session with this one's history up to a turn; see `afork`."""
        return self.client.portal.call(self._record_calls.fork(self, session_id, at))

    # --- expiry -----------------------------------------------------------------------------------------

    async def ais_expired(self: _Session) -> bool:
        """Whether the session was there and its ttl ran out. Using it again begins a fresh one."""
        return (await self.client.portal.acall(self._record_calls.lifetime(self)))[0]

    def is_expired(self: _Session) -> bool:
        """Whether its ttl ran out; see `ais_expired`."""
        return self.client.portal.call(self._record_calls.lifetime(self))[0]

    async def atime_to_expiry(self: _Session) -> float | None:
        """Seconds until the session expires; None when it never does, or a turn is open."""
        return (await self.client.portal.acall(self._record_calls.lifetime(self)))[1]

    def time_to_expiry(self: _Session) -> float | None:
        """Seconds until the session expires; see `atime_to_expiry`."""
        return self.client.portal.call(self._record_calls.lifetime(self))[1]

    def close(self: _Session) -> None:
        """Nothing has to be closed: all is saved, and connections belong to the process. For `with` and PraisonAI."""


def _context(session: _Session, query: str | None, max_items: int) -> Coroutine[Any, Any, Any]:
    calls = session._record_calls  # noqa: SLF001 - these methods are the session's own
    return calls.context(session) if query is None else calls.context_for(session, query, max_items)
