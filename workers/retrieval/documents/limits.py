"""What a document may cost; beyond it, it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from workers.retrieval.documents.kinds import Kind

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
        seconds: of the processor that a child may use, whatever the document's size; `cpu_seconds` says how many of
            these a document gets. The clock is not asked: on a busy machine it would refuse good documents.
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

    def cpu_seconds(self, kind: Kind, size: int) -> float:
        """What a document of this kind and size in bytes may use of the processor.

        At least five times what the slowest sound documents need, so that a small file which drives its parser mad ends
        soon. PDF and DOCX are packed, and read by far slower parsers than texts.
        """
        start, each = (60.0, 30.0) if kind in (Kind.PDF, Kind.DOCX) else (10.0, 15.0)
        return min(self.seconds, start + each * size / _MIB)
