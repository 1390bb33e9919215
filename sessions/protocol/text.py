"""Texts that JSON, Redis and Lua can hold."""

from __future__ import annotations


def encodes(text: str) -> bool:
    """Half of a surrogate pair is a `str` that no encoding takes."""
    return cut_character(text) is None


def cut_character(text: str) -> int | None:
    """Where a text has half of a surrogate pair, such as an emoji that a browser has cut; None if nowhere."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None
