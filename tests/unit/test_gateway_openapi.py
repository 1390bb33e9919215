"""The gateway's OpenAPI document says all that clients are generated from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from broker_config.settings import Settings
from sessions.gateway.app import create_app

METHODS = ("get", "put", "post", "patch", "delete")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document; nothing is connected for it."""
    return create_app(Settings(redis_url="redis://127.0.0.1:1/0")).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method.upper(), path, operation


def right(operation: dict[str, Any]) -> str:
    rights = {scope for way in operation.get("security", ()) for scopes in way.values() for scope in scopes}
    assert len(rights) <= 1
    return rights.pop() if rights else ""


def test_every_operation_is_named_once(document: dict[str, Any]) -> None:
    """Generated clients name their methods by `operationId`."""
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(set(names)) == len(names)
    for _, _, operation in operations(document):
        assert operation["summary"]
        assert {*operation["tags"]} <= {tag["name"] for tag in document["tags"]}


def test_rights_are_those_of_the_method(document: dict[str, Any]) -> None:
    """Reading and searching need `read`, changing needs `write`; exceptions are listed here on purpose."""
    special = {
        ("POST", "/v1/sessions/{session_id}/turns/{turn_id}/approvals/{call_id}"): "",  # depends on the call
        ("DELETE", "/v1/sessions/{session_id}/approved-tools/{tool}"): "approve",
        ("PUT", "/v1/agents/{name}"): "configure",
        ("DELETE", "/v1/agents/{name}"): "configure",
        ("POST", "/v1/teams"): "configure",
        ("GET", "/v1/sessions/{session_id}/export"): "configure",
        ("POST", "/v1/sessions/import"): "configure",
    }
    for method, path, operation in operations(document):
        reading = method == "GET" or path.endswith("/search")
        wanted = special.get((method, path), "read" if reading else "write")
        open_to_all = path in ("/health", "/ready") or path.endswith("/health")
        assert right(operation) == ("" if open_to_all else wanted), (method, path)


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    """And nothing else: what FastAPI would say by itself is not what is sent."""
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
            assert "X-Request-ID" in answer["headers"]
        assert {"422", "500"} <= operation["responses"].keys()
        assert not operation.get("security") or {"401", "403", "429", "503"} <= operation["responses"].keys()
    assert "HTTPValidationError" not in document["components"]["schemas"]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def test_bodies_and_answers_have_examples_that_fit(document: dict[str, Any]) -> None:
    """An example that the schema refuses would mislead anyone who copies it."""
    described: list[dict[str, Any]] = []
    for _, _, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [answer.get("content", {}) for answer in operation["responses"].values()]
        described += [found["schema"] for content in contents for kind, found in content.items() if "json" in kind]
    assert len(described) > 100
    for schema in described:
        options = [resolved(document, one) for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
        for option in options:
            whole = {**option, "components": document["components"]}
            if option.get("properties") and option["title"] not in ("Health", "Readiness", "Reply"):
                assert option.get("examples") or _only_holds(document, option), option["title"]
            for example in option.get("examples", ()):
                jsonschema.validate(example, whole)


def _only_holds(document: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether it is but a list of what has examples itself."""
    lists = [one for one in schema["properties"].values() if one.get("type") == "array"]
    return any(resolved(document, one["items"]).get("examples") for one in lists)
