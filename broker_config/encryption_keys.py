"""The format of SESSIONFLEET_ENCRYPTION_KEYS: `<id>:<base64 of 32 bytes>`, comma separated; the first one encrypts."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import Final

KEY_BYTES: Final = 32
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
_FORM: Final = "write `<id>:<base64 of 32 bytes>`, separated by commas; `sessionfleet keys new` generates one"


def parse_keys(text: str) -> dict[str, bytes]:
    """The keys by id, in their order.

    Raises:
        ValueError: the text does not have this format. No message quotes any of the text: if a key is written in the
            wrong place, even what looks like its id may be a key.
    """
    entries = [entry.strip() for entry in text.split(",")]
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(entries, 1):
        name, mark, encoded = entry.partition(":")
        if not mark or not _ID.match(name):
            raise ValueError(f"entry {number} of {len(entries)} has no id: {_FORM}")
        key = _decoded(encoded)
        if key is None:
            raise ValueError(f"entry {number} of {len(entries)} is not a key of {KEY_BYTES} bytes: {_FORM}")
        if name in keys or key in keys.values():
            raise ValueError(f"entry {number} of {len(entries)} has the id or the key of an earlier one")
        keys[name] = key
    return keys


def new_key(name: str) -> str:
    """A new entry for the setting.

    Raises:
        ValueError: the name cannot be the id of a key.
    """
    if not _ID.match(name):
        raise ValueError(f"key id {name!r}: use 1 to 32 letters, digits, '.', '_' and '-'")
    return f"{name}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def _decoded(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None
