"""What is said to those whose time is over before their turn has ended: what it does meanwhile."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from sessions.client.late_turn import lateness
from sessions.protocol.turn import TurnStatus
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.turns import TurnRecord

QUEUED = TurnRecord(
    part="0" * 32,
    status=TurnStatus.QUEUED,
    attempt=0,
    crashes=0,
    retries=0,
    accepted_ms=1,
    deadline_ms=2,
    started_ms=None,
    ended_ms=None,
    worker=None,
    cancel_requested=False,
    result=None,
    error=None,
    usage=None,
)
TAKEN = replace(QUEUED, attempt=1, started_ms=1)


def worker(running: int) -> WorkerInfo:
    return WorkerInfo.model_construct(id="w1", concurrency=4, running=running)


@pytest.mark.parametrize(
    ("record", "more", "said"),
    [
        (QUEUED, {"ahead": 1, "serving": [worker(1)]}, "no worker has taken it yet.* 1 comes before it. It stays"),
        (QUEUED, {"ahead": 3, "serving": [worker(1)]}, "no worker has taken it yet.* 3 come before it"),
        (QUEUED, {"serving": [worker(4), worker(4)]}, "no worker has taken it yet, for all 8 slots.*start more"),
        (QUEUED, {"serving": [worker(1)]}, "no worker has taken it yet, although 3 of the workers' 4 slots.*doctor"),
        (QUEUED, {}, "no worker has taken it yet"),
        (TAKEN, {}, "it pauses after attempt 1"),
        (replace(TAKEN, status=TurnStatus.RUNNING), {}, r"it goes on \(attempt 1\), ask again"),
        (replace(TAKEN, status=TurnStatus.WAITING), {}, r"waits for answers.*turn\.approvals"),
        (replace(TAKEN, status=TurnStatus.FAILED), {}, "but has ended since; ask again"),
        (None, {}, "how it stands could not be read"),
    ],
)
def test_it_is_said_what_the_turn_does(record: TurnRecord | None, more: dict[str, Any], said: str) -> None:
    """That it "goes on" is said of none that no worker took."""
    text = lateness("s~1", 2.5, record, **more)
    assert text.startswith("turn 's~1' did not end within 2.5 s")
    assert re.search(said, text), text
    if record is None or record.started_ms is None:
        assert "goes on" not in text
