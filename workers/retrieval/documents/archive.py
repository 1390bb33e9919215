"""Unpacks a DOCX with limits on its size, before it is passed to a library that trusts it.

The sizes that an archive declares can be wrong, so every entry is unpacked here piece by piece, measured, and packed
again. Pictures and embedded files are left out: they contain no text, and nested archives are not opened.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Final

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.refusal import Reason, Refusal

_PIECE: Final = 64 * 1024
_SMALL: Final = 1024 * 1024
_READ: Final = (".xml", ".rels")
# Office documents have no DTD. NULs are removed before the search, which would otherwise miss UTF-16.
_DTD: Final = (b"<!DOCTYPE", b"<!ENTITY")


def repack(data: bytes, limits: DocumentLimits) -> io.BytesIO:
    """The same archive within the limits, with empty pictures, and without entities in its XML that could expand.

    Raises:
        Refusal: it is damaged, encrypted, or exceeds the limits.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            entries = packed.infolist()
            _check_declared(entries, limits)
            return _unpack(packed, entries, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise Refusal(Reason.CORRUPT, f"is damaged or truncated ({error}); save it again and send that file") from error


def _check_declared(entries: list[zipfile.ZipInfo], limits: DocumentLimits) -> None:
    if len(entries) > limits.entries:
        raise Refusal(Reason.TOO_LARGE, f"has {len(entries):,} entries, more than {limits.entries:,}")
    if sum(entry.file_size for entry in entries) > limits.unpacked_bytes:
        raise _too_large(limits)
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise Refusal(Reason.ENCRYPTED, "is encrypted; save it without a password and send it again")
        if entry.file_size > _SMALL and entry.file_size > limits.unpacked_ratio * max(entry.compress_size, 1):
            raise Refusal(
                Reason.TOO_LARGE,
                f"has an entry ({entry.filename!r}) that unpacks to more than {limits.unpacked_ratio} times its size",
            )


def _unpack(packed: zipfile.ZipFile, entries: list[zipfile.ZipInfo], limits: DocumentLimits) -> io.BytesIO:
    out = io.BytesIO()
    left = limits.unpacked_bytes
    with zipfile.ZipFile(out, "w") as repacked:
        for entry in {entry.filename: entry for entry in entries}.values():
            contents = b""
            if entry.filename.lower().endswith(_READ):
                contents = _read(packed, entry, left, limits)
                left -= len(contents)
                _check_xml(entry.filename, contents)
            repacked.writestr(entry.filename, contents)
    out.seek(0)
    return out


def _read(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int, limits: DocumentLimits) -> bytes:
    """An entry's contents. `zipfile` stops at the declared size and verifies the checksum there."""
    out = bytearray()
    with packed.open(entry) as opened:
        while piece := opened.read(_PIECE):
            out += piece
            if len(out) > left:
                raise _too_large(limits)
    return bytes(out)


def _check_xml(name: str, contents: bytes) -> None:
    plain = contents.replace(b"\0", b"")
    if any(mark in plain for mark in _DTD):
        raise Refusal(Reason.CORRUPT, f"has entity definitions in {name!r}, which no office program writes")


def _too_large(limits: DocumentLimits) -> Refusal:
    return Refusal(Reason.TOO_LARGE, f"unpacks to more than {limits.unpacked_bytes // _SMALL} MiB; split it")
