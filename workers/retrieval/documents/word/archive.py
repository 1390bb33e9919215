"""Reads the entries of a DOCX with limits on their sizes.

The sizes that an archive declares can be wrong, so each entry is unpacked piece by piece and measured. Entries that
nobody asks for, such as pictures, are never unpacked.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import Final

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.refusal import Reason, Refusal, encrypted

_PIECE: Final = 64 * 1024
_SMALL: Final = 1024 * 1024
_DAMAGES: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError)
# Office documents have no DTD. NULs are removed before the search, which would otherwise miss UTF-16.
_DTD: Final = (b"<!DOCTYPE", b"<!ENTITY")
_ENCODING: Final = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)")
# Encodings in which `_DTD` is found as it is written here. The standard allows the first two only.
_ENCODINGS: Final = frozenset({b"utf-8", b"utf-16", b"us-ascii", b"ascii", b"iso-8859-1", b"windows-1252"})


class Archive:
    """An archive whose entries are unpacked within the limits. Their names are compared without case."""

    def __init__(self, data: bytes, limits: DocumentLimits) -> None:
        """Open the archive.

        Raises:
            Refusal: it is damaged or encrypted, or what it declares exceeds the limits.
        """
        self._limits = limits
        self._left = limits.unpacked_bytes
        try:
            self._packed = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGES as error:
            raise _damaged(error) from error
        entries = self._packed.infolist()
        _check_declared(entries, limits)
        self._entries = {_key(entry.filename): entry for entry in entries}

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._entries

    def read(self, name: str) -> bytes:
        """An entry's contents. `zipfile` stops at the declared size and verifies the checksum there.

        Raises:
            KeyError: there is no such entry.
            Refusal: it is damaged, or the entries that were read exceed the limits.
        """
        entry = self._entries[_key(name)]
        out = bytearray()
        try:
            with self._packed.open(entry) as opened:
                while piece := opened.read(_PIECE):
                    out += piece
                    if len(out) > self._left:
                        raise _too_large(self._limits)
        except _DAMAGES as error:
            raise _damaged(error) from error
        self._left -= len(out)
        return bytes(out)

    def read_xml(self, name: str) -> bytes:
        """The contents of an XML entry, in which no entities can expand. Raises the same errors as `read`."""
        contents = self.read(name)
        plain = contents.replace(b"\0", b"")
        encoding = _ENCODING.search(plain[:_PIECE])
        if encoding and encoding[1].lower() not in _ENCODINGS:
            raise Refusal(Reason.CORRUPT, f"has an encoding ({encoding[1]!r}) in {name!r} that office programs lack")
        if any(mark in plain for mark in _DTD):
            raise Refusal(Reason.CORRUPT, f"has entity definitions in {name!r}, which no office program writes")
        return contents


def _key(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").lower()  # some programs write Windows' separators


def _check_declared(entries: list[zipfile.ZipInfo], limits: DocumentLimits) -> None:
    if len(entries) > limits.entries:
        raise Refusal(Reason.TOO_LARGE, f"has {len(entries):,} entries, more than {limits.entries:,}")
    if sum(entry.file_size for entry in entries) > limits.unpacked_bytes:
        raise _too_large(limits)
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise encrypted()
        if entry.file_size > _SMALL and entry.file_size > limits.unpacked_ratio * max(entry.compress_size, 1):
            raise Refusal(
                Reason.TOO_LARGE,
                f"has an entry ({entry.filename!r}) that unpacks to more than {limits.unpacked_ratio} times its size",
            )


def _damaged(error: Exception) -> Refusal:
    return Refusal(Reason.CORRUPT, f"is damaged or truncated ({error}); save it again and send that file")


def _too_large(limits: DocumentLimits) -> Refusal:
    return Refusal(Reason.TOO_LARGE, f"unpacks to more than {limits.unpacked_bytes // _SMALL} MiB; split it")
