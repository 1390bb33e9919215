"""Models as clients get them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model(name: str, since: int) -> dict[str, Any]:
    """One model."""
    return {"id": name, "object": "model", "created": since, "owned_by": "sessionfleet"}


def model_list(known: Mapping[str, int]) -> dict[str, Any]:
    """All of them, by name."""
    return {"object": "list", "data": [model(name, since) for name, since in sorted(known.items())]}
