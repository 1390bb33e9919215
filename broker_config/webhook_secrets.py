"""The format of SESSIONFLEET_WEBHOOK_SECRETS: `whsec_<base64>` as in Standard Webhooks, comma separated."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final

_PREFIX: Final = "whsec_"
_NEW_BYTES: Final = 32
_LEAST_BYTES: Final = 24
_MOST_BYTES: Final = 64
_FORM: Final = (
    f"write `{_PREFIX}<base64 of {_LEAST_BYTES} to {_MOST_BYTES} bytes>`; `sessionfleet keys webhook --new` "
    "generates one"
)


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """The secrets in their order.

    Raises:
        ValueError: the text does not have this format. No message quotes any of the text.
    """
    found: list[bytes] = []
    entries = [entry.strip() for entry in text.split(",")]
    for number, entry in enumerate(entries, 1):
        try:
            secret = parse_secret(entry)
        except ValueError as error:
            raise ValueError(f"entry {number} of {len(entries)}: {error}") from None
        if secret in found:
            raise ValueError(f"entry {number} of {len(entries)} is a duplicate")
        found.append(secret)
    return tuple(found)


def parse_secret(text: str) -> bytes:
    """The bytes of one secret.

    Raises:
        ValueError: it does not have this format; the message does not quote it.
    """
    encoded = text.removeprefix(_PREFIX)
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if encoded == text or not _LEAST_BYTES <= len(secret) <= _MOST_BYTES:
        raise ValueError(f"this is not a webhook secret: {_FORM}")
    return secret


def secret_text(secret: bytes) -> str:
    """A secret in its text form."""
    return _PREFIX + base64.b64encode(secret).decode()


def new_secret() -> str:
    """A new secret for the setting."""
    return secret_text(secrets.token_bytes(_NEW_BYTES))
