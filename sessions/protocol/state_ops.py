"""Changes of state: what keys and values may be, and the four operations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from sessions.errors import InvalidState
from sessions.protocol.text import is_encodable

USER: Final = "user:"
APP: Final = "app:"
TEMP: Final = "temp:"
MAX_FIELD: Final = 256


@dataclass(frozen=True, slots=True)
class StateOp:
    """One change. `a` and `b` are JSON, in the form that `write_state.lua` expects."""

    kind: Literal["set", "delete", "increment", "swap"]
    field: str
    a: str = ""
    b: str = ""


def dump(value: Any) -> str:
    """A value in its stored form: JSON, with sorted keys, so that equal values are equal strings.

    Raises:
        InvalidState: it is not JSON.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidState(f"state value {value!r} is not JSON ({error}); use numbers, strings, lists, dicts") from None


def check_field(field: object) -> str:
    """Refuse an invalid key.

    Raises:
        InvalidState: it is not a string of 1 to 256 characters.
    """
    if not isinstance(field, str) or not 0 < len(field) <= MAX_FIELD or not is_encodable(field):
        raise InvalidState(f"state key {field!r}: use a string of 1 to {MAX_FIELD} characters")
    return field


def set_op(field: str, value: Any) -> StateOp:
    """Set a value."""
    return StateOp("set", check_field(field), dump(value))


def delete_op(field: str) -> StateOp:
    """Remove a value."""
    return StateOp("delete", check_field(field))


def increment_op(field: str, amount: float, default: float) -> StateOp:
    """Add to a number.

    Raises:
        InvalidState: amount or default is not a number.
    """
    for number in (amount, default):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InvalidState(f"state {field!r} can be incremented by a number, not by {number!r}")
    return StateOp("increment", check_field(field), dump(amount), dump(default))


def swap_op(field: str, expected: Any, value: Any) -> StateOp:
    """Set a value if it is still the expected one; None expects that there is none."""
    return StateOp("swap", check_field(field), "" if expected is None else dump(expected), dump(value))
