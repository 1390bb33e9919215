"""Charset labels: the name in a header, a page or an argument, and the Python codec that reads what it means."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

# The web's labels leave these out. UTF-7 is in no list: its text can pass for harmless ASCII.
_BEYOND_THE_WEB: Final = re.compile(
    r"utf-32(-[bl]e)?|cp\d{3,4}|gbk|big5|big5hkscs|cp950|johab|mac-[a-z0-9]+|iso2022[-_a-z0-9]+|hp-roman8|kz1048|"
    r"koi8-t|ptcp154|(shift_jis|euc_jis)_(2004|x0213)|shift_jisx0213|euc_jisx0213"
)
_REPLACED: Final = "replacement"  # what the web calls charsets that it does not read, such as ISO-2022-KR
_LABEL: Final = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9._:+-]+)", re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_META: Final = re.compile(r"<meta\b[^>]*?\bcharset\s*=\s*[\"']?\s*([A-Za-z0-9._:+-]+)", re.IGNORECASE)
_DECLARATION: Final = re.compile(r"\A\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([A-Za-z0-9._:+-]+)", re.IGNORECASE)
_BODY: Final = re.compile(r"<body\b", re.IGNORECASE)
_HEAD_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known about a document's charset before it is read.

    Attributes:
        chosen: by the caller, who is obeyed.
        declared: by a server or a mail. They can be wrong, so the bytes must fit.
    """

    chosen: str | None = None
    declared: str | None = None


def codec_of(label: str | None) -> str | None:
    """The name of the Python codec for a label; None if the label is not known.

    Labels have the web's meaning, which differs from that of Python's codecs: `iso-8859-1` and `ascii` are
    Windows-1252, `gb2312` is GBK, `shift_jis` is Windows-31J. Python's names of other charsets, such as `cp437`, are
    known as well.
    """
    if not label:
        return None
    from webencodings import lookup  # noqa: PLC0415 - part of the extra `documents`

    if (found := lookup(label)) is not None and found.name != _REPLACED:
        return _named(found.codec_info.name)
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError, UnicodeError):
        return None
    return name if _BEYOND_THE_WEB.fullmatch(name) else None


def _named(codec: str) -> str:
    # GBK pages contain characters of its successor, which is a superset.
    return "gb18030" if codec == "gbk" else codec


def label_in(content_type: str | None) -> str | None:
    """The label in a content type."""
    found = _LABEL.search(content_type or "")
    return found[1] if found else None


def label_in_page(data: bytes) -> str | None:
    """The label that an HTML page declares in its head, or in its XML declaration.

    Browsers look at the first kilobyte, and begin again if they find a later one. Whatever the label says, it was read
    as ASCII here: UTF-16 is a mistake for UTF-8.
    """
    head = data[:_HEAD_BYTES].decode("ascii", "replace")
    if body := _BODY.search(head):
        head = head[: body.start()]
    found = _META.search(_COMMENT.sub("", head)) or _DECLARATION.search(head)
    if found is None:
        return None
    return "utf-8" if found[1].lower().startswith(("utf-16", "utf-32", "utf16", "ucs-2")) else found[1]
