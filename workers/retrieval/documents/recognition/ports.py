"""Text recognition as a reader of documents sees it. Importing this loads nothing of it: most documents need none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.retrieval.documents.recognition.advice import MISSING

if TYPE_CHECKING:
    from workers.retrieval.documents.recognition.page_text import Recogniser


def _ignore(*_: object) -> None:
    """The default callbacks."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """Text recognition for one document.

    Attributes:
        problem: why there is none, as in `advice`; '' if there is.
        recogniser: None if there is none, or not in this process.
        wanted: called with the pages (1-based) that need it, before it begins, or would.
        on_page: called before each page that is recognised: its number, how many are done, and how many there are.
    """

    problem: str = MISSING
    recogniser: Recogniser | None = None
    wanted: Callable[[Sequence[int]], None] = _ignore
    on_page: Callable[[int, int, int], None] = _ignore


NO_RECOGNITION: Final = Recognition()
