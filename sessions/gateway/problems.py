"""Errors as problem details (RFC 9457): the class gives the status, the message the advice; nothing internal leaks."""

from __future__ import annotations

import http
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from broker_config.telemetry import get_logger
from sessions import errors
from sessions.errors import SessionfleetError
from sessions.gateway.request_id import request_id_of
from sessions.protocol.public_errors import class_sentence, public_message

_log = get_logger(__name__)
MEDIA_TYPE: Final = "application/problem+json"
URN: Final = "urn:sessionfleet:error:"

STATUS_OF: Final[dict[type[Exception], int]] = {
    errors.MessageTooLarge: 413,
    errors.FileTooLarge: 413,
    errors.InvalidTurnId: 404,  # an invalid id, or one of another session, does not exist here
    errors.RequestTooLarge: 413,
    errors.NotSearchable: 409,
    errors.BadRequest: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.SessionOwnerError: 403,
    errors.TooManyRequests: 429,
    errors.SessionBusy: 429,
    errors.SessionExpired: 410,
    errors.NotFound: 404,
    errors.TurnNotFound: 404,
    errors.CallNotFound: 404,
    errors.ScheduleNotFound: 404,
    errors.ScheduleExists: 409,
    errors.StateNotFoundError: 404,
    errors.IdempotencyConflict: 409,
    errors.StateConflict: 409,
    errors.SessionExists: 409,
    errors.TooManyFiles: 409,
    errors.CallAnswered: 409,
    errors.StaleCursor: 409,
    errors.NoWorkerAlive: 503,
    errors.ResultTimeout: 504,
    errors.TurnCancelled: 409,
    errors.HistoryChanged: 409,
    errors.TurnRefused: 403,
    errors.TurnLimitExceeded: 409,
    errors.BudgetExceeded: 402,
    errors.TurnDeadlineExceeded: 504,
    errors.DocumentTooLarge: 413,
    errors.DocumentError: 422,
    errors.RetrievalUnavailable: 503,
    errors.TurnFailed: 502,
    errors.BackendError: 503,
}
"""The status of an error: that of the first of its classes that is listed."""

_TURN: Final = re.compile(r"(?:\w+: )?(turn '[^']*': )")

