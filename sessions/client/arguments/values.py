"""Checks of arguments, each with an error that names the argument, its value and what to use instead."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast, get_args
from urllib.parse import urlsplit

from sessions.errors import BadRequest, InvalidMessage
from sessions.protocol.access import Rights
from sessions.protocol.compaction_requests import COMPACT_VALUES, Compact
from sessions.protocol.text import find_lone_surrogate, is_encodable
from sessions.protocol.turn import Policy

_LONGEST_SECONDS: Final = 100 * 365 * 86400.0
_TEXT_LIMIT: Final = 256
_LONGEST_URL: Final = 2048
CHARSET: Final = r"^[A-Za-z0-9][A-Za-z0-9._:+()-]{0,63}$"
"""What a charset label looks like. Which labels exist, the workers know."""
LONE_SURROGATE: Final = (
    "character {} is half of a surrogate pair, for instance of an emoji that was cut in two; split strings between "
    "whole characters, or call toWellFormed() in JavaScript"
)
_WEBHOOK: Final = "use a URL such as 'https://example.org/hook'"


def seconds(name: str, value: object) -> float:
    """Check a duration in seconds.

    Raises:
        BadRequest: it is not a number of more than 0 and at most 100 years.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= _LONGEST_SECONDS:  # type: ignore[arg-type,operator]
        raise BadRequest(f"{name} {value!r}: use a number of seconds, more than 0")
    return float(value)  # type: ignore[arg-type]


def short_string(name: str, value: object) -> str:
    """Check a string of 1 to 256 bytes.

    Raises:
        BadRequest: it is not one.
    """
    if (
        not isinstance(value, str)
        or not 0 < len(value.encode(errors="replace")) <= _TEXT_LIMIT
        or not is_encodable(value)
    ):
        raise BadRequest(f"{name} {value!r}: use a string of 1 to {_TEXT_LIMIT} bytes, or None")
    return value


def charset_label(value: object) -> str:
    """Check the name of a charset.

    Raises:
        BadRequest: it cannot be one.
    """
    if not isinstance(value, str) or not re.match(CHARSET, value):
        raise BadRequest(f"charset {value!r}: use a name such as 'windows-1251', or None to have it detected")
    return value


def policy_named(value: object) -> Policy:
    """Check a policy: what to do with a message if its session is busy.

    Raises:
        BadRequest: there is no such policy.
    """
    try:
        return Policy(str(value))
    except ValueError:
        raise BadRequest(f"policy {value!r}: use one of {', '.join(repr(p.value) for p in Policy)}") from None


def rights_named(value: object) -> Rights:
    """Check what a session is shared for.

    Raises:
        BadRequest: it is neither "read" nor "write".
    """
    if value not in get_args(Rights):
        raise BadRequest(f"rights {value!r}: use 'read' or 'write'")
    return cast(Rights, value)


def compact_named(value: object) -> Compact:
    """Check whether a session is to be compacted.

    Raises:
        BadRequest: it is neither "auto" nor "off".
    """
    if value not in COMPACT_VALUES:
        raise BadRequest(f"compact {value!r}: use 'auto' or 'off'")
    return value


def boolean(name: str, value: object) -> bool:
    """Check that a value is True or False.

    Raises:
        BadRequest: it is neither.
    """
    if not isinstance(value, bool):
        raise BadRequest(f"{name} {value!r}: use True or False")
    return value


def message_text(value: object) -> str:
    """Check a message.

    Raises:
        InvalidMessage: it is not a non-empty string.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidMessage(f"message {repr(value)[:100]}: {InvalidMessage.__doc__}")
    if (place := find_lone_surrogate(value)) is not None:
        raise InvalidMessage(f"message: {LONE_SURROGATE.format(place)}")
    return value


def webhook_url(value: object) -> str:
    """Check the URL of a webhook: https or http, with a host, without a password.

    Raises:
        BadRequest: it cannot be one. The message does not quote the URL, which may contain a secret.
    """
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _LONGEST_URL
        or not value.isascii()
        or value != value.strip()
    ):
        raise BadRequest(f"webhook={type(value).__name__}: {_WEBHOOK}, of at most {_LONGEST_URL} ASCII characters")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"webhook: this is not a URL; {_WEBHOOK}") from error
    if parts.scheme not in ("https", "http") or not host or any(not 32 < ord(char) < 127 for char in value):
        raise BadRequest(f"webhook: {_WEBHOOK}")
    if parts.username is not None or parts.password is not None:
        raise BadRequest(
            "webhook: the URL contains a user name or password, which would not be sent; webhooks are signed instead, "
            "and the receiver calls verify_webhook()"
        )
    return value


def json_object(name: str, value: object, *, limit: int | None = None) -> dict[str, Any]:
    """Check a dict of JSON values; returns it after a round trip through JSON, and an empty one for None.

    Args:
        limit: how many bytes its JSON may have.

    Raises:
        BadRequest: it is not one, or it is larger.
    """
    try:
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"not {type(value).__name__}")
        encoded = json.dumps(dict(value or {}), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise BadRequest(f"{name} must be a dict of JSON values: {error}") from error
    if limit is not None and len(encoded) > limit:
        raise BadRequest(f"{name} has {len(encoded)} bytes of JSON, the limit is {limit}: store less with it")
    plain: dict[str, Any] = json.loads(encoded)
    return plain


def minimum_score(value: object) -> float | None:
    """Check the minimum score; None if none was given.

    Raises:
        BadRequest: it is not a number from 0 to 1.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadRequest(f"min_score {value!r}: use a number from 0 to 1")
    return float(value)
