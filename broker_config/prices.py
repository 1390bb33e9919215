"""Prices of models that a deployment sets itself: for models that no price list has, and for negotiated prices."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

_NEEDED: Final = {"input", "output"}
_KNOWN: Final = {*_NEEDED, "cache_read", "cache_write"}

Prices = Mapping[str, Mapping[str, float]]
"""Model -> US dollars per million tokens: `input`, `output`, and optionally `cache_read` and `cache_write`."""


def parse_prices(text: str) -> Prices:
    """The prices in a JSON object.

    Raises:
        ValueError: it is not of this form.
    """
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("use a JSON object, with the name of a model for each price")
    return {model: _price(model, parts) for model, parts in found.items()}


def _price(model: str, parts: Any) -> Mapping[str, float]:
    if not isinstance(parts, dict) or not _NEEDED <= parts.keys() <= _KNOWN:
        raise ValueError(f"the price of {model!r} needs `input` and `output`, and may have `cache_read`, `cache_write`")
    for name, value in parts.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"the price of {model!r} has {name}={value!r}; use dollars per million tokens")
    return {name: float(value) for name, value in parts.items()}
