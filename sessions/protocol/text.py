"""Which strings can be encoded, and so stored in JSON and Redis."""

from __future__ import annotations


def encodes(text: str) -> bool:
    """Whether a string can be encoded: one with half of a surrogate pair cannot."""
    return cut_character(text) is None


def cut_character(text: str) -> int | None:
    """The position of half of a surrogate pair (an emoji that was cut in two); None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None
