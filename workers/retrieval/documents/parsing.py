"""Parses bytes of a known kind into a Document. Runs in this process or in the child process."""

from __future__ import annotations

from collections.abc import Callable, Collection

from workers.retrieval.documents.base64_data import without_data_uris
from workers.retrieval.documents.charsets import Labels
from workers.retrieval.documents.decoding import decode, decode_page
from workers.retrieval.documents.kinds import Kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.plain import clean
from workers.retrieval.documents.recognition.ports import NO_RECOGNITION, Recognition
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document, Section


def parse(
    kind: Kind,
    data: bytes,
    limits: DocumentLimits,
    *,
    labels: Labels,
    on_page: Callable[[int, int], None],
    skipped: Collection[int] = (),
    recognition: Recognition = NO_RECOGNITION,
) -> Document:
    """Parse a document. The library for each kind is imported with the first document of that kind.

    Args:
        skipped: pages of a PDF (1-based) that are not to be read.
        recognition: how text is recognised, if it is.

    Raises:
        Refusal: it cannot be parsed, or has no text.
    """
    if kind is Kind.PDF:
        from workers.retrieval.documents.pdf.reading import read_pdf  # noqa: PLC0415

        document = read_pdf(data, limits, on_page, skipped=skipped, recognition=recognition)
    elif kind is Kind.PICTURE:
        from workers.retrieval.documents.recognition.pictures import read_picture  # noqa: PLC0415

        if recognition.recogniser is None:
            raise Refusal(Reason.UNSUPPORTED, f"is a picture; {recognition.problem}")
        document = read_picture(data, limits, recognition.recogniser, recognition.on_page)
    elif kind is Kind.DOCX:
        from workers.retrieval.documents.word import read_docx  # noqa: PLC0415

        document = read_docx(data, limits)
    else:
        document = _parse_text(kind, data, limits, labels)
    if not document.sections:
        raise Refusal(Reason.EMPTY, "has no text")
    return document


def _parse_text(kind: Kind, data: bytes, limits: DocumentLimits, labels: Labels) -> Document:
    if kind is Kind.HTML:
        from workers.retrieval.documents.html import read_html  # noqa: PLC0415

        return read_html(decode_page(data, labels), limits)
    if kind is Kind.MAIL:
        from workers.retrieval.documents.mail import read_mail  # noqa: PLC0415

        return read_mail(data, limits, labels)
    text = decode(data, labels)
    if kind is Kind.MARKDOWN:
        from workers.retrieval.documents.markdown import read_markdown  # noqa: PLC0415

        return read_markdown(text, limits)
    if kind is Kind.CSV:
        from workers.retrieval.documents.csv_text import read_csv  # noqa: PLC0415

        return read_csv(text, limits)
    if kind in (Kind.JSON, Kind.JSON_LINES):
        from workers.retrieval.documents.json_text import read_json, read_json_lines  # noqa: PLC0415

        return read_json(text, limits) if kind is Kind.JSON else read_json_lines(text, limits)
    text = clean(without_data_uris(text))
    limits.check_chars(len(text))
    return Document("text", [Section(text)] if text.strip() else ())
