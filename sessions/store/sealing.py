"""Sealing: a value is encrypted for the place where it is stored, with the keys in SESSIONFLEET_ENCRYPTION_KEYS.

    mark (3) | version (1) | length of the key's id (1) | key's id | nonce (12) | AES-256-GCM ciphertext and tag

The header, the store's key and the field are authenticated with it, so that a value that was changed, or moved to
another place, cannot be decrypted. Without keys values stay as they are, and a value that was stored before there were
any is read as it is. `docs/security.md` lists what is encrypted.
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

# UTF-8 has no byte FF, so no JSON and no text begins with it; nor does a vector of length 1, whose first number would
# be 16,376.
_MARK: Final = b"\xffsf"
_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_DIGEST_KEY: Final = b"sessionfleet digest 1"
_SETTING: Final = "SESSIONFLEET_ENCRYPTION_KEYS"


class KeyRing:
    """Encrypts with the first of its keys, and decrypts what any of them encrypted. Threads may share it."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._first = next(iter(self._keys), None)
        self._ciphers: dict[str, AESGCM] = {}

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys of a deployment; without keys, a keyring that leaves everything as it is."""
        secret = settings.encryption_keys
        return cls({} if secret is None else parse_keys(secret.get_secret_value()))

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its keys, the one that encrypts first."""
        return tuple(self._keys)

    def seal(self, key: str, field: str, value: bytes) -> bytes:
        """The bytes to store at this key of the store, in this field ('' if it has none)."""
        if self._first is None:
            return value
        name = self._first.encode()
        header = _MARK + bytes((_VERSION, len(name))) + name
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + self._cipher(self._first).encrypt(nonce, value, _place(header, key, field))

    def open(self, key: str, field: str, value: bytes) -> bytes:
        """The value that was encrypted for this place.

        Raises:
            SealError: it was encrypted with another key, or for another place, or was changed since.
        """
        if not value.startswith(_MARK):
            return value
        header, name, nonce, sealed = _parts(key, value)
        if name not in self._keys:
            has = f"it has {', '.join(self._keys)}" if self._keys else "it is not set"
            raise SealError(
                f"{key!r} was encrypted with the key {name!r}, which {_SETTING} does not have here ({has}): set it "
                "as in the rest of the deployment"
            )
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - heavy

        try:
            return self._cipher(name).decrypt(nonce, sealed, _place(header, key, field))
        except InvalidTag as error:
            raise SealError(
                f"{key!r} cannot be decrypted with the key {name!r}: either {_SETTING} has another key under this id "
                "than the one that encrypted it, or the value was changed or moved since; compare the setting with "
                "that of the rest of the deployment"
            ) from error

    @staticmethod
    def sealed(value: bytes) -> bool:
        """Whether it is a value that a keyring with keys stores."""
        return value.startswith(_MARK)

    def current(self, value: bytes) -> bool:
        """Whether it is encrypted with the key that encrypts now."""
        name = (self._first or "").encode()
        return value.startswith(_MARK + bytes((_VERSION, len(name))) + name)

    @staticmethod
    def sealed_within(value: bytes) -> bool:
        """Whether it contains an encrypted value."""
        return _MARK in value

    def digest(self, value: bytes) -> str:
        """A hex digest that identifies a content; with keys, nobody else can tell from it which content it is."""
        return self.digests(value)[0]

    def digests(self, value: bytes) -> tuple[str, ...]:
        """The digests that a content may have, one per key; those from before there were keys are not included."""
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
        raise SealError(f"{key!r} was encrypted by a newer version of Sessionfleet: upgrade this process")
    id_start = start + 2
    end = id_start + (value[id_start - 1] if len(value) >= id_start else 0)
    if len(value) < end + _NONCE_BYTES + _TAG_BYTES:
        raise SealError(f"{key!r} was encrypted, and is truncated: it cannot be read any more")
    name = value[id_start:end].decode("utf-8", "backslashreplace")
    return value[:end], name, value[end : end + _NONCE_BYTES], value[end + _NONCE_BYTES :]


def _place(header: bytes, key: str, field: str) -> bytes:
    """What is authenticated with the value; the lengths keep two places from looking the same."""
    place = key.encode()
    return header + len(place).to_bytes(4, "big") + place + field.encode("utf-8", "surrogatepass")
