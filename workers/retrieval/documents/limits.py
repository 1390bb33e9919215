"""Limits for documents; those that exceed them are refused."""

from __future__ import annotations

from dataclasses import dataclass

from workers.retrieval.documents.kinds import Kind
from workers.retrieval.documents.refusal import Reason, Refusal

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Limits for one document.

    Attributes:
        document_bytes: the size of the document as it was sent.
        text_chars: the length of its text; a book of 3,000 pages has about 9 million characters.
        pages: the pages of a PDF.
        unpacked_bytes: the total uncompressed size of a DOCX.
        unpacked_ratio: the compression ratio of a DOCX entry that is larger than 1 MiB. Prose has a ratio of 5 to 20.
        entries: the number of entries in a DOCX.
        depth: the nesting depth of JSON.
        inline_bytes: plain kinds up to this size are parsed in this process. A MiB of JSON can become 50 MiB of Python
            objects, and parsing it blocks the interpreter.
        seconds: the maximum CPU time of a child process; `cpu_seconds` returns a document's share of it. Wall-clock
            time would refuse valid documents on a busy machine.
        memory_bytes: the maximum address space of a child process.
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
        """The CPU time limit for a document of this kind and size in bytes.

        At least five times what the slowest valid documents need, so that a small malicious file is stopped early. PDF
        and DOCX get more, since they are compressed and their parsers are far slower.
        """
        start, each = (60.0, 30.0) if kind in (Kind.PDF, Kind.DOCX) else (10.0, 15.0)
        return min(self.seconds, start + each * size / _MIB)

    def check_chars(self, chars: int) -> None:
        """Check the length of a document's text, or of what is known of it.

        Raises:
            Refusal: it exceeds the limit.
        """
        if chars > self.text_chars:
            raise Refusal(Reason.TOO_LARGE, f"has more than {self.text_chars:,} characters of text; split it")
