"""Finds pages that PDFium reads as empty or in part, without an error, because their contents are damaged.

PDFium draws what it can and does not say what it could not. A second reader, which reports every error, looks at the
contents of the pages. It reads no text, and a time limit ends it: what it finds only makes the warnings complete.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any, Final

from pypdf import PdfReader
from pypdf.errors import PyPdfError
from pypdf.generic import ArrayObject, StreamObject

from workers.retrieval.documents.cpu_time import OutOfCpuTime, limited_cpu_time

_FLATE: Final = ("/FlateDecode", "/Fl")
_FILTERS: Final = frozenset({
    *_FLATE, "/LZWDecode", "/LZW", "/ASCII85Decode", "/A85", "/ASCIIHexDecode", "/AHx", "/RunLengthDecode", "/RL",
    "/DCTDecode", "/DCT", "/CCITTFaxDecode", "/CCF", "/JPXDecode", "/JBIG2Decode", "/Crypt",
})  # fmt: skip
_PIECE: Final = 1 << 20
# pypdf raises all kinds of exceptions for damaged files, including AssertionError.
DAMAGE: Final = (
    PyPdfError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError,
    OSError, RuntimeError, TypeError, ValueError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a page's contents.

    Attributes:
        problem: a sentence without its full stop.
        is_read: whether a part of the contents can be read. PDFium takes contents of an unknown filter as they are.
    """

    problem: str
    is_read: bool = True


def find_damage(data: bytes, *, seconds: float) -> dict[int, Damage]:
    """The pages (0-based) whose contents are damaged, and how.

    Args:
        seconds: the processor time to spend. Pages that were not reached are taken for whole.
    """
    damaged: dict[int, Damage] = {}
    try:
        with limited_cpu_time(seconds):
            reader = PdfReader(io.BytesIO(data))
            if reader.is_encrypted:
                reader.decrypt("")
            for number, page in enumerate(reader.pages):
                if problem := _problem(page):
                    damaged[number] = problem
    except (*DAMAGE, OutOfCpuTime):
        pass  # the file's structure is too damaged for this reader; PDFium's result stands
    return damaged


def _problem(page: Any) -> Damage | None:
    try:
        contents = page.get("/Contents", [])
        for part in contents if isinstance(contents, ArrayObject) else [contents]:
            stream = part.get_object() if hasattr(part, "get_object") else part
            if isinstance(stream, StreamObject) and (problem := _stream_problem(stream)):
                return problem
    except DAMAGE as error:
        return Damage(f"its contents cannot be found ({str(error) or type(error).__name__})")
    return None


def _stream_problem(stream: Any) -> Damage | None:
    filters = stream.get("/Filter", [])
    names = [str(name) for name in (filters if isinstance(filters, list) else [filters])]
    if unknown := [name for name in names if name not in _FILTERS]:
        return Damage(f"its contents have the unknown filter {unknown[0]!r}", is_read=False)
    if names and names[0] in _FLATE and not _inflates(stream._data):  # noqa: SLF001
        return Damage("its contents are damaged")
    return None


def _inflates(data: bytes) -> bool:
    """Whether compressed bytes are whole. Their checksum does not count: some programs write a wrong one."""
    inflating = zlib.decompressobj()
    try:
        while data and not inflating.eof:
            inflating.decompress(data, _PIECE)
            data = inflating.unconsumed_tail
    except zlib.error as error:
        return "incorrect data check" in str(error)
    return inflating.eof
