"""Texts that JSON, Redis and Lua can hold."""

from __future__ import annotations


def encodes(text: str) -> bool:
    """Half of a surrogate pair is a `str` that no encoding accepts."""
    return cut_character(text) is None


def cut_character(text: str) -> int | None:
    """The position of half of a surrogate pair, such as an emoji that a browser has cut; None if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None
