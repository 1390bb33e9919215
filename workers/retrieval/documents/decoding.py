"""Decodes bytes to text: by mark, by label, as UTF-8, or in the charset that they are most likely in."""

from __future__ import annotations

import codecs
import re
from typing import Final

from workers.retrieval.documents.charset_detection import detect, not_text
from workers.retrieval.documents.charsets import Labels, codec_of, label_in_page
from workers.retrieval.documents.refusal import Reason, Refusal

# The order matters: UTF-32's byte order mark begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE: Final = ("utf-16", "utf-32")
_UPPER_HALVES: Final = bytes(range(7))
_MULTIBYTE: Final = frozenset({"cp932", "euc_jp", "gb18030", "big5", "big5hkscs", "cp949", "euc_kr", "johab"})
_UTF8_LETTER: Final = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_UTF8_LONG: Final = re.compile(rb"[\xe0-\xf4]")
_NON_ASCII: Final = re.compile("[^\x00-\x7f]")
_UNDEFINED: Final = re.compile("([\x81\x8d\x8f\x90\x9d])")
# Escape sequences that choose a charset (ISO 2022). Those of terminals begin with `ESC [`.
_CHOOSES_CHARSET: Final = re.compile(rb"\x1b[$(][@-J)(]")
# Control characters that do not occur in text, that is, all except tab, line ends, form feed, backspace and escape.
_JUNK: Final = re.compile("[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f\x81\x8d\x8f\x90\x9d\ufffd]")
_JUNK_SHARE: Final = 0.02
_SAMPLE_CHARS: Final = 65_536


def decode(data: bytes, labels: Labels, *, inner: str | None = None) -> str:
    """Decode by the byte order mark, by the caller's label, by a declared label that fits, as UTF-8, or by detection.

    Args:
        data: the bytes of a text.
        labels: what the caller and the sender say.
        inner: the label that the document contains. A declared one takes precedence, as on the web.

    Raises:
        Refusal: the bytes are not text, or not in the charset that the caller named, or the charset is uncertain.
    """
    text = settled(data, labels, inner=inner)
    if text is None:
        text = data.decode(detect(data), "replace")
    sample = text[:_SAMPLE_CHARS]
    if len(_JUNK.findall(sample)) > _JUNK_SHARE * len(sample):
        raise not_text()
    return text


def decode_page(data: bytes, labels: Labels) -> str:
    """Decode an HTML page, which may declare its charset itself. Raises the same error as `decode`."""
    return decode(data, labels, inner=label_in_page(data))


def settled(data: bytes, labels: Labels, *, inner: str | None = None) -> str | None:
    """The text, if it can be decoded without detection; None otherwise.

    Raises:
        Refusal: the caller's charset is not known, or the bytes are not in it.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, "replace")
    if labels.chosen is not None:
        return _in_chosen(data, labels.chosen)
    utf8 = _strictly(data, "utf-8")
    for label in (labels.declared, inner):
        if (codec_name := codec_of(label)) and (text := _fitting(data, codec_name, label or "", utf8)) is not None:
            return text
    if utf8 is not None:
        return None if _CHOOSES_CHARSET.search(data) or _is_wide(data) else _undoubled(utf8)
    return data.decode("utf-8", "replace") if _is_damaged_utf8(data) else None


def _in_chosen(data: bytes, label: str) -> str:
    codec = codec_of(label)
    if codec is None:
        raise Refusal(Reason.UNSUPPORTED, f"cannot be read as {label!r}: there is no such charset; use its usual name")
    text = _decoded(data, codec, label)
    if not _fits(text):
        problem = f"is not in the charset {label!r}: name another one, or none to have it detected"
        raise Refusal(Reason.UNSUPPORTED, problem)
    return text


def _fitting(data: bytes, codec: str, label: str, utf8: str | None) -> str | None:
    """The text in a declared charset; None if that charset is hardly the right one."""
    if utf8 is not None and not _is_wide(data) and not _CHOOSES_CHARSET.search(data):
        # The label is wrong: many servers declare one charset for all pages, and hardly any text is UTF-8 by chance.
        # Only a short text in a multibyte charset can be: its pairs of bytes look like UTF-8's letters of two bytes.
        if codec not in _MULTIBYTE or data.isascii() or _UTF8_LONG.search(data):
            return _undoubled(utf8)
        return _strictly(data, codec) or utf8
    text = _decoded(data, codec, label)
    return text if _fits(text) else None


def _decoded(data: bytes, codec: str, label: str) -> str:
    """Decode with a replacement for each invalid byte. `utf-16` without a byte order is the one that has more ASCII."""
    if codec.startswith(_WIDE) and label.lower() in ("utf-16", "utf16", "unicode", "ucs-2", "utf-32", "utf32"):
        codec = f"{codec[:6]}-{'be' if data[0::2].count(0) > data[1::2].count(0) else 'le'}"
    return data.decode(codec, "replace")


def _fits(text: str) -> bool:
    """Whether a few characters at most are invalid."""
    return text.count("\ufffd") <= 1 + len(_NON_ASCII.findall(text)) // 10


def _strictly(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _is_wide(data: bytes) -> bool:
    """Whether there are as many control characters as in UTF-16 and UTF-32: the upper halves of many scripts."""
    return len(data) - len(data.translate(None, _UPPER_HALVES)) > len(data) // 10


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether nearly all that is not ASCII is UTF-8: a log that was cut, or a line that something else wrote."""
    letters = len(_UTF8_LETTER.findall(data))
    rest = len(re.findall(rb"[\x80-\xff]", _UTF8_LETTER.sub(b"", data)))
    return letters >= 3 and rest * 10 <= letters


def _undoubled(text: str) -> str:
    """The text that a program encoded as UTF-8, read as Windows-1252, and encoded again: 'Ã©' becomes 'é'.

    Only if all of it is like that: a text that quotes such characters has others too.
    """
    if text.isascii():
        return text
    try:
        once = b"".join(map(_windows_1252, _UNDEFINED.split(text)))
        undone = once.decode("utf-8")
    except UnicodeError:
        return text
    return undone if len(_NON_ASCII.findall(undone)) >= 3 else text


def _windows_1252(part: str) -> bytes:
    """The bytes of a text; those that Windows-1252 does not define are control characters, as on the web."""
    return part.encode("latin-1" if _UNDEFINED.fullmatch(part) else "cp1252")
