"""What a caller is told whose time is over before its turn has ended: what the turn is doing meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from sessions.protocol.turn import TurnStatus
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.turns import TurnRecord


def lateness(
    turn_id: str, timeout: float, record: TurnRecord | None, *, ahead: int = 0, serving: Sequence[WorkerInfo] = ()
) -> str:
    """The message of a ResultTimeout.

    Args:
        timeout: seconds that were waited for.
        record: the turn as it is now; None where the store could not say.
        ahead: how many turns of its session come before it.
        serving: the living workers that serve its queue.
    """
    late = f"turn {turn_id!r} did not end within {timeout:g} s"
    again = "ask again with result()"
    if record is None:
        return f"{late}, and how it stands could not be read; {again}"
    if record.status is TurnStatus.WAITING:
        return f"{late}: it waits for answers to its calls; turn.approvals() lists them"
    if record.status is TurnStatus.QUEUED and record.started_ms is None:
        return f"{late}: no worker has taken it yet, {_reason(ahead, serving)}. It stays accepted; {again}"
    if record.status is TurnStatus.QUEUED:
        return f"{late}: it pauses after attempt {record.attempt}, and goes on by itself; {again}"
    if record.status.final:
        return f"{late}, but has ended since; {again}"
    return f"{late}; it goes on (attempt {record.attempt}), {again}"


def _reason(ahead: int, serving: Sequence[WorkerInfo]) -> str:
    if ahead:
        return f"for its session runs one turn at a time, and {ahead} come{'s' if ahead == 1 else ''} before it"
    if not serving:
        return "and nothing is known of the workers"
    busy, slots = sum(worker.running for worker in serving), sum(worker.concurrency for worker in serving)
    if busy >= slots:
        return f"for all {slots} slots of the workers that serve its queue are busy: start more workers"
    return f"although {slots - busy} of the workers' {slots} slots are free: `sessionfleet doctor` looks for the cause"
