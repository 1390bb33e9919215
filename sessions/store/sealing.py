"""Sealing: what is stored is encrypted for the place it is stored in, with the keys of SESSIONFLEET_ENCRYPTION_KEYS.

    mark (3) | version (1) | length of the key's id (1) | key's id | nonce (12) | AES-256-GCM ciphertext and tag

The header, the store's key and the field are authenticated with it, so that a value which was changed, or moved to
another place, does not open. Without keys values stay as they are, and a value that was stored before there were any
is read as it is. `docs/security.md` says what is sealed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from broker_config.encryption_keys import parse_keys
from broker_config.settings import Settings
from sessions.errors import SealError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# No UTF-8 has a byte FF, so no JSON and no text begins so; nor does a vector of length 1, whose first number this
# would make 16,376.
_MARK: Final = b"\xffsf"
_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_DIGEST_KEY: Final = b"sessionfleet digest 1"
_SETTING: Final = "SESSIONFLEET_ENCRYPTION_KEYS"


class KeyRing:
    """Seals with the first of its keys, and opens what any of them sealed. Threads may share it."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._first = next(iter(self._keys), None)
        self._ciphers: dict[str, AESGCM] = {}

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys of a deployment; none are set: a ring that leaves everything as it is."""
        secret = settings.encryption_keys
        return cls({} if secret is None else parse_keys(secret.get_secret_value()))

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its keys, the one that seals first."""
        return tuple(self._keys)

    def seal(self, key: str, field: str, value: bytes) -> bytes:
        """What is stored at this key of the store, in this field ('' where it has none)."""
        if self._first is None:
            return value
        name = self._first.encode()
        header = _MARK + bytes((_VERSION, len(name))) + name
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + self._cipher(self._first).encrypt(nonce, value, _place(header, key, field))

    def open(self, key: str, field: str, value: bytes) -> bytes:
        """What was sealed for this place.

        Raises:
            SealError: it was sealed with another key, or for another place, or was changed since.
        """
        if not value.startswith(_MARK):
            return value
        header, name, nonce, sealed = _parts(key, value)
        if name not in self._keys:
            has = f"it has {', '.join(self._keys)}" if self._keys else "it is not set"
            raise SealError(
                f"{key!r} holds what was sealed with the key {name!r}, which {_SETTING} does not have here ({has}): "
                "set it as it is elsewhere in the deployment"
            )
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - heavy

        try:
            return self._cipher(name).decrypt(nonce, sealed, _place(header, key, field))
        except InvalidTag as error:
            raise SealError(
                f"what {key!r} holds does not open with the key {name!r}: {_SETTING} has another key under this id "
                "than the one that sealed it, or it was changed or moved since; compare the setting with that of the "
                "rest of the deployment"
            ) from error

    @staticmethod
    def sealed(value: bytes) -> bool:
        """Whether it is what a ring with keys stores."""
        return value.startswith(_MARK)

    def current(self, value: bytes) -> bool:
        """Whether the key sealed it that seals now."""
        name = (self._first or "").encode()
        return value.startswith(_MARK + bytes((_VERSION, len(name))) + name)

    @staticmethod
    def sealed_within(value: bytes) -> bool:
        """Whether something that is sealed stands in it."""
        return _MARK in value

    def digest(self, value: bytes) -> str:
        """Names a content, hex: with keys nobody else can tell from it which content that is."""
        return self.digests(value)[0]

    def digests(self, value: bytes) -> tuple[str, ...]:
        """The names that a content may have, one for each key; what was named without a key is not known by it."""
        if not self._keys:
            return (hashlib.sha256(value).hexdigest(),)
        keys = (hmac.digest(key, _DIGEST_KEY, "sha256") for key in self._keys.values())
        return tuple(hmac.digest(key, value, "sha256").hex() for key in keys)

    def _cipher(self, name: str) -> AESGCM:
        found = self._ciphers.get(name)
        if found is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - heavy

            found = self._ciphers[name] = AESGCM(self._keys[name])
        return found


def _parts(key: str, value: bytes) -> tuple[bytes, str, bytes, bytes]:
    """Header, key's id, nonce and ciphertext."""
    start = len(_MARK)
    if value[start : start + 1] not in (b"", bytes((_VERSION,))):
        raise SealError(f"{key!r} holds what a newer version of Sessionfleet sealed: upgrade this process")
    behind = start + 2
    end = behind + (value[behind - 1] if len(value) >= behind else 0)
    if len(value) < end + _NONCE_BYTES + _TAG_BYTES:
        raise SealError(f"what {key!r} holds was sealed, and is cut short: it cannot be read any more")
    name = value[behind:end].decode("utf-8", "backslashreplace")
    return value[:end], name, value[end : end + _NONCE_BYTES], value[end + _NONCE_BYTES :]


def _place(header: bytes, key: str, field: str) -> bytes:
    """What is authenticated beside the value; lengths keep two places from looking like one."""
    place = key.encode()
    return header + len(place).to_bytes(4, "big") + place + field.encode("utf-8", "surrogatepass")
