"""The acceptance of a turn: a submission, encrypted for its places and bound to `accept_turn.lua`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broker_config.settings import Settings
from sessions.protocol.message import dump_parts, file_ids
from sessions.protocol.turn import Policy, TurnRequest
from sessions.store.binding import ScriptCall
from sessions.store.gate import OPEN_GATE, Gate
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing
from sessions.store.session_info import TITLE, searchable_argument
from sessions.store.submission import ScheduleTick, Submission, idempotency_hash
from sessions.store.transitions.turns import AcceptReply, Replaces, accept_turn
from sessions.store.turn_fields import MESSAGE, METADATA, PARTS, REQUEST, WEBHOOK
from sessions.store.wake_up import WakeUp


@dataclass(frozen=True, slots=True)
class CancelledRun:
    """A turn that is marked as cancelled while a worker runs it: the worker should be notified."""

    worker: str
    part: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A turn is accepted.

    Attributes:
        part: of the turn's id. A duplicate has that of the first turn, a steering message that of the turn it joined.
        wake_up: to be published; None when a worker will find the turn without it.
        cancelled: the running turn that this one's policy cancelled.
    """

    part: str
    duplicate: bool = False
    wake_up: WakeUp | None = None
    cancelled: CancelledRun | None = None


def acceptance(
    settings: Settings,
    keyring: KeyRing,
    keys: SessionKeys,
    submission: Submission,
    watcher: str,
    gate: Gate = OPEN_GATE,
) -> ScriptCall[AcceptReply]:
    """The call that accepts a turn. Each value is encrypted for the place in which the script stores it."""
    record, agent, webhook = keys.turn(submission.part), submission.request.agent, submission.webhook
    metadata = submission.request.metadata
    request, steers = _stored(submission.request), submission.policy is Policy.STEER
    parts = submission.request.parts
    result_ttl = settings.result_ttl if submission.result_ttl is None else submission.result_ttl
    return accept_turn(
        keys.pair,
        turn=submission.part,
        request=keyring.seal(record, REQUEST, request),
        digest=digests(keyring, submission)[0],
        idempotency=idempotency_hash(submission.idempotency_key),
        user=submission.user_id,
        sender=submission.sender or submission.user_id,
        timeout_ms=int(submission.timeout * 1000),
        not_before=_not_before(submission.not_before),
        mailbox_limit=submission.mailbox_limit or settings.mailbox_limit,
        queue=submission.queue,
        watcher=watcher,
        watch="waiters",
        result_ttl_ms=int(result_ttl * 1000),
        idempotency_ttl_ms=int(min(settings.idempotency_ttl, result_ttl) * 1000),
        max_attempts=submission.max_attempts or settings.max_attempts,
        session_ttl_ms=None if submission.session_ttl is None else int(submission.session_ttl * 1000),
        agent=agent,
        agent_config=submission.config and keyring.seal(keys.agents, agent, submission.config),
        policy=submission.policy,
        waiting_blocks=submission.waiting_blocks,
        approval_ms=int(submission.approval_timeout * 1000),
        # The script decides which turn a message joins, so the message is encrypted for a place of its own.
        message=keyring.seal(record, MESSAGE, submission.request.message.encode()) if steers else b"",
        parts=keyring.seal(record, PARTS, dump_parts(parts)) if steers and parts else b"",
        webhook=keyring.seal(keys.base, WEBHOOK, webhook.encode()) if webhook else b"",
        title=_title(keyring, keys, submission.title),
        hidden=submission.hidden,
        searchable=_searchable(settings, keys, submission),
        compact=_compact(settings, keys, submission),
        joins=_joins(submission) if keyring.ids else "",
        files=file_ids(parts),
        # Also in the request, which few readers of a turn's record need.
        metadata=b"" if metadata is None else keyring.seal(record, METADATA, json.dumps(metadata).encode()),
        refused=gate.limit,
        ask_for_session=gate.new_session is not None,
        replaces=_replaces(submission),
        tick=() if submission.tick is None else (_as_arguments(submission.tick),),
    )


def _stored(request: TurnRequest) -> bytes:
    """The request without what it has by default: it is kept for days. Scripts read its agent, so that stays."""
    default = {
        name
        for name, field in TurnRequest.model_fields.items()
        if name not in ("v", "agent") and getattr(request, name) == field.default
    }
    return request.model_dump_json(exclude=default).encode()


def digests(keyring: KeyRing, submission: Submission) -> tuple[str, ...]:
    """The request's digest, and the ones that it may have been stored under before.

    With encryption it is keyed: a plain digest would confirm a correctly guessed message.
    """
    plain = submission.digest(submission.to_compare.model_dump_json().encode())
    return (*keyring.digests(plain.encode()), plain) if keyring.ids else (plain,)


def _not_before(start: datetime | float | None) -> str | None:
    """When a turn may begin, for the script: seconds count from the store's time, not from this machine's."""
    match start:
        case None:
            return None
        case datetime():
            return str(int(start.timestamp() * 1000))
        case _:
            return f"+{int(start * 1000)}"


def _replaces(submission: Submission) -> Sequence[Replaces]:
    """The turn whose place this one takes, for the script; empty for a turn that is added to the history."""
    wanted, place = submission.replacement, submission.place
    if wanted is None or place is None:
        return ()
    return [(place.turn, place.at, int(wanted.turn is None), place.version)]


def _title(keyring: KeyRing, keys: SessionKeys, title: str) -> bytes:
    return keyring.seal(keys.meta, TITLE, title.encode()) if title and not keys.is_lane else b""


def _searchable(settings: Settings, keys: SessionKeys, submission: Submission) -> str:
    """Whether the session's transcript is searchable, for the script. Lanes, and what a run makes, never are."""
    if keys.is_lane or submission.hidden:
        return ""
    if submission.searchable is None:
        return searchable_by_default(settings)
    return searchable_argument(submission.searchable)


def searchable_by_default(settings: Settings) -> str:
    """Whether a session is searchable about which nobody has decided, for the scripts."""
    return "default" if settings.history_search == "on" else ""


def _compact(settings: Settings, keys: SessionKeys, submission: Submission) -> str:
    """Whether the session is compacted, for the script. Lanes, and what a run makes, never are."""
    if keys.is_lane or submission.hidden:
        return ""
    return submission.compact or compact_by_default(settings)


def compact_by_default(settings: Settings) -> str:
    """Whether a session is compacted about which nobody has decided, for the scripts."""
    return "default" if settings.compact == "auto" else ""


def _as_arguments(tick: ScheduleTick) -> tuple[str, int | str, int, int | str, int, str]:
    """A schedule's tick for the script, in which '' stands for None."""
    due = "" if tick.due_ms is None else tick.due_ms
    upcoming = "" if tick.next_ms is None else tick.next_ms
    return tick.schedule_id, due, tick.at_ms, upcoming, tick.missed, tick.overlap


def _joins(submission: Submission) -> str:
    """Whose messages may join the turn, for the script, which cannot read an encrypted request."""
    return f"agent:{submission.request.agent}" if submission.steerable else "none"
