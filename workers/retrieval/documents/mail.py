"""Mails (.eml) and saved pages (.mhtml): subject, sender, recipients and date, then the text.

Of a body in several forms the HTML is read, once, because it has headings and tables. Forwarded mails are read as well.
Attachments are named, not read: a contract is a document of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from typing import Final

from workers.retrieval.documents.charsets import Labels
from workers.retrieval.documents.decoding import decode, decode_page
from workers.retrieval.documents.headings import heading_path, title_of
from workers.retrieval.documents.html import read_html
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.plain import clean, one_line
from workers.retrieval.documents.refusal import Reason, Refusal, nested_too_deeply
from workers.retrieval.ports import Document, Section

_SHOWN: Final = ("Subject", "From", "To", "Cc", "Date", "Snapshot-Content-Location")
_NAMES: Final = {"Snapshot-Content-Location": "Address"}
_BROWSER: Final = re.compile(r"<?Saved by ", re.IGNORECASE)
_MOST_NAMED: Final = 100
_DEEPEST: Final = 20
# A soft line break of format=flowed; the mark of a signature, `-- `, is none.
_SOFT_BREAK: Final = re.compile(r"(?<!\n--) \r?\n(?!>)")
_ENCRYPTED: Final = frozenset({"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})


def read_mail(data: bytes, limits: DocumentLimits, labels: Labels) -> Document:
    """One section for the message, or one for each heading of its HTML, under its subject.

    Args:
        data: the mail as it was sent.
        limits: the limits for the document.
        labels: the charset of parts that name none.

    Raises:
        Refusal: it is encrypted, too large, nested too deeply, or has no text.
    """
    reader = _Reader(limits, labels)
    sections = list(reader.message(message_from_bytes(data), 0))
    if reader.encrypted and not reader.chars:
        raise Refusal(Reason.ENCRYPTED, "is an encrypted mail; save its text in your mail program and send that")
    return Document("mail", sections)


def read_saved_page(data: bytes, limits: DocumentLimits) -> Document | None:
    """A saved page (.mhtml) without the headers that the browser wrote; None if it contains no HTML.

    Raises:
        Refusal: it is too large, or nested too deeply.
    """
    message = message_from_bytes(data)
    if "text/html" not in _kinds(message):
        return None
    return Document("html", _Reader(limits, Labels()).body(message))


class _Reader:
    """Reads the messages of one document.

    Attributes:
        encrypted: whether a part is encrypted.
        chars: the length of the bodies so far.
    """

    def __init__(self, limits: DocumentLimits, labels: Labels) -> None:
        self._limits = limits
        self._label = labels.chosen or labels.declared
        self.encrypted = False
        self.chars = 0

    def message(self, message: Message, depth: int) -> Iterator[Section]:
        """The sections of a message. The first one begins with its headers."""
        if depth > _DEEPEST:
            raise nested_too_deeply()
        attached: list[str] = []
        sections = self._part(message, depth, attached, is_body=True)
        subject = title_of(self._header(message, "Subject"))
        headers = self._headers(message, attached)
        first = sections[0] if sections else Section("")
        text = "\n\n".join(filter(None, ("\n".join(headers), first.text)))
        if text:
            yield Section(text, heading=heading_path(subject, first.heading))
        for section in sections[1:]:
            yield Section(section.text, heading=heading_path(subject, section.heading))

    def body(self, message: Message) -> list[Section]:
        """The sections of a message without its headers and attachments."""
        return self._part(message, 0, [], is_body=True)

    def _headers(self, message: Message, attached: list[str]) -> list[str]:
        values = [(name, self._header(message, name)) for name in _SHOWN]
        lines = [f"{_NAMES.get(name, name)}: {value}" for name, value in values if value and not _BROWSER.match(value)]
        if attached:
            more = f" and {len(attached) - _MOST_NAMED:,} more" if len(attached) > _MOST_NAMED else ""
            lines.append(f"Attachments: {', '.join(attached[:_MOST_NAMED])}{more}")
        return lines

    # --- parts ------------------------------------------------------------------------------------------

    def _part(self, part: Message, depth: int, attached: list[str], *, is_body: bool = False) -> list[Section]:
        """The sections of a part; names of attachments are added to `attached`."""
        kind = part.get_content_type()
        if kind in _ENCRYPTED:
            self.encrypted = True
            return []
        if part.is_multipart():
            return self._parts(kind, part, depth, attached)
        if not is_body and (part.get_content_disposition() == "attachment" or part.get_filename()):
            attached.append(self._name(part))
        elif kind == "text/html":
            return self._html(part)
        elif kind == "text/plain" or (is_body and part.get_content_maintype() == "text"):
            return self._plain(part)
        elif part.get_content_maintype() != "image":  # pictures without a name are a part of the page
            attached.append(self._name(part))
        return []

    def _parts(self, kind: str, part: Message, depth: int, attached: list[str]) -> list[Section]:
        children = [child for child in part.get_payload() if isinstance(child, Message)]
        if part.get_content_maintype() == "message":
            return [section for child in children[:1] for section in self.message(child, depth + 1)]
        if kind == "multipart/alternative":
            return self._best(children, depth, attached)
        if kind == "multipart/related":
            return self._related(part, children, depth, attached)
        if kind == "multipart/signed":
            children = children[:1]
        return [section for child in children for section in self._part(child, depth, attached)]

    def _best(self, children: list[Message], depth: int, attached: list[str]) -> list[Section]:
        """The first form with text, of those in HTML, then the others."""
        for child in sorted(children, key=lambda child: "text/html" not in _kinds(child)):
            if sections := self._part(child, depth, attached):
                return sections
        return []

    def _related(self, part: Message, children: list[Message], depth: int, attached: list[str]) -> list[Section]:
        """The page; the other parts are its pictures, styles and frames."""
        start = part.get_param("start")
        page = next((child for child in children if start and child.get("Content-ID") == start), None)
        for child in children:
            if child is not page and child.get_content_disposition() == "attachment":
                attached.append(self._name(child))
        return self._part(page or children[0], depth, attached, is_body=True) if children else []

    def _html(self, part: Message) -> list[Section]:
        data = _bytes(part)
        text = decode_page(data, self._labels(part)) if data.strip() else ""
        self._count(text)
        try:
            return list(read_html(text, self._limits).sections)
        except Refusal as refusal:
            if refusal.reason is Reason.EMPTY:
                return []  # another form may have a text
            raise

    def _plain(self, part: Message) -> list[Section]:
        data = _bytes(part)
        text = decode(data, self._labels(part)) if data.strip() else ""
        if str(part.get_param("format", "")).lower() == "flowed":
            text = _SOFT_BREAK.sub(" ", text)
        text = clean(text)
        self._count(text)
        return [Section(text)] if text.strip() else []

    def _labels(self, part: Message) -> Labels:
        return Labels(declared=part.get_content_charset() or self._label)

    def _count(self, text: str) -> None:
        self.chars += len(text)
        self._limits.check_chars(self.chars)

    # --- headers ----------------------------------------------------------------------------------------

    def _header(self, message: Message, name: str) -> str:
        raw = next((value for known, value in message.raw_items() if known.lower() == name.lower()), "")
        return self._words(str(raw))

    def _name(self, part: Message) -> str:
        return self._words(part.get_filename() or "") or part.get_content_type()

    def _words(self, raw: str) -> str:
        """A header with its encoded words decoded. Bytes that are not ASCII are text in an unknown charset."""
        if not raw.isascii():
            raw = self._text(raw.encode("utf-8", "surrogateescape"), self._label)
        try:
            parts = decode_header(" ".join(raw.split()))
        except (HeaderParseError, ValueError):
            return one_line(raw)
        return one_line("".join(part if isinstance(part, str) else self._word(part, label) for part, label in parts))

    def _word(self, part: bytes, label: str | None) -> str:
        return part.decode("raw-unicode-escape", "replace") if label is None else self._text(part, label)

    def _text(self, data: bytes, label: str | None) -> str:
        try:
            return decode(data, Labels(declared=label))
        except Refusal:
            return data.decode("ascii", "replace")


def _bytes(part: Message) -> bytes:
    """A part without its transfer encoding."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _kinds(part: Message) -> set[str]:
    return {inner.get_content_type() for inner in part.walk()}
