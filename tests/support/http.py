"""Parses the gateway's responses, as its users see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx


def problem(response: httpx.Response, status: int, kind: str | None = None) -> dict[str, Any]:
    """The problem details of a response, which must have this status and class."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = response.json()
    assert said["status"] == status
    assert said["request_id"] == response.headers["x-request-id"]
    assert kind is None or said["type"] == f"urn:sessionfleet:error:{kind}", said
    return said


def good(response: httpx.Response, status: int = 200) -> Any:
    """The JSON of a response, which must have this status."""
    assert response.status_code == status, response.text
    return response.json()


@dataclass
class Sent:
    """One server-sent event."""

    id: str | None
    type: str
    data: Any


def sent_events(lines: Iterator[str]) -> Iterator[Sent]:
    """The events of a stream, without comments."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Sent(fields.get("id"), fields["event"], json.loads(fields["data"]))
            fields = {}
