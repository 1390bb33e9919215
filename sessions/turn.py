"""A turn as its caller sees it: wait for it, follow its events, cancel it; from any process, by its id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from sessions.answer import answer
from sessions.approvals import ApprovalMethods
from sessions.output import OutputType
from sessions.protocol import Event, TurnStatus
from sessions.session_ports import TurnCalls
from sessions.sse import SseMethods
from sessions.store.keys import SessionKeys
from sessions.store.turns import TurnRecord


class Turn(ApprovalMethods, SseMethods):
    """One accepted request of a session.

    Attributes:
        id: `<session>~<uuid>`; hand it to another process, which goes on with `Session(session).turn(id)`.
    """

    def __init__(self, client: TurnCalls, keys: SessionKeys, part: str, output: OutputType | None = None) -> None:
        self._client = client
        self._keys = keys
        self._part = part
        self._output = output
        self.id = keys.public_id(part)

    def __repr__(self) -> str:
        return f"Turn({self.id!r})"

    # --- what it is now ---------------------------------------------------------------------------------

    async def arecord(self) -> TurnRecord:
        """The stored record: status, attempt, times, worker, usage.

        Raises:
            TurnNotFound: it expired or was deleted.
        """
        return await self._client.portal.acall(self._client.read(self._keys, self._part))

    def record(self) -> TurnRecord:
        """The stored record; see `arecord`."""
        return self._client.portal.call(self._client.read(self._keys, self._part))

    @property
    def status(self) -> TurnStatus:
        """The status now; asks the store each time."""
        return self.record().status

    @property
    def attempt(self) -> int:
        """How often the turn was begun: 0 while it is queued, 2 after one crash or retry; asks the store."""
        return self.record().attempt

    # --- its answer -------------------------------------------------------------------------------------

    async def aresult(self, timeout: float | None = None) -> Any:
        """Wait for the answer: a text, or an object of the agent's output type.

        Args:
            timeout: seconds to wait. It ends the waiting, never the turn.

        Raises:
            ResultTimeout: it did not end in time (NoWorkerAlive: and nobody could run it).
            TurnFailed: it ended without an answer; the subclass says how.
            TurnNotFound: it expired or was deleted.
        """
        work = self._client.wait(self._keys, self._part, timeout)
        return answer(await self._client.portal.acall(work), self.id, self._output)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the answer; see `aresult`."""
        work = self._client.wait(self._keys, self._part, timeout)
        return answer(self._client.portal.call(work), self.id, self._output)

    # --- its stream -------------------------------------------------------------------------------------

    def aevents(self, after: str | None = None) -> AsyncIterator[Event]:
        """Iterate the turn's events from the start, or behind the id of the last one seen.

        Raises:
            StaleCursor: `after` lies beyond the end of the stream.
        """
        return self._client.portal.aiterate(self._client.follow(self._keys, self._part, after))

    def events(self, after: str | None = None) -> Iterator[Event]:
        """Iterate the turn's events; see `aevents`."""
        return self._client.portal.iterate(self._client.follow(self._keys, self._part, after))

    # --- its end ----------------------------------------------------------------------------------------

    async def acancel(self) -> TurnStatus:
        """Ask for the turn's end. A running one is stopped at its worker, model request included."""
        return await self._client.portal.acall(self._client.cancel(self._keys, self._part))

    def cancel(self) -> TurnStatus:
        """Ask for the turn's end; see `acancel`."""
        return self._client.portal.call(self._client.cancel(self._keys, self._part))
