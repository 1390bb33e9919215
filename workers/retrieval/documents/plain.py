"""Decodes bytes to text, and normalizes the text."""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import cache
from itertools import groupby
from typing import Final

from workers.retrieval.documents.refusal import Reason, Refusal

# The order matters: UTF-32's byte order mark begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._:-]+)", re.IGNORECASE)
# Control characters that do not occur in text, that is, all except tab, line ends, form feed, backspace and escape.
_JUNK: Final = re.compile("[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f\x81\x8d\x8f\x90\x9d\ufffd]")
_JUNK_SHARE: Final = 0.02
_SAMPLE_CHARS: Final = 65_536

_LINE_ENDS: Final = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_ESCAPES: Final = re.compile("\x1b\\[[0-9;?]*[ -/]*[@-~]")
_INVISIBLE: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES: Final = re.compile("[ \t\xa0\u2000-\u200a\u202f\u205f\u3000]+")
_BLANK_LINES: Final = re.compile("\n{3,}")


def decode(data: bytes, *, charset: str | None = None) -> str:
    """Decode by the byte order mark; otherwise as UTF-8, in the declared charset, or as Windows-1252.

    Windows-1252 comes last because it decodes any bytes, even those that are not text; the result is then checked.

    Raises:
        Refusal: the bytes are not text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            break
    else:
        text = _decode_unmarked(data, charset)
    sample = text[:_SAMPLE_CHARS]
    if "\x00" in sample or len(_JUNK.findall(sample)) > _JUNK_SHARE * len(sample):
        raise Refusal(
            Reason.UNSUPPORTED, "is not text and of no known kind; send PDF, DOCX, HTML, Markdown, text, CSV or JSON"
        )
    return text


def _decode_unmarked(data: bytes, charset: str | None) -> str:
    for encoding in ("utf-8", charset):
        try:
            if encoding:
                return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue  # try the next encoding
    return data.decode("cp1252", "replace")


def named_charset(text: str | None) -> str | None:
    """The charset declared in a content type, or in the first lines of an HTML page."""
    found = _CHARSET.search(text or "")
    return found[1] if found else None


def clean(text: str) -> str:
    """Normalize line ends and characters (NFC), and remove invisible characters; indentation is kept.

    NFC, so that decomposed text, such as file names from macOS, matches composed text.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", _ESCAPES.sub("", text))
    text = unicodedata.normalize("NFC", _with_fewer_marks(text))
    text = "\n".join(line.rstrip(" \t\xa0") for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


def _with_fewer_marks(text: str) -> str:
    """Limit combining marks to 30 per character (Unicode's stream-safe format), more than any script needs.

    Normalization sorts a character's marks in quadratic time: 80 kB of them took 2.4 s while holding the GIL.
    """
    return text if text.isascii() else _marks().sub(r"\1", text)


@cache
def _marks() -> re.Pattern[str]:
    marks = [code for code in range(0x300, 0x20000) if unicodedata.combining(chr(code))]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(marks), lambda pair: pair[1] - pair[0])]
    every = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    return re.compile(f"([{every}]{{30}})[{every}]+")


def flow(text: str) -> str:
    """Clean text in which spaces have no meaning: one space between words, none at the ends of lines."""
    lines = (line.strip(" ") for line in _SPACES.sub(" ", clean(text)).split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def one_line(text: str) -> str:
    """Clean text without line breaks, for a heading or a cell."""
    words = " ".join(text.split())
    return words if words.isascii() and words.isprintable() else " ".join(clean(text).split())  # fast for large tables
