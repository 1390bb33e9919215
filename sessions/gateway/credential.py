"""The one credential of a request: where it may be, and what it may look like."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from starlette.datastructures import Headers

from sessions.errors import Unauthenticated

LONGEST: Final = 8192
"""Characters of a credential; a longer token is meant for another service."""
_SENDABLE: Final = re.compile(r"[A-Za-z0-9._~+/=-]+\Z")
_SCHEMES: Final = (
    "`Authorization: Bearer <API key or token>`, `X-API-Key: <API key>`, or Basic with the key as password"
)


def credential_of(headers: Headers) -> str:
    """The request's credential, from whichever header; the same one in several headers is accepted.

    Raises:
        Unauthenticated: there is none, nothing that could be a credential, or several different ones.
    """
    shown = [_authorization(value) for value in headers.getlist("authorization")]
    shown += [value.strip() for value in headers.getlist("x-api-key")]
    if not shown:
        raise Unauthenticated
    if any(len(one) > LONGEST or not _SENDABLE.match(one) for one in shown):
        raise Unauthenticated(f"this is not a credential: send {_SCHEMES}")
    if len(set(shown)) > 1:
        raise Unauthenticated("the request has several different credentials: send one")
    return shown[0]


def _authorization(value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            return _password(rest.strip())
        case _:
            raise Unauthenticated(f"this authentication scheme is not supported: send {_SCHEMES}")


def _password(encoded: str) -> str:
    """The password of Basic: `http://any:<key>@host` is all that some clients can do. The user name is ignored."""
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unauthenticated(f"this is not a credential: send {_SCHEMES}") from None
    return text.partition(":")[2]
