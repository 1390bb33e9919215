"""Which strings can be encoded, and so stored in JSON and Redis."""

from __future__ import annotations


def is_encodable(text: str) -> bool:
    """Whether a string can be encoded: one with half of a surrogate pair cannot."""
    return find_lone_surrogate(text) is None


def find_lone_surrogate(text: str) -> int | None:
    """The position of half of a surrogate pair (an emoji that was cut in two); None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None
