"""The one credential of a request: where it may stand, and what it may look like."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from starlette.datastructures import Headers

from sessions.errors import Unauthenticated

LONGEST: Final = 8192
"""Characters of a credential; a token with more claims than that is for somebody else."""
_SENDABLE: Final = re.compile(r"[A-Za-z0-9._~+/=-]+\Z")
_SCHEMES: Final = (
    "`Authorization: Bearer <API key or token>`, `X-API-Key: <API key>`, or Basic with the key as password"
)


def credential_of(headers: Headers) -> str:
    """What the request shows, from whichever header; the same in several is one.

    Raises:
        Unauthenticated: it shows nothing, nothing that could be a credential, or several that differ.
    """
    shown = [_authorization(value) for value in headers.getlist("authorization")]
    shown += [value.strip() for value in headers.getlist("x-api-key")]
    if not shown:
        raise Unauthenticated
    if any(len(one) > LONGEST or not _SENDABLE.match(one) for one in shown):
        raise Unauthenticated(f"this is no credential: send {_SCHEMES}")
    if len(set(shown)) > 1:
        raise Unauthenticated("the request has several credentials, and they differ: send one")
    return shown[0]


def _authorization(value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            return _password(rest.strip())
        case _:
            raise Unauthenticated(f"this way to say who you are is not known here: send {_SCHEMES}")


def _password(encoded: str) -> str:
    """The password of Basic: `http://any:<key>@host` is all that some clients can do. The name in front is ignored."""
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unauthenticated(f"this is no credential: send {_SCHEMES}") from None
    return text.partition(":")[2]
