"""Removes binary data from texts: pictures that are written into them in Base64 would become passages."""

from __future__ import annotations

import re
from typing import Final

_DATA_URI: Final = re.compile(
    r"data:(?:[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+(?:=[^;,\s]*)?)*;base64,[A-Za-z0-9+/=_%-]*", re.IGNORECASE
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_SHORTEST: Final = 256


def without_data_uris(text: str) -> str:
    """The text without the addresses that contain their data."""
    return _DATA_URI.sub("", text) if ";base64," in text else text


def is_base64(text: str) -> bool:
    """Whether a text is data in Base64: long, without spaces, with digits and letters of both cases."""
    compact = text.replace("\n", "")
    return (
        len(compact) >= _SHORTEST
        and _BASE64.fullmatch(compact) is not None
        and re.search(r"[a-z]", compact) is not None
        and re.search(r"[A-Z]", compact) is not None
        and re.search(r"\d", compact) is not None
        and "/" not in compact[:1]
    )
