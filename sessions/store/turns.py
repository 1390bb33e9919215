"""The client's side of a turn: accept, read, watch and cancel it, and delete its session."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from broker_config.settings import Settings
from sessions.errors import (
    CorruptRecord,
    IdempotencyConflict,
    RateLimited,
    TurnNotFound,
)
from sessions.protocol.access import refused
from sessions.protocol.turn import TurnError, TurnRequest, TurnStatus, Usage
from sessions.store.acceptance import Accepted, CancelledRun, acceptance, digests
from sessions.store.gate import OPEN_GATE, Gate
from sessions.store.keys import SessionKeys
from sessions.store.refusals import refusal
from sessions.store.replacing import resolved
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.submission import Submission, idempotency_hash
from sessions.store.transitions import records
from sessions.store.transitions import turns as transitions
from sessions.store.transitions.shared import Cancelled, Missing, Moved, OtherOwner
from sessions.store.transitions.turns import Watch, Which
from sessions.store.turn_fields import ERROR, METADATA, REQUEST, RESULT, WEBHOOK
from sessions.store.wake_up import WakeUp

_FIELDS = tuple(
    b"status attempt crashes retries accepted due deadline started ended worker cancel result error usage finish "
    b"metadata schedule".split()
)
_SUMMARY_FIELDS = (*(name for name in _FIELDS if name != b"result"), b"request", b"user")


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn as it is stored.

    `not_before_ms` is the time that it was scheduled for (`submit(not_before=...)`); None if it was not. `schedule_id`
    names the schedule whose tick it is.
    `finish_reason` says why the model stopped: `stop`, or `length` and `content_filter` for an answer that was cut.
    `metadata` is what the caller attached to the message.
    """

    part: str
    status: TurnStatus
    attempt: int
    crashes: int
    retries: int
    accepted_ms: int
    deadline_ms: int
    started_ms: int | None
    ended_ms: int | None
    worker: str | None
    cancel_requested: bool
    result: bytes | None
    error: TurnError | None
    usage: Usage | None
    finish_reason: str | None = None
    not_before_ms: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    schedule_id: str | None = None

    @property
    def model(self) -> str | None:
        """Provider and name of the model that gave the answer; of a fallback chain, the one that answered."""
        return None if self.result is None else json.loads(self.result).get("model")

    @classmethod
    def read(cls, part: str, raw: dict[bytes, bytes]) -> TurnRecord:
        """A record from its hash.

        Raises:
            CorruptRecord: a field is missing or cannot be read.
        """
        try:
            return cls(
                part=part,
                status=TurnStatus(raw[b"status"].decode()),
                attempt=int(raw[b"attempt"]),
                crashes=int(raw.get(b"crashes", 0)),
                retries=int(raw.get(b"retries", 0)),
                accepted_ms=int(raw[b"accepted"]),
                deadline_ms=int(raw[b"deadline"]),
                started_ms=int(raw[b"started"]) if b"started" in raw else None,
                ended_ms=int(raw[b"ended"]) if b"ended" in raw else None,
                worker=raw[b"worker"].decode() if b"worker" in raw else None,
                cancel_requested=b"cancel" in raw,
                result=raw.get(b"result") or None,
                error=TurnError.model_validate_json(raw[b"error"]) if raw.get(b"error") else None,
                usage=Usage.model_validate_json(raw[b"usage"]) if raw.get(b"usage") else None,
                finish_reason=raw[b"finish"].decode() if raw.get(b"finish") else None,
                not_before_ms=int(raw[b"due"]) if b"due" in raw else None,
                metadata=json.loads(raw.get(b"metadata", b"{}")),
                schedule_id=raw[b"schedule"].decode() if b"schedule" in raw else None,
            )
        except (KeyError, ValueError, ValidationError) as error:
            raise CorruptRecord(f"the record of turn {part} cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class TurnSummary:
    """A turn as lists show it.

    Attributes:
        record: without the result; request: what was asked for.
        user: the owner of the session when the turn was accepted, if it had one.
        size: bytes of the request as it is stored.
    """

    record: TurnRecord
    request: TurnRequest
    user: str | None
    size: int


class TurnStore:
    """Turns in the store, as a client sees them. Values are encrypted and decrypted here."""

    def __init__(self, scripts: ScriptRunner, client: Any, settings: Settings) -> None:
        self._scripts = scripts
        self._client = client
        self._settings = settings
        self._keyring = KeyRing.of(settings)

    async def accept(
        self, keys: SessionKeys, submission: Submission, *, watcher: str = "", gate: Gate = OPEN_GATE
    ) -> Accepted:
        """Accept a turn. Once this returns, the turn ends in exactly one final status.

        Args:
            watcher: nonce of the client to notify when the turn ends.
            gate: what the limits of the tenant and the user say.

        Raises:
            SessionOwnerError, SessionBusy, IdempotencyConflict, UnknownFile, RateLimited: nothing was changed.
            StoreFull, StoreUnavailable: the store could not accept it.
        """
        while True:
            call = acceptance(self._settings, self._keyring, keys, submission, watcher, gate)
            match await self._scripts.run(call):
                case Moved():
                    submission = await self.resolved(keys, submission)
                case transitions.NewSession():
                    gate = await gate.for_new_session()
                case transitions.Limited():
                    raise gate.error or RateLimited
                case reply:
                    return await self._accepted(keys, submission, reply)

    async def resolved(self, keys: SessionKeys, submission: Submission) -> Submission:
        """The submission with what it replaces, looked up; one that replaces nothing is returned as it is.

        Raises:
            CorruptRecord, SealError: the replaced turn cannot be read.
        """
        return await resolved(self._scripts, self._keyring, keys, submission)

    async def _accepted(self, keys: SessionKeys, submission: Submission, reply: transitions.Decided) -> Accepted:
        match reply:
            case transitions.Accepted(worker=worker, marked=marked):
                wake_up = WakeUp.of(keys, reply.queue, reply.now_ms) if reply.wake else None
                cancelled = CancelledRun(worker or "", marked) if marked else None
                return Accepted(submission.part, wake_up=wake_up, cancelled=cancelled)
            case transitions.Steered(turn=joined):
                return Accepted(joined)
            case transitions.Duplicate(turn=first):
                return Accepted(first, duplicate=True)
            case transitions.Conflict(turn=first):
                if await self._asked_before(keys, submission):
                    return Accepted(first, duplicate=True)
                first = keys.public_id(first)
                raise IdempotencyConflict(f"{IdempotencyConflict.__doc__} It belongs to turn {first!r}.", turn_id=first)
            case transitions.Taken(turn=first):
                # If the user was looked up, another turn may be the one to replace by now, and another user its sender.
                looked_up = submission.replacement is not None and submission.replacement.same_sender
                if looked_up and await self._asked_before(keys, submission):
                    return Accepted(first, duplicate=True)
                first = keys.public_id(first)
                raise IdempotencyConflict(
                    f"another user of the session used this idempotency key, for turn {first!r}: use keys that only "
                    "your requests have",
                    turn_id=first,
                )
            case _:
                raise refusal(keys, submission, reply)

    async def _asked_before(self, keys: SessionKeys, submission: Submission) -> bool:
        """Whether its key was used for this same request, even if the digest is by another key or by none."""
        key = keys.idempotency(idempotency_hash(submission.idempotency_key))
        with translated():
            raw = await self._client.hget(key, "digest")
        return raw is not None and raw.decode() in digests(self._keyring, submission)

    async def ahead_of(self, keys: SessionKeys, part: str) -> int:
        """How many turns of its session are before it; 0 for one that is next, runs, or has ended."""
        return int(await self._scripts.read("LPOS", keys.mailbox, part) or 0)

    async def read(self, keys: SessionKeys, part: str) -> TurnRecord:
        """The record of a turn.

        Raises:
            TurnNotFound: there is none. SealError: it cannot be decrypted.
        """
        return TurnRecord.read(part, await self._fields(keys, part, _FIELDS))

    async def summary(self, keys: SessionKeys, part: str) -> TurnSummary:
        """The record of a turn without its result, which may be large, and its request.

        Raises:
            As `read`.
        """
        raw = await self._fields(keys, part, _SUMMARY_FIELDS)
        record, request, user = TurnRecord.read(part, raw), raw.get(b"request", b""), raw.get(b"user")
        try:
            asked = TurnRequest.model_validate_json(self._keyring.open(keys.turn(part), REQUEST, request))
        except ValidationError as error:
            raise CorruptRecord(f"the request of turn {part} cannot be read: {error!r}") from error
        return TurnSummary(record, asked, None if user is None else user.decode(), len(request))

    async def _fields(self, keys: SessionKeys, part: str, names: tuple[bytes, ...]) -> dict[bytes, bytes]:
        """The fields of a turn that exist; result, error and metadata decrypted.

        Raises:
            TurnNotFound: there is none. SealError: it cannot be decrypted.
        """
        values = await self._scripts.read("HMGET", keys.turn(part), *names)
        raw: dict[bytes, bytes] = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        if b"status" not in raw:
            raise self._not_found(keys, part)
        if b"result" in raw:
            raw[b"result"] = self._keyring.open(keys.turn(part), RESULT, raw[b"result"])
        if b"error" in raw:
            raw[b"error"] = self._keyring.open(keys.turn(part), ERROR, raw[b"error"])
        if b"metadata" in raw:
            raw[b"metadata"] = self._keyring.open(keys.turn(part), METADATA, raw[b"metadata"])
        return raw

    async def request(self, keys: SessionKeys, part: str) -> TurnRequest:
        """The turn's request.

        Raises:
            TurnNotFound: there is no such turn. SealError: it cannot be decrypted. BackendError: the store did not
                answer.
        """
        with translated():
            raw = await self._client.hget(keys.turn(part), REQUEST)
        if raw is None:
            raise self._not_found(keys, part)
        return TurnRequest.model_validate_json(self._keyring.open(keys.turn(part), REQUEST, raw))

    async def webhook(self, keys: SessionKeys, part: str) -> str | None:
        """The URL to call when a turn ends, if any."""
        with translated():
            raw = await self._client.hget(keys.turn(part), WEBHOOK)
        return None if raw is None else self._keyring.open(keys.base, WEBHOOK, raw).decode()

    async def user(self, keys: SessionKeys, part: str) -> str | None:
        """The owner of the turn's session when it was accepted; None: no owner, or no such turn."""
        raw = await self._scripts.read("HGET", keys.turn(part), "user")
        return None if raw is None else raw.decode()

    async def sender(self, keys: SessionKeys, part: str) -> str | None:
        """The user who sent the turn's message, if that is not the session's owner; None if there is no such turn."""
        raw = await self._scripts.read("HGET", keys.turn(part), "sender")
        return None if raw is None else raw.decode()

    async def watch(self, keys: SessionKeys, part: str, nonce: str, watch: Watch, *, on: bool = True) -> TurnStatus:
        """Subscribe this client to a turn, or unsubscribe it; returns the turn's status."""
        reply = await self._scripts.run(transitions.watch_turn(keys.pair, turn=part, nonce=nonce, watch=watch, on=on))
        if isinstance(reply, Missing):
            raise self._not_found(keys, part)
        return reply.status

    async def attend(self, keys: SessionKeys, part: str, seconds: float) -> TurnStatus:
        """Record that the reader is there whose absence cancels the turn, for this long; returns the turn's status."""
        reply = await self._scripts.run(transitions.attend_turn(keys.pair, turn=part, for_ms=int(seconds * 1000)))
        if isinstance(reply, Missing):
            raise self._not_found(keys, part)
        return reply.status

    async def cancel(self, keys: SessionKeys, part: str) -> tuple[TurnStatus, str | None]:
        """Cancel a turn.

        Returns:
            Its status now: QUEUED if a worker first records what it had completed. And the worker that runs it and must
            be notified; "" if none runs it.
        """
        match await self._scripts.run(transitions.cancel_turn(keys.pair, turn=part)):
            case Cancelled():
                return TurnStatus.CANCELLED, None
            case transitions.Marked(worker=None):
                return TurnStatus.QUEUED, ""
            case transitions.Marked(worker=worker):
                return TurnStatus.RUNNING, worker
            case transitions.Ended(status=status):
                return status, None
            case Missing():
                raise self._not_found(keys, part)

    async def nudge(self, keys: SessionKeys, part: str) -> WakeUp | None:
        """Notify a run that one of its tasks ended; returns the wake-up to publish, if any."""
        reply = await self._scripts.run(transitions.nudge_turn(keys.pair, turn=part))
        return WakeUp.of(keys, reply.queue, reply.now_ms) if isinstance(reply, transitions.Woken) else None

    async def by_key(self, keys: SessionKeys, idempotency_key: str) -> str | None:
        """The turn that was accepted under an idempotency key, if any."""
        with translated():
            part = await self._client.hget(keys.idempotency(idempotency_hash(idempotency_key)), "turn")
        return None if part is None else part.decode()

    async def delete_session(self, keys: SessionKeys, user_id: str | None = None) -> dict[str, int]:
        """Delete a session with everything in it; a running turn of it can no longer write."""
        reply = await self._scripts.run(records.delete_session(keys.pair, user=user_id, unused_since=None))
        if isinstance(reply, OtherOwner):
            raise refused(keys.session_id, user_id, "own")
        return {} if isinstance(reply, records.InUse) else asdict(reply)

    async def delete_unused(self, keys: SessionKeys, user_id: str | None, since_ms: int) -> dict[str, int] | None:
        """Delete a session with everything in it, unless it is another user's, has an open turn, or was used since."""
        reply = await self._scripts.run(records.delete_session(keys.pair, user=user_id, unused_since=since_ms))
        return asdict(reply) if isinstance(reply, records.Deleted) else None

    async def listed(
        self, keys: SessionKeys, which: Which = "oldest", after: str | None = None, limit: int = 1000
    ) -> list[str]:
        """Turns of a session as `list_turns.lua` lists them. A record may expire before it is read."""
        call = transitions.list_turns((keys.base,), which=which, after=after, limit=limit)
        return list((await self._scripts.run(call)).turns)

    async def journal(self, keys: SessionKeys, part: str) -> dict[str, Any]:
        """The journal of an open turn or a dead letter, for people to look at."""
        key = keys.journal(part)
        steps = {field.decode(): value for field, value in (await self._client.hgetall(key)).items()}
        return {field: _shown(self._keyring.open(key, field, value)) for field, value in steps.items()}

    @staticmethod
    def _not_found(keys: SessionKeys, part: str) -> TurnNotFound:
        return TurnNotFound(f"turn {keys.public_id(part)!r}: {TurnNotFound.__doc__}")


def _shown(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value.decode(errors="replace")
