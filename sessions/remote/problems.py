"""From what a server answered to the exception that says so."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from sessions import errors
from sessions.errors import RemoteAuthError, RemoteFailed, RemoteRefused, SessionfleetError

_URN: Final = "urn:sessionfleet:error:"
_SHOWN: Final = 300
# What only a gateway says: to whoever calls it, these are troubles of the connection.
_AT_THE_GATEWAY: Final = (errors.Unauthenticated, errors.Forbidden, errors.TooManyRequests, errors.RequestTooLarge)


def error_of(response: httpx.Response, shown: str) -> SessionfleetError:
    """The exception for an answer that is no success: the very class that a gateway names, else one by its status.

    Args:
        response: read already.
        shown: the address, as it may be shown.
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
            f"{shown} redirects to {response.headers.get('location', '?')!r}, which is not followed: "
            "give the address where it is as agent_url",
            **detail,
        )
    message = f"{shown} answered {status}{f': {said}' if said else ''}"
    if request := problem.get("request_id"):
        message += f" (request {request})"
    if response.status_code in (401, 403):
        hint = "give credentials with headers=" if response.status_code == 401 else "they do not allow this"
        return RemoteAuthError(f"{message}: {hint}", **detail)
    return (RemoteFailed if response.status_code >= 500 else RemoteRefused)(message, **detail)


def retry_after(response: httpx.Response) -> float:
    """Seconds that a server wants us to wait; 0 where it does not say."""
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
    """What another server wrote, as far as a line has room for it."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        said = body.get("error") or body.get("detail") or body.get("message")
        return str(said)[:_SHOWN] if said else ""
    text = "" if response.headers.get("content-type", "").startswith("text/html") else response.text
    return " ".join(text.split())[:_SHOWN]
