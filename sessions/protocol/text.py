"""Texts: which can be encoded, and so stored in JSON and Redis; and the title that a message gives its session."""

from __future__ import annotations

from typing import Final

LONGEST_TITLE: Final = 200
"""Characters of a session's title."""

AUTO_TITLE: Final = "auto"
"""Given as a title, it lets a model write one."""

_DEFAULT_TITLE: Final = 80


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


def default_title(message: str) -> str:
    """The beginning of a session's first message, on one line, cut between words."""
    words = " ".join(message[: 10 * _DEFAULT_TITLE].split())
    if len(words) <= _DEFAULT_TITLE:
        return words
    cut = words[: _DEFAULT_TITLE - 1]
    return f"{cut[: max(cut.rfind(' '), _DEFAULT_TITLE // 2)].rstrip()}…"
