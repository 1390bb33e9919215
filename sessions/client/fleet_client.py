"""What a process says to a fleet: about turns, about sessions as a whole, and about what they know.

`sessions.client.get_client()` gives the one client of this process and these settings. Its coroutines run on the
portal's loop; `Session`, `Agent` and `Turn` are the façade over it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from sessions.client.admission import start_hint
from sessions.client.deliveries import Deliveries
from sessions.client.operations import output_of
from sessions.client.scopes import session_name
from sessions.client.turns import TurnClient
from sessions.errors import NoWorkerAlive, ResultTimeout, SessionOwnerError
from sessions.protocol.knowledge_requests import CopyKnowledge, RemoveKnowledge
from sessions.protocol.lanes import KNOWLEDGE, LANES, SEARCH
from sessions.protocol.operation import OperationRequest
from sessions.protocol.turn import Policy, TurnStatus
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.scripts import translated

_LOOK_AGAIN: Final = 0.25


class FleetClient(TurnClient):
    """What `Session`, `Agent` and `Turn` stand on. Its coroutines run on the portal's loop and nowhere else."""

    async def owner(self, keys: SessionKeys) -> str | None:
        """The user that the session belongs to, if any."""
        await self.open()
        owner = await self.scripts.read("HGET", keys.meta, "owner")
        return None if owner is None else owner.decode()

    async def check_owner(self, keys: SessionKeys, user_id: str | None) -> None:
        """Refuse a user who is not the session's owner.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        await self.owner_for(keys, user_id)

    async def check_turn(self, keys: SessionKeys, part: str, user_id: str | None) -> None:
        """Refuse a user whose session it is not, and one whose turn it was not: a turn's record outlives its session.

        Raises:
            SessionOwnerError: the session, or one of its id that expired, belongs to another user.
        """
        if user_id is None:
            await self.check_owner(keys, None)
            return
        await self.open()  # then both travel in one pipeline
        _, whose = await asyncio.gather(self.check_owner(keys, user_id), self.turns.user(keys, part))
        if whose not in (None, user_id):
            raise SessionOwnerError(f"turn {keys.public_id(part)!r} belongs to another user than {user_id!r}")

    async def owner_for(self, keys: SessionKeys, user_id: str | None) -> str | None:
        """Whose the session is for this caller: the user it names, or, when it names none, the stored owner.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        owner = await self.owner(keys)
        if user_id is not None and owner not in (None, user_id):
            raise SessionOwnerError(f"session {keys.session_id!r} belongs to another user than {user_id!r}")
        return user_id or owner

    async def delete_session(self, keys: SessionKeys, user_id: str | None) -> dict[str, int]:
        """Remove a session with its documents; says what was removed.

        Its chunks go first: were this process to die in between, the session would still be there to delete again.

        Raises:
            SessionOwnerError: it is another user's. ResultTimeout, NoWorkerAlive: its documents could not be removed.
        """
        await self.check_owner(keys, user_id)
        removed = await self.forget_documents(keys.lane(KNOWLEDGE), session_name(keys.session_id))
        receipt = await self.turns.delete_session(keys, user_id)
        for name in LANES:
            receipt["keys"] += (await self.turns.delete_session(keys.lane(name)))["keys"]
        return {**receipt, **removed}

    async def deliver_again(self, lane: SessionKeys, part: str) -> tuple[str, TurnStatus]:
        """Try a webhook's delivery once more that came to nothing; see `Deliveries.again`."""
        await self.open()
        return await Deliveries(self.settings, self.turns, self.store, self.dispatcher.wake).again(lane, part)

    # --- searches, and documents on their way in --------------------------------------------------------

    async def retrieve(self, keys: SessionKeys, request: OperationRequest, *, timeout: float | None = None) -> Any:
        """Run a search beside a session, and wait for what it finds.

        Args:
            timeout: seconds; SESSIONFLEET_RETRIEVAL_TIMEOUT when None.

        Raises:
            ResultTimeout: it took too long (NoWorkerAlive: and nobody could run it). TurnFailed: it cannot be done.
        """
        await self.open()
        await self.refuse_when_full()
        patience = self.settings.retrieval_timeout if timeout is None else timeout
        lane, part = keys.lane(SEARCH), new_turn_part()
        try:
            record = await self.operations.search(lane, request, patience, part=part)
        except ResultTimeout:
            raise await self._too_late(lane, part, patience) from None
        return output_of(record, lane)

    async def operate(
        self,
        lane: SessionKeys,
        request: OperationRequest,
        *,
        timeout: float,
        part: str,
        idempotency_key: str | None,
        webhook: str = "",
    ) -> str:
        """Have an operation accepted that may take long; returns its id within the lane.

        Raises:
            SessionBusy, IdempotencyConflict, BackendError: nothing was accepted.
        """
        await self.open()
        await self.refuse_when_full()
        return await self.operations.submit(
            lane, request, timeout=timeout, part=part, idempotency_key=idempotency_key, webhook=webhook
        )

    async def forget_documents(self, lane: SessionKeys, scope: str) -> dict[str, int]:
        """Remove all documents of a scope, and end what is being added to it; how many, with how many chunks.

        Raises:
            NoWorkerAlive: nobody could, and nothing was changed. ResultTimeout, TurnFailed: they were not removed.
        """
        await self.open()
        with translated():
            if not await self.store.exists(lane.meta):
                return {"documents": 0, "chunks": 0}  # nothing was ever added: no worker is needed to say so
        patience = self.settings.retrieval_timeout
        await self._await_worker(lane, patience)
        request = RemoveKnowledge(scope=scope)
        part = await self.operations.submit(lane, request, timeout=patience, policy=Policy.ROLLBACK)
        removed = output_of(await self.wait(lane, part, patience), lane)
        return {"documents": removed["sources"], "chunks": removed["chunks"]}

    async def _await_worker(self, lane: SessionKeys, patience: float) -> None:
        """Wait for one to serve the lane, as it may be starting, before anything is ended for its sake."""
        until = time.monotonic() + patience
        while not (found := await self.serving(lane))[1]:
            if time.monotonic() > until:
                hint = f"nothing was changed; {start_hint(found[0])}"
                raise NoWorkerAlive(f"no worker serves the queue {found[0]!r}, so no document can be removed: {hint}")
            await asyncio.sleep(_LOOK_AGAIN)

    async def copy_documents(self, keys: SessionKeys, to: SessionKeys) -> None:
        """Give a session a copy of another one's own documents, if it has any.

        Raises:
            ResultTimeout, NoWorkerAlive, TurnFailed: they could not be copied.
        """
        with translated():
            if not await self.store.exists(keys.lane(KNOWLEDGE).sources):
                return
        request = CopyKnowledge(scope=session_name(to.session_id), origin=session_name(keys.session_id))
        lane, patience = to.lane(KNOWLEDGE), self.settings.retrieval_timeout
        part = await self.operations.submit(lane, request, timeout=self.settings.ingest_timeout)
        output_of(await self.wait(lane, part, patience), lane)
