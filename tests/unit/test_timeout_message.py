"""The message for callers whose time is over before their turn has ended: what the turn is doing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from sessions.client.timeout_message import timeout_message
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
        (QUEUED, {"ahead": 1, "serving": [worker(1)]}, "no worker has started it yet.* 1 is before it. It is still"),
        (QUEUED, {"ahead": 3, "serving": [worker(1)]}, "no worker has started it yet.* 3 are before it"),
        (QUEUED, {"serving": [worker(4), worker(4)]}, "no worker has started it yet, because all 8 slots.*start more"),
        (QUEUED, {"serving": [worker(1)]}, "no worker has started it yet, although 3 of the workers' 4 slots.*doctor"),
        (QUEUED, {}, "no worker has started it yet"),
        (TAKEN, {}, "it is pausing after attempt 1"),
        (replace(TAKEN, status=TurnStatus.RUNNING), {}, r"it is still running \(attempt 1\), wait again"),
        (replace(TAKEN, status=TurnStatus.WAITING), {}, r"is waiting for answers.*turn\.approvals"),
        (replace(TAKEN, status=TurnStatus.FAILED), {}, "but it has ended since; wait again"),
        (None, {}, "its record could not be read"),
    ],
)
def test_it_is_said_what_the_turn_does(record: TurnRecord | None, more: dict[str, Any], said: str) -> None:
    """Only a turn that a worker has started is "still running"."""
    text = timeout_message("s~1", 2.5, record, **more)
    assert text.startswith("turn 's~1' did not end within 2.5 s")
    assert re.search(said, text), text
    if record is None or record.started_ms is None:
        assert "still running" not in text
