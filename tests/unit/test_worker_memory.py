"""What a worker carries: little at its start, and nothing of a turn or wake-up that is over."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery import Celery

from broker_config.settings import Settings
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import SessionKeys
from sessions.store.leases import LeaseStore
from sessions.store.open_turn import OpenTurn
from workers.lease.held_turn import HeldTurn
from workers.lease.journal import LeasedJournal
from workers.process.wake_request import WakeRequest
from workers.teams.delegations import Delegations
from workers.teams.tasks import TaskTurns

BEGUN = OpenTurn(
    part="p", lease="l", attempt=1, request=b"", deadline_ms=1, accepted_ms=0, seq=0, retries=0, last=False, now_ms=0,
    first_started_ms=0, user_id=None, journal={}, history=[], agent=b"", state={},
)  # fmt: skip
START = """
import runpy, sys
sys.argv[1:] = ["--version"]
try:
    runpy.run_module("workers", run_name="__main__")
except SystemExit:
    print(*(name for name in ("flower", "prompt_toolkit", "jsonschema", "tornado") if name in sys.modules))
"""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what nothing refers to is freed."""
    gc.disable()
    yield
    gc.enable()


def test_a_worker_loads_no_shell_and_no_web_server() -> None:
    """`python -m workers` is Celery's worker without the rest of its command line: 12 MB less in each process."""
    env = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run([sys.executable, "-c", START], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "\n", done.stdout


def test_a_turn_that_is_over_is_freed_at_once(no_collector: None) -> None:
    """Circles would wait for the collector's long walk, thousands of turns later."""
    settings = Settings(redis_url="redis://127.0.0.1:1/0")
    held = HeldTurn(SessionKeys.of("t", "s", 1), BEGUN, "nonce", 0.0, cast(LeaseStore, None))
    journal = LeasedJournal(cast(LeaseStore, None), held)
    request = TurnRequest(message="hello", agent="A")
    held.delegations = Delegations(settings, cast(TaskTurns, None), held, request, journal)
    held.state.delegates = held.delegations
    freed = weakref.ref(held)
    held.break_cycles()
    del held, journal
    assert freed() is None


def test_a_wake_up_that_runs_keeps_no_message() -> None:
    """It is acknowledged when a slot begins it; the broker's message is of no more use."""
    acknowledged: list[Any] = []
    app = Celery("test", set_as_current=False)

    @app.task(name="wake")
    def task(ref: str) -> str:
        return ref

    message = SimpleNamespace(
        headers={"id": "1", "task": "wake"}, payload=(["ref"], {}, {}), body=b"", properties={}, delivery_info={},
        content_type="application/json", content_encoding="utf-8",
    )  # fmt: skip
    request = WakeRequest(message, app=app, task=task, on_ack=lambda *a: acknowledged.append(a), hostname="h")
    request.on_accepted(1, 0.0)
    assert len(acknowledged) == 1
    assert request.message is None
    assert request.info()["args"] == ["ref"]
