"""What a document may cost; beyond it, it is refused."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Bounds for one document.

    Attributes:
        document_bytes: as it was sent.
        text_chars: as it was read; a book of 3,000 pages has about 9 million.
        pages: of a PDF.
        unpacked_bytes: of everything in a DOCX together.
        unpacked_ratio: of an entry of a DOCX that is larger than a mebibyte: unpacked to packed. Prose has 5 to 20.
        entries: of a DOCX.
        depth: of JSON.
        inline_bytes: up to which plain kinds are read in this process instead of a child; a mebibyte of JSON can
            become fifty of Python objects, and takes the event loop as long as it takes.
        seconds: that a child may take, by the clock and of the processor.
        memory_bytes: that a child may map.
    """

    document_bytes: int = 32 * _MIB
    text_chars: int = 10_000_000
    pages: int = 5_000
    unpacked_bytes: int = 256 * _MIB
    unpacked_ratio: int = 200
    entries: int = 5_000
    depth: int = 100
    inline_bytes: int = 64 * 1024
    seconds: float = 300.0
    memory_bytes: int = 1024 * _MIB
