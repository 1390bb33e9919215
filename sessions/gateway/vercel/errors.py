"""Errors in a stream that has begun. Errors of requests are problem documents, as on the other routes."""

from __future__ import annotations

from fastapi import Request

from sessions.errors import SessionfleetError
from sessions.gateway.problems import problem_in


def in_stream(request: Request, error: SessionfleetError) -> dict[str, str]:
    """The part that tells of an error; `useChat` raises its text."""
    return {"type": "error", "errorText": problem_in(request, error).detail}
