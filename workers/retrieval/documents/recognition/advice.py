"""What is said where text recognition would be needed. The texts continue a sentence."""

from __future__ import annotations

from typing import Final

_NEEDED: Final = "text recognition (OCR) would be needed"
MISSING: Final = f"{_NEEDED}: pip install 'sessionfleet[ocr]' for the retrieval workers"
OFF: Final = f"{_NEEDED}, but SESSIONFLEET_OCR turns it off"
