"""The one Celery task: a wake-up for a session."""

from __future__ import annotations

from typing import Any

from celery import Task

from sessions.protocol import TASK_NAME
from workers.celery import app
from workers.step import turns_of


@app.task(name=TASK_NAME, bind=True, ignore_result=True, Request="workers.wake_request:WakeRequest")  # type: ignore[untyped-decorator]
def run_session(self: Task, ref: str, accepted_ms: int) -> dict[str, Any]:
    """Run the turns of a session that are due; holds the slot meanwhile.

    What it returns is what Flower shows: how many turns ran, never a message's text.
    """
    queue = (self.request.delivery_info or {}).get("routing_key") or "turns"
    drained = turns_of(self.app).run_session(ref, accepted_ms, queue)
    return {"session": ref, "turns": drained.turns, "end": drained.why}
