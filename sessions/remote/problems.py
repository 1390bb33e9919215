"""From a server's response to the exception that it means."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from sessions import errors
from sessions.errors import RemoteAuthError, RemoteFailed, RemoteRefused, SessionfleetError

_URN: Final = "urn:sessionfleet:error:"
_SHOWN: Final = 300
# Errors of a gateway only: for its callers they are failures of the connection.
_AT_THE_GATEWAY: Final = (errors.Unauthenticated, errors.Forbidden, errors.TooManyRequests, errors.RequestTooLarge)


def error_of(response: httpx.Response, shown: str) -> SessionfleetError:
    """The exception for an unsuccessful response: the class that a gateway names, otherwise one by its status.

    Args:
        response: already read.
        shown: the URL, as it may be shown.
    """
    problem = _problem(response)
    detail: dict[str, Any] = {"status": response.status_code, "problem": problem}
    kind = _named(str(problem.get("type", "")))
    said = problem.get("detail") or _said(response)
    if kind is not None:
        return kind(str(said), **detail)
    status = f"{response.status_code} {response.reason_phrase}".rstrip()
    if response.is_redirect:
        return RemoteRefused(
            f"{shown} redirects to {response.headers.get('location', '?')!r}, which is not followed: use the final "
            "URL as agent_url",
            **detail,
        )
    message = f"{shown} answered {status}{f': {said}' if said else ''}"
    if request := problem.get("request_id"):
        message += f" (request {request})"
    if response.status_code in (401, 403):
        hint = "pass credentials with headers=" if response.status_code == 401 else "they do not allow this"
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


def _named(kind: str) -> type[SessionfleetError] | None:
    found = getattr(errors, kind.removeprefix(_URN), None) if kind.startswith(_URN) else None
    if not isinstance(found, type) or not issubclass(found, SessionfleetError):
        return None
    return None if issubclass(found, _AT_THE_GATEWAY) else found


def _said(response: httpx.Response) -> str:
    """What another server wrote, shortened to one line."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        said = body.get("error") or body.get("detail") or body.get("message")
        return str(said)[:_SHOWN] if said else ""
    text = "" if response.headers.get("content-type", "").startswith("text/html") else response.text
    return " ".join(text.split())[:_SHOWN]