_RETRY_AFTER: Final = {429: 1.0, 503: 2.0}
_CLIENT_LEFT: Final = 499
"""The status of a response that nobody reads, in the notation of proxies' logs."""
_ROUTING: Final = {
    400: "the request cannot be parsed: send complete, well-formed JSON or form data",
    404: "there is nothing at this path; GET /openapi.json lists the paths",
    405: "this path does not support this method; the header Allow lists those it supports",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:sessionfleet:error:TurnNotFound",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "turn 'chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21': There is no such turn: it expired, its "
                    "session was deleted, or it never was.",
                    "instance": "/v1/sessions/chat-1/turns/chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21",
                    "request_id": "5f0c7a0e3b1d4e0f9a86d7b2c4e1f3a5",
                }
            ]
        }
    )

    type: str = Field(description="`urn:sessionfleet:error:<class of sessions.errors>`, or `about:blank`.")
    title: str
    status: int
    detail: str = Field(description="What happened and what to do, for people.")
    instance: str = Field(description="The path of the request.")
    request_id: str = Field(description="Mention it when you ask for help: it is in the gateway's log.")
    errors: list[dict[str, Any]] | None = Field(None, description="What is wrong where in the request.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says about these statuses; `openapi.py` adds those that any route may answer."""
    return {
        status: {
            "description": http.HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def status_of(error: SessionfleetError) -> int:
    """The HTTP status that corresponds to an error."""
    if isinstance(error, errors.SessionBusy) and "policy" in error.detail:
        return 409  # the caller asked not to wait, so "try again later" is no answer
    return next((STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF), 500)


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """The form that errors have on the paths of another protocol; `app.state.error_forms` lists them.

    Attributes:
        paths: matches the beginnings of the paths.
        written: from a problem, and the details of its error, to status, body and further headers.
    """

    paths: re.Pattern[str]
    written: Callable[[Problem, Mapping[str, Any]], tuple[int, dict[str, Any], dict[str, str]]]


def problem_response(
    request: Request,
    status: int,
    detail: str,
    *,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
    wrong: list[dict[str, Any]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """A response that describes an error, in the form of the path's protocol; `facts` are the details of the error."""
    problem = _problem(request, status, detail, kind, wrong)
    app = request.scope.get("app")
    for form in getattr(app.state, "error_forms", ()) if app is not None else ():
        if form.paths.match(request.scope["path"]):
            status, content, more = form.written(problem, facts or {})
            return _Ascii(content, status, {**(headers or {}), **more})
    # In ASCII, because the error may be that a text has no other encoding.
    return _Ascii(problem.model_dump(exclude_none=True), status, dict(headers or {}), media_type=MEDIA_TYPE)


def _problem(
    request: Request, status: int, detail: str, kind: str | None, wrong: list[dict[str, Any]] | None = None
) -> Problem:
    return Problem(
        type="about:blank" if kind is None else URN + kind,
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=path_of(request),
        request_id=request_id_of(request.scope),
        errors=wrong,
    )


class _Ascii(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


def path_of(request: Request) -> str:
    """The path as it was requested, percent-encoded."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    return raw.decode("ascii", "backslashreplace")


def install(app: FastAPI) -> None:
    """Have every error of this application answered as a problem document."""
    app.add_exception_handler(SessionfleetError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unknown)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SessionfleetError)  # noqa: S101 - registered for this class only
    return problem_of(request, error)


def problem_of(request: Request, error: SessionfleetError) -> JSONResponse:
    """The response for one of our errors."""
    status = status_of(error)
    headers = {"WWW-Authenticate": 'Bearer realm="sessionfleet"'} if status == 401 else {}
    if status in _RETRY_AFTER:
        after = error.retry_after if isinstance(error, errors.TooManyRequests) else _RETRY_AFTER[status]
        headers["Retry-After"] = str(max(1, math.ceil(after)))
    detail = _shown(request, error, status)
    return problem_response(request, status, detail, kind=type(error).__name__, headers=headers, facts=error.detail)


def problem_in(request: Request, error: SessionfleetError) -> Problem:
    """The same, for an error within a response that has begun."""
    status = status_of(error)
    return _problem(request, status, _shown(request, error, status), type(error).__name__)


def _shown(request: Request, error: SessionfleetError, status: int) -> str:
    """The text of an error that its caller may read; the log has the rest."""
    detail = str(error)
    if isinstance(error, errors.BackendError) or status == 500:
        # Addresses of servers behind the gateway, and their replies, belong in its log.
        _log.warning("request_failed", path=path_of(request), error=repr(error))
        detail = class_sentence(type(error))
    elif isinstance(error, errors.TurnFailed) and public_message(error) != detail:
        # The message of a provider, an index, a tool or a hook: readers of the turn find it in its resource.
        _log.warning("request_failed", path=path_of(request), error=repr(error))
        turn = _TURN.match(detail)
        sentence = class_sentence(type(error))
        detail = f"{turn[1]}{sentence} Its resource says why." if turn else sentence
    return detail


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    wrong = [{"in": ".".join(map(str, one["loc"])), "says": _says(one)} for one in error.errors()]
    shown = "; ".join(f"{one['in']}: {one['says']}" for one in wrong[:5])
    if [one["in"] for one in wrong] == ["body"] and "json" not in request.headers.get("content-type", ""):
        shown += "; send JSON with the header `Content-Type: application/json`"
    return problem_response(request, 422, shown or "the request cannot be parsed", kind="BadRequest", wrong=wrong)


def _says(wrong: Mapping[str, Any]) -> str:
    message = str(wrong["msg"]).removeprefix("Value error, ")
    return f"{message}: {wrong['ctx']['error']}" if wrong["type"] == "json_invalid" else message


async def _routing(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    status, headers = error.status_code, dict(error.headers or {})
    if status == 405:
        headers["Allow"] = ", ".join(_allowed(request))  # the router lists those of the first matching route
    plain = error.detail == http.HTTPStatus(status).phrase or status == 400
    return problem_response(request, status, _ROUTING[status] if plain else str(error.detail), headers=headers)


def _allowed(request: Request) -> list[str]:
    found: set[str] = set()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found | ({"HEAD"} if "GET" in found and not request.scope["path"].endswith("/events") else set()))


async def _left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_LEFT)


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    _log.error("request_broke", path=path_of(request), exc_info=error)
    return problem_response(
        request,
        500,
        "The gateway failed; its operators can find the cause in the log under the request id.",
        # The server closes the connection after this response; a client that is not told would send its next request on
        # it.
        headers={"Connection": "close"},
    )
