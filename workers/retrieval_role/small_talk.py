"""Messages about which no document says anything: thanks, greetings, agreement, and signs without words."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).parent / "data" / "small-talk.txt"
_GREETINGS: Final = ("how are you", "how is it going", "how's it going", "what's up", "what is up", "how are things")
# Words of small talk that may ask for something if no other one is there, such as "Is this all?"
_POINTING: Final = frozenset("you your that it this is are am me all so very much".split())  # noqa: SIM905
# Marks that \w does not have, but words of India and Thailand do.
_WORD: Final = re.compile(r"\w[\w\u0300-\u036f\u0900-\u097f\u0e31-\u0e4e]*")
_FROM_HERE_SIGNS_ARE_WORDS: Final = "\u2e80"  # Chinese, Japanese, Korean
_MOST_WORDS: Final = 8


def is_small_talk(message: str) -> bool:
    """Whether nothing can be looked up for a message: it has only words of small talk, or single letters and digits."""
    said = " ".join(message.casefold().replace("\u2019", "'").split())
    for greeting in _GREETINGS:
        said = said.replace(greeting, " ")
    words = [word for word in _WORD.findall(said) if len(word) > 1 or word >= _FROM_HERE_SIGNS_ARE_WORDS]
    if len(words) > _MOST_WORDS or not _known().issuperset(words):
        return False
    return not words or not _POINTING.issuperset(words)


@cache
def _known() -> frozenset[str]:
    return frozenset(_FILE.read_text(encoding="utf-8").split())
