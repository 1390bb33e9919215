"""The format of an API key, `sfk_<id>_<secret>`, and how one is generated and compared."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import time
from typing import Final

from sessions.store.api_keys import ApiKeyRecord

PREFIX: Final = "sfk_"
_FORM: Final = re.compile(r"sfk_([a-z0-9]{12})_[A-Za-z0-9]{43}\Z")
_ID_LETTERS: Final = string.ascii_lowercase + string.digits
_SECRET_LETTERS: Final = string.ascii_letters + string.digits
# Compared with if there is no record, so that an unknown id takes as long as a known one.
_NOBODY: Final = "0" * 64


def new_key() -> tuple[str, str]:
    """An id and a whole key: 256 random bits, so that one fast digest is enough for storing it."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    secret = "".join(secrets.choice(_SECRET_LETTERS) for _ in range(43))
    return key_id, f"{PREFIX}{key_id}_{secret}"


def id_in(key: str) -> str | None:
    """The id of a key; None if it does not have the format of a key."""
    found = _FORM.match(key)
    return None if found is None else found[1]


def digest_of(key: str) -> str:
    """What the store keeps of a key. The id is part of the digest: a record moved to another id matches nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_key(key: str, record: ApiKeyRecord | None) -> bool:
    """Whether this is the key of the record, and still valid."""
    same = hmac.compare_digest(digest_of(key), _NOBODY if record is None else record.digest)
    return same and record is not None and not expired(record)


def expired(record: ApiKeyRecord) -> bool:
    """Whether it has expired, by this machine's clock."""
    return record.expires_ms is not None and record.expires_ms <= time.time() * 1000
