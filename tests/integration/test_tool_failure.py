"""A tool that raises: the caller gets the exception's name, the operator its text and traceback."""

from __future__ import annotations

import uuid

import pytest

from sessions.errors import ToolError
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def test_the_traceback_of_a_failed_tool_is_in_the_workers_log(fleet: Fleet) -> None:
    """The exception names the error; which line it was, the log of the worker that ran the turn says."""
    agent = fleet.session(uuid.uuid4().hex).Agent("A", tools=["divide"])
    with pytest.raises(ToolError, match="raised ZeroDivisionError; the worker's log has its text"):
        agent.chat('CALL divide({"number": 1, "by": 0})')
    wait_until(
        lambda: any("return number // by" in worker.log for worker in fleet.workers),
        description="the failing line is in a worker's log",
    )
