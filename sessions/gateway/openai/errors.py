"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request

from sessions.errors import SessionfleetError
from sessions.gateway.problems import URN, ErrorForm, Problem, problem_in

PATHS: Final = re.compile(r"/v1/(?:chat/completions|models|responses|conversations)(?:/|\Z)")
"""The paths of this protocol; all errors there have its form, also those of the layers in front of the routes."""

_STATUS: Final = {422: 400, 402: 429}
"""OpenAI's clients know no 422, and expect 429 when a budget is used up."""
_TYPES: Final = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Final = {
    "Unauthenticated": "invalid_api_key",
    "TooManyRequests": "rate_limit_exceeded",
    "RateLimited": "rate_limit_exceeded",
    "BudgetExceeded": "insufficient_quota",
    "SessionBusy": "session_busy",
    "IdempotencyConflict": "idempotency_conflict",
    "MessageTooLarge": "string_above_max_length",
    "RequestTooLarge": "request_too_large",
}
_REPEATING_HELPS: Final = {408, 429, 500, 502, 503, 504}


def _written(problem: Problem, detail: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The status, the body and further headers of a problem.

    Args:
        problem: what went wrong.
        detail: of the error, such as the name of a parameter.
    """
    status = _STATUS.get(problem.status, problem.status)
    error = error_object(problem, detail)
    # The clients repeat a 409 by themselves, and what conflicts once conflicts again.
    headers = {} if status in _REPEATING_HELPS else {"x-should-retry": "false"}
    return status, {"error": error}, headers


def in_stream(request: Request, error: SessionfleetError) -> dict[str, Any]:
    """The contents of `error` within a response that has begun."""
    return error_object(problem_in(request, error), error.detail)


def server_error(message: str, code: str) -> dict[str, Any]:
    """The contents of `error` for what is no error of ours."""
    return {"message": message, "type": "server_error", "param": None, "code": code}


def error_object(problem: Problem, detail: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of `error`."""
    status = _STATUS.get(problem.status, problem.status)
    kind = problem.type.removeprefix(URN)
    wrong = problem.errors[0] if problem.errors else None
    return {
        "message": problem.detail if wrong is None else f"Invalid {_where(wrong)}: {wrong['says']}",
        "type": "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error"),
        "param": detail.get("param") if wrong is None else _where(wrong),
        "code": detail.get("code", _CODES.get(kind)) if wrong is None else _code(wrong["says"]),
    }


def _where(wrong: Mapping[str, Any]) -> str | None:
    place: str = wrong["in"].removeprefix("body").lstrip(".")
    return place or None


def _code(says: str) -> str:
    if says == "Field required":
        return "missing_required_parameter"
    return "unknown_parameter" if says.startswith("Extra inputs") else "invalid_value"


ERROR_FORM: Final = ErrorForm(PATHS, _written)
