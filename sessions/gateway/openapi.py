"""The OpenAPI document: what FastAPI finds in the routes, plus what all of them have in common."""

from __future__ import annotations

import http
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sessions.gateway.problems import MEDIA_TYPE, Problem
from sessions.gateway.request_id import HEADER

_TAGS: Final = {
    "agent": "One message in, the answer out: for clients of remote agents.",
    "sessions": "Conversations, kept in the store; any worker can continue them.",
    "turns": "Send a message; show, wait for, follow (server-sent events) or cancel its turn.",
    "schedules": "Messages that a session is sent at the times of a cron expression.",
    "approvals": "Tool calls that wait for a person's decision, or for a result from elsewhere.",
    "state": "Small JSON values stored with a conversation: the session's, its user's (`user:`) or the tenant's "
    "(`app:`).",
    "checkpoints": "Earlier states of a session that you can go back to.",
    "memory": "What a session or its user was taught, found by meaning and by words.",
    "files": "Images, documents and audio that messages refer to.",
    "knowledge": "Documents that agents and callers search.",
    "operations": "Documents that are being indexed.",
    "agents": "Agents by name: those that the tenant defines, and those that the workers register.",
    "teams": "Several agents that work on tasks that depend on each other.",
    "usage": "Requests, tokens and cost, by day, user and model.",
    "health": "For load balancers.",
}
_ANY: Final = (422, 500)
_AUTHENTICATED: Final = (401, 403, 429, 503)
_WITH_BODY: Final = (413,)
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to authenticate."}},
    429: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to try again."}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to try again."}},
}
_NAMED: Final = {HEADER: {"schema": {"type": "string"}, "description": "The request's id, yours or a generated one."}}


def install(app: FastAPI) -> None:
    """Let the application describe itself completely."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's own way


def _document(app: FastAPI) -> dict[str, Any]:
    tags = [{"name": name, "description": text} for name, text in _TAGS.items()]
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes, tags=tags)
    schemas: dict[str, Any] = made["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    for operation in _operations(made):
        _complete(operation)
    return made


def _operations(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in made["paths"].values():
        yield from (operation for operation in path.values() if isinstance(operation, dict))


def _complete(operation: dict[str, Any]) -> None:
    """Add the errors that any such operation may answer, each as a problem document and nothing else."""
    answers: dict[str, Any] = operation["responses"]
    common = (
        *_ANY,
        *(_AUTHENTICATED if operation.get("security") else ()),
        *(_WITH_BODY if "requestBody" in operation else ()),
    )
    for status in common:
        answers[str(status)] = {"description": http.HTTPStatus(status).phrase}
    for status, answer in answers.items():
        headers = {**_NAMED, **(_HEADERS.get(int(status), {}))}
        if int(status) >= 400:
            answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        elif int(status) in (201, 202):
            headers["Location"] = {"schema": {"type": "string"}, "description": "Its location."}
        answer["headers"] = headers
    operation["responses"] = dict(sorted(answers.items()))
