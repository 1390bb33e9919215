"""A fleet's turns, as a client sees them: submit, wait, follow, cancel, answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from broker_config.telemetry import get_logger
from sessions.client.admission import Admission
from sessions.client.admission_checks import start_hint
from sessions.client.attendance import attending
from sessions.client.connection import FleetConnection
from sessions.client.files import Files
from sessions.client.ownership import Ownership
from sessions.client.submission_limits import SubmissionLimits
from sessions.client.timeout_message import timeout_message
from sessions.errors import (
    BackendError,
    BadRequest,
    MessageTooLarge,
    NoWorkerAlive,
    ResultTimeout,
    TurnNotFound,
)
from sessions.protocol.call import CallAnswer
from sessions.protocol.event import Event
from sessions.protocol.turn import TurnStatus
from sessions.store.calls import PendingCall
from sessions.store.events import check_cursor, follow, is_at_end, wait_changed
from sessions.store.keys import SessionKeys
from sessions.store.shelter import sheltered
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord

_NO_WORKER_WARNING: Final = 5.0
_DEADLINE_SLACK: Final = 15.0
_log = get_logger(__name__)


class Turns:
    """Submits turns and waits for them. Its coroutines run on the portal's event loop only."""

    def __init__(
        self,
        connection: FleetConnection,
        admission: Admission,
        ownership: Ownership,
        files: Files,
        limits: SubmissionLimits,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._ownership = ownership
        self._admission = admission
        self._files = files
        self._readers: Counter[str] = Counter()

    # --- submit ---------------------------------------------------------------------------------------------

    async def submit(self, keys: SessionKeys, submission: Submission) -> str:
        """Submit a turn and return its id within the session (for a repeated idempotency key, the first one's).

        Raises:
            BadRequest: the request cannot run; SessionBusy, RateLimited, IdempotencyConflict, SessionOwnerError,
            BackendError.
        """
        submission = await self._admitted(keys, submission)
        return await self._accept(keys, submission)

    async def run(self, keys: SessionKeys, submission: Submission) -> TurnRecord:
        """Submit a turn and wait for its end. Its acceptance also subscribes this client, which saves a round trip.

        Raises:
            As `submit` and `wait`.
        """
        submission = await self._admitted(keys, submission)
        bell, timeout = self._connection.bell, submission.delay + submission.timeout + _DEADLINE_SLACK
        await bell.subscribe(keys.partition)
        with bell.waiting(submission.part) as changed:
            # Not under the time limit: until this returns, nobody knows which turn an error should name.
            accepted = await self._accept(keys, submission, watcher=bell.nonce)
            if accepted == submission.part:
                return await self._wait(keys, accepted, changed, timeout, watched=True, waiting_counts=False)
        with bell.waiting(accepted) as changed:  # a turn that it joined, or that was accepted earlier under its key
            return await self._wait(keys, accepted, changed, timeout, watched=False, waiting_counts=False)

    async def _admitted(self, keys: SessionKeys, submission: Submission) -> Submission:
        """Look up what the submission replaces, if anything, have it admitted, and store its files."""
        if submission.replacement is not None:
            await self._connection.open()
            submission = await self._connection.stores.turns.resolved(keys, submission)
        await self._admission.admit(submission)
        if submission.content and submission.sender is not None:  # its files are stored before the turn is accepted
            await self._ownership.check(keys, submission.sender, "write")
        return await self._files.with_stored(keys, submission)

    async def _accept(self, keys: SessionKeys, submission: Submission, watcher: str = "") -> str:
        accepted = await self._limits.accept(keys, submission, watcher=watcher)
        if accepted.cancelled is not None:
            await self._connection.dispatcher.notify_cancel(
                accepted.cancelled.worker, keys.ref, accepted.cancelled.part
            )
        if accepted.wake_up is not None:
            await self._connection.dispatcher.wake(accepted.wake_up)
        return accepted.part

    def check_message(self, message: str) -> None:
        """Refuse a message that is too large.

        Raises:
            MessageTooLarge: it is larger than SESSIONFLEET_MESSAGE_LIMIT_BYTES.
        """
        size, limit = len(message.encode()), self._connection.settings.message_limit_bytes
        if size > limit:
            raise MessageTooLarge(
                f"the message has {size} bytes, the limit is {limit}: "
                "shorten it, or set SESSIONFLEET_MESSAGE_LIMIT_BYTES"
            )

    # --- wait and read --------------------------------------------------------------------------------------

    async def wait(self, keys: SessionKeys, part: str, timeout: float | None) -> TurnRecord:
        """Wait for a turn's end.

        Raises:
            ResultTimeout: it did not end in time; the turn continues. NoWorkerAlive: no worker serves its queue.
        """
        await self._connection.open()
        await self._connection.bell.subscribe(keys.partition)
        with self._connection.bell.waiting(part) as changed:
            return await self._wait(keys, part, changed, timeout, watched=False, waiting_counts=True)

    async def _wait(
        self,
        keys: SessionKeys,
        part: str,
        changed: asyncio.Event,
        timeout: float | None,
        *,
        watched: bool,
        waiting_counts: bool,
    ) -> TurnRecord:
        """Wait until the turn has ended, or raise `timeout_error`.

        Args:
            watched: whether the store already notifies this client of the turn's end.
            waiting_counts: whether the timeout includes the time for which the turn waits for people.
        """
        try:
            async with asyncio.timeout(timeout) as limit:
                if not watched:
                    await self._connection.stores.turns.watch(keys, part, self._connection.bell.nonce, "waiters")
                    changed.set()  # it may have ended before we subscribed: read once before waiting
                started, warned = time.monotonic(), False
                while True:
                    await wait_changed(changed)
                    record = await self._connection.stores.turns.read(keys, part)
                    if record.status.final:
                        return record
                    if timeout is not None and not waiting_counts and record.status is TurnStatus.WAITING:
                        limit.reschedule(asyncio.get_running_loop().time() + timeout)
                    if not warned and time.monotonic() - started > _NO_WORKER_WARNING:
                        warned = True
                        await self._warn_without_worker(keys)
        except TimeoutError:
            raise await self.timeout_error(keys, part, timeout) from None

    async def _warn_without_worker(self, keys: SessionKeys) -> None:
        queue, serving = await self._connection.serving(keys)
        if not serving:
            _log.warning("no_worker_alive", queue=queue, hint=start_hint(queue))

    async def timeout_error(self, keys: SessionKeys, part: str, timeout: float | None) -> ResultTimeout:
        """The error for a turn that did not end in time; says what the turn is doing, or that no worker serves it."""
        queue, serving = await self._connection.serving(keys)
        turn = keys.public_id(part)
        if not serving:
            message = f"no worker serves the queue {queue!r}, so turn {turn!r} waits: {start_hint(queue)}"
            return NoWorkerAlive(message, turn_id=turn)
        record, ahead = None, 0
        with suppress(TurnNotFound, BackendError):
            record = await self._connection.stores.turns.read(keys, part)
            ahead = await self._connection.stores.turns.ahead_of(keys, part)
        return ResultTimeout(timeout_message(turn, timeout or 0.0, record, ahead=ahead, serving=serving), turn_id=turn)

    async def has_events(self, keys: SessionKeys, part: str, after: str | None) -> bool:
        """Whether there are events after a cursor, or will be.

        Raises:
            TurnNotFound: there is no such turn. StaleCursor: the cursor is beyond the end.
        """
        await self._connection.open()
        await self._connection.stores.turns.read(keys, part)
        if after is None:
            return True
        await check_cursor(self._connection.stores.scripts, keys, part, after)
        return not await is_at_end(self._connection.stores.scripts, keys, part, after)

    async def follow(self, keys: SessionKeys, part: str, after: str | None) -> AsyncGenerator[Event]:
        """All events of a turn after a cursor, as they come, up to the last one."""
        connection = self._connection
        await connection.open()
        scripts, bell = connection.stores.scripts, connection.bell
        await bell.subscribe(keys.partition)
        ended = False
        self._readers[part] += 1
        subscribing = asyncio.ensure_future(connection.stores.turns.watch(keys, part, bell.nonce, "readers"))
        try:
            ended = (await asyncio.shield(subscribing)).final
            if after is not None:
                await check_cursor(scripts, keys, part, after)
            async for event in follow(scripts, connection.keyring, bell, keys, part, after):
                ended = ended or event.final
                yield event
        finally:
            self._readers[part] -= 1
            if not self._readers[part]:  # the store has one subscription per process, not per reader
                del self._readers[part]
                if not ended:
                    await sheltered(self._unsubscribe(keys, part, subscribing))

    async def attend(
        self, keys: SessionKeys, part: str, after: str | None, user_id: str | None = None
    ) -> AsyncGenerator[Event]:
        """`follow` as a reader whose absence cancels the turn: `disconnect_grace` after the last one has left.

        Raises:
            SessionOwnerError: the user may not cancel the turn.
        """
        await self._may_write(keys, user_id)
        attend = partial(self._connection.stores.turns.attend, keys, part)
        async with (
            attending(attend, self._connection.settings.disconnect_grace),
            aclosing(self.follow(keys, part, after)) as events,
        ):
            async for event in events:
                yield event

    async def _unsubscribe(self, keys: SessionKeys, part: str, subscribing: asyncio.Future[TurnStatus]) -> None:
        await asyncio.wait({subscribing})  # if the reader left at once: this must not arrive before the subscription
        try:
            await self._connection.stores.turns.watch(keys, part, self._connection.bell.nonce, "readers", on=False)
            if self._readers[part]:  # a new reader's subscription may have arrived before this
                await self._connection.stores.turns.watch(keys, part, self._connection.bell.nonce, "readers")
        except (TurnNotFound, ConnectionError):
            return  # subscriptions are dropped with the turn's record

    async def read(self, keys: SessionKeys, part: str) -> TurnRecord:
        """The record of a turn."""
        await self._connection.open()
        return await self._connection.stores.turns.read(keys, part)

    async def cancel(self, keys: SessionKeys, part: str, user_id: str | None = None) -> TurnStatus:
        """Cancel a turn, for a user who may write to its session.

        Returns:
            The status now: cancelled; running (its worker was notified); queued (a worker records what it completed,
            then ends it); or how it had already ended.

        Raises:
            SessionOwnerError: the user may not. TurnNotFound.
        """
        await self._may_write(keys, user_id)
        status, worker = await self._connection.stores.turns.cancel(keys, part)
        if worker is not None:
            if worker:
                await self._connection.dispatcher.notify_cancel(worker, keys.ref, part)
            await self._nudge(keys, part)  # if it waits for other turns, a worker now cancels those
        return status

    async def _may_write(self, keys: SessionKeys, user_id: str | None) -> None:
        """Connect, and refuse a user who may only read the session."""
        await self._connection.open()
        if user_id is not None:
            await self._ownership.check(keys, user_id, "write")

    async def _nudge(self, keys: SessionKeys, part: str) -> None:
        if (wake_up := await self._connection.stores.turns.nudge(keys, part)) is not None:
            await self._connection.dispatcher.wake(wake_up)

    async def pending_calls(self, keys: SessionKeys, part: str) -> list[PendingCall]:
        """The calls that a turn waits for."""
        await self._connection.open()
        return await self._connection.stores.calls.pending(keys, part)

    async def answer_call(
        self, keys: SessionKeys, part: str, call_id: str, answer: CallAnswer, user_id: str | None = None
    ) -> None:
        """Answer a call that a turn waits for; wake the turn if it was the last one.

        Raises:
            CallNotFound, CallAnswered, BadRequest, TurnNotFound, SessionOwnerError: see `Turn.aapprove`.
        """
        await self._may_write(keys, user_id)
        size, limit = len(answer.model_dump_json()), self._connection.settings.result_limit_bytes
        if size > limit:
            raise BadRequest(f"the answer has {size} bytes, the limit is {limit} (SESSIONFLEET_RESULT_LIMIT_BYTES)")
        answered = await self._connection.stores.calls.answer(keys, part, call_id, answer)
        if answer.always and answer.action == "approve":  # a caller that repeats a cut-off answer repeats this too
            await self._connection.stores.approved_tools.add(keys, answered.tool, user_id)
        if answered.wake_up is not None:
            await self._connection.dispatcher.wake(answered.wake_up)
