"""Checks of what callers pass, each with an error that names the argument, its value and what to give instead."""

from __future__ import annotations

import math
from typing import Final

from sessions.errors import BadRequest, InvalidMessage
from sessions.protocol import Policy

_LONGEST_SECONDS: Final = 100 * 365 * 86400.0
_TEXT_LIMIT: Final = 256


def seconds(name: str, value: object) -> float:
    """A time that is more than 0 and not for ever.

    Raises:
        BadRequest: it is not a number like that.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= _LONGEST_SECONDS:  # type: ignore[arg-type,operator]
        raise BadRequest(f"{name} {value!r}: give seconds as a number, more than 0")
    return float(value)  # type: ignore[arg-type]


def short_text(name: str, value: object) -> str:
    """A text of 1 to 256 bytes.

    Raises:
        BadRequest: it is none.
    """
    if not isinstance(value, str) or not 0 < len(value.encode(errors="replace")) <= _TEXT_LIMIT or not encodes(value):
        raise BadRequest(f"{name} {value!r}: give a text of 1 to {_TEXT_LIMIT} bytes, or None")
    return value


def policy_named(value: object) -> Policy:
    """What becomes of a message when its session is busy.

    Raises:
        BadRequest: there is no such policy.
    """
    try:
        return Policy(str(value))
    except ValueError:
        raise BadRequest(f"policy {value!r}: use one of {', '.join(repr(p.value) for p in Policy)}") from None


def flag(name: str, value: object) -> bool:
    """True or False.

    Raises:
        BadRequest: it is neither.
    """
    if not isinstance(value, bool):
        raise BadRequest(f"{name} {value!r}: give True or False")
    return value


def message_text(value: object) -> str:
    """A message: a text that is not empty.

    Raises:
        InvalidMessage: it is none.
    """
    if not isinstance(value, str) or not value.strip() or not encodes(value):
        shown = repr(value)
        raise InvalidMessage(f"message {shown[:100]}: {InvalidMessage.__doc__}")
    return value


def encodes(text: str) -> bool:
    """Half of a surrogate pair is a `str` that no encoding takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
