"""Converts a server's error response to an exception."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from sessions import errors
from sessions.errors import RemoteAuthError, RemoteFailed, RemoteRefused, SessionfleetError

_URN: Final = "urn:sessionfleet:error:"
_LONGEST_TEXT: Final = 300
# Only a gateway raises these. For a remote session's caller they are RemoteErrors, by status. (RateLimited, which is
# derived from one of them, is also raised by local sessions.)
_AT_THE_GATEWAY: Final = (errors.Unauthenticated, errors.Forbidden, errors.TooManyRequests, errors.RequestTooLarge)


def error_of(response: httpx.Response, server: str) -> SessionfleetError:
    """The exception for an error response: the class that a gateway names, otherwise one by its status.

    Args:
        response: its body was already read.
        server: the server's URL without credentials.
    """
    problem = _problem(response)
    detail: dict[str, Any] = {"status": response.status_code, "problem": problem}
    error_class = _error_class(str(problem.get("type", "")))
    text = problem.get("detail") or _body_text(response)
    if error_class is not None:
        if issubclass(error_class, errors.RateLimited):
            detail["retry_after"] = retry_after(response)
        return error_class(str(text), **detail)
    status = f"{response.status_code} {response.reason_phrase}".rstrip()
    if response.is_redirect:
        return RemoteRefused(
            f"{server} redirects to {response.headers.get('location', '?')!r}, which is not followed: use that URL as "
            "agent_url",
            **detail,
        )
    message = f"{server} answered {status}{f': {text}' if text else ''}"
    if request := problem.get("request_id"):
        message += f" (request {request})"
    if response.status_code in (401, 403):
        hint = "pass credentials with headers=" if response.status_code == 401 else "the credentials do not allow this"
        return RemoteAuthError(f"{message}: {hint}", **detail)
    return (RemoteFailed if response.status_code >= 500 else RemoteRefused)(message, **detail)


def retry_after(response: httpx.Response) -> float:
    """Seconds that a server asks us to wait; 0 if it does not say."""
    value = response.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _problem(response: httpx.Response) -> dict[str, Any]:
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _error_class(kind: str) -> type[SessionfleetError] | None:
    found = getattr(errors, kind.removeprefix(_URN), None) if kind.startswith(_URN) else None
    if not isinstance(found, type) or not issubclass(found, SessionfleetError):
        return None
    return None if found in _AT_THE_GATEWAY else found


def _body_text(response: httpx.Response) -> str:
    """The error text of a server that is not a gateway, shortened to one line."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        message = body.get("error") or body.get("detail") or body.get("message")
        return str(message)[:_LONGEST_TEXT] if message else ""
    text = "" if response.headers.get("content-type", "").startswith("text/html") else response.text
    return " ".join(text.split())[:_LONGEST_TEXT]
