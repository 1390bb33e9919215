"""The message of a ResultTimeout: it says what the turn is doing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from sessions.protocol.turn import TurnStatus
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.keys import is_operation
from sessions.store.turns import TurnRecord


def timeout_message(
    turn_id: str, timeout: float, record: TurnRecord | None, *, ahead: int = 0, serving: Sequence[WorkerInfo] = ()
) -> str:
    """The message of a ResultTimeout.

    Args:
        timeout: seconds that the caller waited.
        record: the turn's current record; None if it could not be read.
        ahead: the number of turns before it in its session.
        serving: the running workers that serve its queue.
    """
    what = "operation" if is_operation(turn_id) else "turn"
    late = f"{what} {turn_id!r} did not end within {timeout:g} s"
    again = "wait again with result()"
    if record is None:
        return f"{late}, and its record could not be read; {again}"
    if record.status is TurnStatus.WAITING:
        return f"{late}: it is waiting for answers to its calls; turn.approvals() lists them"
    if record.status is TurnStatus.QUEUED and (record.not_before_ms or 0) > time.time() * 1000:
        due = datetime.fromtimestamp((record.not_before_ms or 0) / 1000, UTC)
        return f"{late}: it is scheduled for {due:%Y-%m-%d %H:%M:%S} UTC and begins by itself; {again}"
    if record.status is TurnStatus.QUEUED and record.started_ms is None:
        return f"{late}: no worker has started it yet, {_reason(ahead, serving)}. It is still accepted; {again}"
    if record.status is TurnStatus.QUEUED:
        return f"{late}: it is pausing after attempt {record.attempt} and will continue by itself; {again}"
    if record.status.final:
        return f"{late}, but it has ended since; {again}"
    return f"{late}; it is still running (attempt {record.attempt}), {again}"


def _reason(ahead: int, serving: Sequence[WorkerInfo]) -> str:
    if ahead:
        return f"because its session runs one turn at a time, and {ahead} {'is' if ahead == 1 else 'are'} before it"
    if not serving:
        return "and the state of the workers is not known"
    busy, slots = sum(worker.running for worker in serving), sum(worker.concurrency for worker in serving)
    if busy >= slots:
        return f"because all {slots} slots of the workers that serve its queue are busy: start more workers"
    return f"although {slots - busy} of the workers' {slots} slots are free: run `sessionfleet doctor`"
