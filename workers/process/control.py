"""Remote control: the command that clients send to running workers through Celery's broadcast."""

from __future__ import annotations

from typing import Any

from celery.worker.control import Panel, control_command

from workers.process.step import turn_process_of

__all__ = ["Panel", "cancel_turn"]


@control_command(args=[("ref", str), ("part", str)], signature="<session> <turn>")  # type: ignore[untyped-decorator]
def cancel_turn(state: Any, ref: str, part: str) -> dict[str, bool]:
    """Stop a cancelled turn now instead of at the next heartbeat. The cancel itself is recorded in the store."""
    return {"running_here": turn_process_of(state.app).cancel(ref, part)}
