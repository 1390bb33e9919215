"""The one Celery task: a wake-up for a session."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task

from sessions.client.wakeups import IN_ROTA
from sessions.protocol.turn import TASK_NAME, TurnStatus
from sessions.store.wake_up import WakeUp
from workers.process.step import turn_process_of
from workers.process.wake_request import WakeRequest
from workers.turns.runner import SessionRun


class TurnsFailed(Exception):
    """At least one turn of a wake-up failed.

    It is raised only to make Celery's events, and so Flower, show the task as failed. The turns have ended, and their
    callers have the errors.
    """


def register_tasks(app: Celery) -> None:
    """Register the task with an application, now and not when Celery imports the task modules."""
    app.task(
        run_session,
        name=TASK_NAME,
        bind=True,
        ignore_result=True,
        throws=(TurnsFailed,),  # expected: our own log has the failure already, so Celery need not log a traceback
        Request=WakeRequest,
        lazy=False,
    )


def run_session(self: Task, ref: str, accepted_ms: int) -> dict[str, Any]:
    """Run the turns of the session that is next: not always the one that is named. Holds a slot until they have ended.

    Flower shows what this function returns or raises: which session, how many turns ran and how they ended, never the
    text of a message.

    Raises:
        TurnsFailed: at least one of the turns that ended has failed.
    """
    if not isinstance(ref, str) or not isinstance(accepted_ms, int):
        raise TypeError(f"a wake-up is a session's key and a time in ms, not {ref!r:.100} and {accepted_ms!r:.100}")
    queue = (self.request.delivery_info or {}).get("routing_key") or "turns"
    wake_up = WakeUp(ref, queue, accepted_ms, in_rota=self.request.get(IN_ROTA) is not None)
    shown = _shown(*turn_process_of(self.app).run_next(wake_up))
    if TurnStatus.FAILED.value in shown:
        raise TurnsFailed(shown)
    return shown


def _shown(ref: str, run: SessionRun) -> dict[str, Any]:
    ended = {status.value: number for status, number in run.ended.items()}
    return {"session": ref, "turns": run.turns, **ended, "end": run.why}
