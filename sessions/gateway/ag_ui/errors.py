"""Errors within a run that has begun. Before it, errors are problem documents, as on our own routes."""

from __future__ import annotations

from ag_ui.core import RunErrorEvent
from fastapi import Request

from sessions.errors import SessionfleetError
from sessions.gateway.problems import URN, problem_in


def run_error(request: Request, error: SessionfleetError) -> RunErrorEvent:
    """The last event of a run that failed; its code is the name of the error's class."""
    problem = problem_in(request, error)
    return RunErrorEvent(message=problem.detail, code=problem.type.removeprefix(URN))
