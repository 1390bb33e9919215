"""The session's state as a run shows it."""

from __future__ import annotations

from typing import Any

from ag_ui.core import StateDeltaEvent


def state_delta(before: dict[str, Any], after: dict[str, Any]) -> StateDeltaEvent | None:
    """What changed, value by value; None if nothing did."""
    gone = [{"op": "remove", "path": _pointer(key)} for key in before if key not in after]
    new = [
        {"op": "replace" if key in before else "add", "path": _pointer(key), "value": value}
        for key, value in after.items()
        if key not in before or before[key] != value
    ]
    return StateDeltaEvent.model_validate({"delta": gone + new}) if gone or new else None


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")
