"""Whether text recognition may be used for a document, and how much it may use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from broker_config.settings import Settings
from workers.retrieval.documents.recognition.advice import MISSING, OFF

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecognitionLimits:
    """Limits of text recognition.

    Attributes:
        problem: why there is no recognition, and what to do about it; '' if there is.
        pages: the pages of one document that are recognised. The others are reported as not read.
        page_seconds: the CPU time for one page, which is left out if it takes longer.
        memory_bytes: the address space of the child process; less than half of it is used.
        threads: how many processors it may use.
    """

    problem: str = MISSING
    pages: int = 200
    page_seconds: float = 60.0
    memory_bytes: int = 2560 * _MIB
    threads: int = 1

    @classmethod
    def of(cls, settings: Settings) -> RecognitionLimits:
        """As the settings say, and as far as the extra is installed."""
        problem = OFF if settings.ocr == "off" else "" if is_installed() else MISSING
        return cls(
            problem,
            settings.ocr_pages,
            settings.ocr_page_seconds,
            settings.ocr_memory_bytes,
            settings.embedding_threads,
        )


def is_installed() -> bool:
    """Whether the extra `ocr` is installed. Loads nothing."""
    return find_spec("rapidocr") is not None
