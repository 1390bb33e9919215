"""Detects the kind of a document: from its first bytes, then from the content type, then from its name."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from workers.retrieval.documents.refusal import READABLE, Reason, Refusal, encrypted


class Kind(StrEnum):
    """The supported kinds of documents."""

    PDF = "pdf"
    DOCX = "docx"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"
    CSV = "csv"
    JSON = "json"
    JSON_LINES = "jsonl"
    MAIL = "mail"
    PICTURE = "picture"


# Their parsers are slow or can be attacked, so they always run in a child process.
PARSED_IN_CHILD: Final = frozenset({Kind.PDF, Kind.DOCX, Kind.HTML, Kind.MAIL, Kind.PICTURE})

# What a text of these kinds has if it contains HTML. In Markdown it is the `<` alone, since characters behind it may be
# removed before it is parsed. In JSON it is the key of a notebook, or an escape that stands for a letter of the key.
_SIGN_OF_HTML: Final = {Kind.MARKDOWN: re.compile("<"), Kind.JSON: re.compile(r"nbformat|\\u00[67]")}

# A text can begin with the same letters as a format. So the bytes behind the letters count as well.
_FOREIGN: Final = (
    (rb"GIF8[79]a(?=.{0,8}[\x00-\x08])", "a picture"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "a bzip2 file"),
    (rb"\xfd7zXZ", "an xz file"),
    (rb"7z\xbc\xaf", "a 7z archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"\{\\rtf\d?\s*[\\{]", "an RTF document"),
    (rb"%!PS-Adobe-\d\.\d(?: EPSF-\d\.\d)?[\r\n]|%!PS[\r\n]", "a PostScript document"),
    (rb"SQLite format 3\x00", "a SQLite database"),
    (rb"\x7fELF|MZ\x90", "a program"),
    (rb"!BDN", "an Outlook data file"),
)
# PNG, JPEG and TIFF.
_PICTURE_START: Final = re.compile(rb"\x89PNG|\xff\xd8\xff|II\*\x00|MM\x00\*")
_FOREIGN_START: Final = tuple((re.compile(start, re.DOTALL), what) for start, what in _FOREIGN)

_BY_TYPE: Final = {
    "application/pdf": Kind.PDF,
    "application/x-pdf": Kind.PDF,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": Kind.DOCX,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template": Kind.DOCX,
    "application/vnd.ms-word.document.macroenabled.12": Kind.DOCX,
    "application/vnd.ms-word.template.macroenabled.12": Kind.DOCX,
    "text/html": Kind.HTML,
    "application/xhtml+xml": Kind.HTML,
    "text/markdown": Kind.MARKDOWN,
    "text/x-markdown": Kind.MARKDOWN,
    "text/csv": Kind.CSV,
    "application/csv": Kind.CSV,
    "text/tab-separated-values": Kind.CSV,
    "application/json": Kind.JSON,
    "text/json": Kind.JSON,
    "application/x-ndjson": Kind.JSON_LINES,
    "application/jsonl": Kind.JSON_LINES,
    "application/jsonlines": Kind.JSON_LINES,
    "message/rfc822": Kind.MAIL,
    "message/global": Kind.MAIL,
    "multipart/related": Kind.MAIL,
    "application/x-mimearchive": Kind.MAIL,
}

_BY_SUFFIX: Final = {
    ".pdf": Kind.PDF,
    ".docx": Kind.DOCX,
    ".docm": Kind.DOCX,
    ".dotx": Kind.DOCX,
    ".dotm": Kind.DOCX,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".mdown": Kind.MARKDOWN,
    ".mkd": Kind.MARKDOWN,
    ".mdx": Kind.MARKDOWN,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".json": Kind.JSON,
    ".geojson": Kind.JSON,
    ".ipynb": Kind.JSON,
    ".jsonl": Kind.JSON_LINES,
    ".ndjson": Kind.JSON_LINES,
    ".eml": Kind.MAIL,
    ".mht": Kind.MAIL,
    ".mhtml": Kind.MAIL,
}

_MAILBOX_SUFFIXES: Final = frozenset({".mbox", ".mbx"})

_HTML_START: Final = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S
)
_PDF_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*%PDF-\d")
_PDF_OBJECT: Final = re.compile(rb"\s\d+\s+\d+\s+obj\b")
# Lines of headers, up to the empty line. A letter also has 'From:' and 'To:', so one must be of those that only mails
# have.
_HEADERS: Final = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*){2,}?(?=\r?\n)")
_ONLY_IN_MAIL: Final = re.compile(rb"^(?:MIME-Version: *1\.0|Message-ID: *<|Received: *(?:from|by) )", re.I | re.M)
_FROM: Final = re.compile(rb"^From:", re.I | re.M)
_MAIL_BYTES: Final = 64 * 1024
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_KINDS: Final = (
    ("WordDocument", "a Word document (DOC)"),
    ("Workbook", "a spreadsheet (XLS)"),
    ("PowerPoint Document", "a presentation (PPT)"),
)
# A Word document in one XML file instead of an archive.
_WORD_XML: Final = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<\?xml.{0,500}?<(?:pkg:package|w:wordDocument)\s", re.S)
_HEAD_BYTES: Final = 1024


def find_kind(data: bytes, *, name: str, content_type: str | None = None) -> Kind:
    """The kind of these bytes; text of no other kind is TEXT.

    Raises:
        Refusal: the kind is not supported, or the bytes are not what the name or content type claims.
    """
    if (kind := _by_bytes(data, name)) in (Kind.PDF, Kind.DOCX, Kind.PICTURE):
        return kind
    claimed, claim = _claimed(name, content_type)
    # PDF readers accept the header anywhere in the first kilobyte, since mail gateways insert text before it.
    if claimed is Kind.PDF and b"%PDF-" in data[:_HEAD_BYTES]:
        return Kind.PDF
    if claimed in (Kind.PDF, Kind.DOCX):
        raise Refusal(
            Reason.CORRUPT, f"is not a {claimed.upper()}, although its {claim} says so; send the original file"
        )
    if claimed in (None, Kind.TEXT):
        return kind or Kind.TEXT
    return claimed


def may_contain_html(kind: Kind, text: str) -> bool:
    """Whether reading this text can run the parser of HTML."""
    sign = _SIGN_OF_HTML.get(kind)
    return sign is not None and sign.search(text) is not None


def _by_bytes(data: bytes, name: str) -> Kind | None:
    if _PDF_START.match(data) and _PDF_OBJECT.search(data):
        return Kind.PDF
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        # Some programs separate folders as Windows does, or give the main part another name.
        is_office = b"[Content_Types].xml" in data and _BY_SUFFIX.get(PurePosixPath(name.lower()).suffix) is Kind.DOCX
        if b"word/document" in data or b"word\\document" in data or is_office:
            return Kind.DOCX
        raise Refusal(Reason.UNSUPPORTED, f"is an archive, or an office document other than DOCX; send {READABLE}")
    if data.startswith(_OLE):
        raise _ole_refusal(data)
    if _WORD_XML.match(data[:_HEAD_BYTES]):
        raise Refusal(Reason.UNSUPPORTED, "is a Word document in XML; save it as DOCX and send that")
    if _PICTURE_START.match(data):
        return Kind.PICTURE
    for start, what in _FOREIGN_START:
        if start.match(data):
            raise Refusal(Reason.UNSUPPORTED, f"is {what}; send {READABLE}")
    if _HTML_START.match(data[:_HEAD_BYTES]):
        return Kind.HTML
    return Kind.MAIL if _is_mail(data) else None


def _is_mail(data: bytes) -> bool:
    """Whether the bytes begin with the headers of a mail that was sent, or of a saved page."""
    found = _HEADERS.match(data[:_MAIL_BYTES])
    return found is not None and _FROM.search(found[0]) is not None and _ONLY_IN_MAIL.search(found[0]) is not None


def _ole_refusal(data: bytes) -> Refusal:
    """Why a compound file is refused. What it is follows from the names in its directory, which are UTF-16."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return encrypted()
    if "__properties_version1.0".encode("utf-16-le") in data:  # before the others, which it may have as attachments
        return Refusal(Reason.UNSUPPORTED, "is an Outlook message (.msg); save it as .eml and send that")
    for name, what in _OLE_KINDS:
        if name.encode("utf-16-le") in data:
            return Refusal(Reason.UNSUPPORTED, f"is {what} from before 2007; save it as DOCX or PDF and send that")
    return Refusal(Reason.UNSUPPORTED, "is in the office format from before 2007; save it as DOCX and send that")


def _claimed(name: str, content_type: str | None) -> tuple[Kind | None, str]:
    """The kind that the content type or the name claims, and which of the two claims it.

    `text/plain` is ignored, since servers send it for any file without a type of its own.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if kind := _BY_TYPE.get(media_type):
        return kind, "content type"
    if media_type.endswith("+json"):
        return Kind.JSON, "content type"
    if media_type.startswith(("image/", "audio/", "video/", "font/")) and media_type != "image/svg+xml":
        raise Refusal(Reason.UNSUPPORTED, f"has the content type {media_type!r}; send {READABLE}")
    suffix = PurePosixPath(name.lower()).suffix
    if suffix in _MAILBOX_SUFFIXES or media_type == "application/mbox":
        raise Refusal(Reason.UNSUPPORTED, "is a mailbox; send its mails one by one, as .eml")
    return _BY_SUFFIX.get(suffix), "name"
