"""The form of an API key, `sfk_<id>_<secret>`, and how one is made and compared."""

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
# Compared with where there is no record, so that an unknown id costs what a known one does.
_NOBODY: Final = "0" * 64


def new_key() -> tuple[str, str]:
    """An id and a whole key: 256 random bits, so that one fast digest is enough to keep it by."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    secret = "".join(secrets.choice(_SECRET_LETTERS) for _ in range(43))
    return key_id, f"{PREFIX}{key_id}_{secret}"


def id_in(key: str) -> str | None:
    """The id of a key; None where it has not the form of one."""
    found = _FORM.match(key)
    return None if found is None else found[1]


def digest_of(key: str) -> str:
    """What the store keeps of a key. Its id is part of it: a record that is moved to another id opens nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_key(key: str, record: ApiKeyRecord | None) -> bool:
    """Whether this is the key of the record, and still good."""
    same = hmac.compare_digest(digest_of(key), _NOBODY if record is None else record.digest)
    return same and record is not None and not expired(record)


def expired(record: ApiKeyRecord) -> bool:
    """Whether its time is over, by this machine's clock."""
    return record.expires_ms is not None and record.expires_ms <= time.time() * 1000
