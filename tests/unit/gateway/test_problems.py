"""Errors as problems: what callers are told, and what stays in the gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import Request

from sessions import errors
from sessions.gateway.problems import problem_of

INNER = "KeyError: connection to 10.0.0.5:6333, /srv/models/x.onnx"


def told(error: errors.SessionfleetError) -> dict[str, Any]:
    scope = {"type": "http", "method": "POST", "path": "/agent", "raw_path": b"/agent", "headers": [], "state": {}}
    said: dict[str, Any] = json.loads(problem_of(Request(scope), error).body)
    return said


@pytest.mark.parametrize(
    "error",
    [
        errors.turn_error("TurnFailed", f"turn 's~1': internal error {INNER}"),
        errors.turn_error("ModelUnavailable", f"turn 's~1': {INNER}"),
        errors.turn_error("HookError", f"turn 's~1': hook 'audit' (before_turn) raised {INNER}"),
        errors.turn_error("Newer", f"turn 's~1': {INNER}"),
        errors.RetrievalUnavailable(INNER),
        errors.EmbeddingFailed(INNER),
        errors.StoreUnavailable(INNER),
        errors.MissingExtra(INNER),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_others_said_is_no_part_of_a_problem(error: errors.SessionfleetError) -> None:
    """Addresses of servers, paths of the machine and texts of exceptions are not; the class and its turn are."""
    said = told(error)
    assert said["type"] == f"urn:sessionfleet:error:{type(error).__name__}"
    assert not any(inner in said["detail"] for inner in ("KeyError", "10.0.0.5", "/srv", "audit"))
    assert said["detail"].startswith("turn 's~1': " if "s~1" in str(error) else type(error).__doc__[:20])  # type: ignore[index]


@pytest.mark.parametrize("kind", [errors.TurnRefused, errors.TurnDeadlineExceeded, errors.DocumentEmpty])
def test_what_we_say_ourselves_is_said(kind: type[errors.TurnFailed]) -> None:
    """The message of such an error is written for the caller, and is shown."""
    assert told(kind("turn 's~1': no refunds on Sundays"))["detail"] == "turn 's~1': no refunds on Sundays"
