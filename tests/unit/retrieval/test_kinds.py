"""What a document is, is seen from its bytes, and a text that talks about other formats is still a text."""

from __future__ import annotations

import bz2
import gzip

import pytest

from sessions.client.arguments.documents import SUFFIXES
from tests.support.documents import make_docx, make_pdf
from workers.retrieval.documents import kinds
from workers.retrieval.documents.charsets import Labels
from workers.retrieval.documents.decoding import decode
from workers.retrieval.documents.kinds import Kind, find_kind
from workers.retrieval.documents.refusal import Refusal


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("# Magic numbers\n\nPDF files start with `%PDF-1.7`, PNG with 89 50.\n", "magic.md", Kind.MARKDOWN),
        ("How a PDF begins: the bytes %PDF-1.4 stand first.", "note.txt", Kind.TEXT),
        ("%PDF-1.4 is how a PDF begins.", "note.txt", Kind.TEXT),
        ("%PDF-1.4 is how a PDF begins.", "note", Kind.TEXT),
        ("<html><body><p>The header is %PDF-1.4.</p></body></html>", "a.html", Kind.HTML),
        ('{"rule": "starts with %PDF-"}', "rules.json", Kind.JSON),
        ("format,header\npdf,%PDF-1.4\n", "formats.csv", Kind.CSV),
        ("BZhang wrote this note on Friday.", "note.txt", Kind.TEXT),
        ("GIF89a is the header of a picture.", "note.md", Kind.MARKDOWN),
        ("Rar! That is rare.", "note.txt", Kind.TEXT),
        ("{\\rtf is how an RTF document begins", "note.txt", Kind.TEXT),
        ("%!PS is how PostScript begins", "note.txt", Kind.TEXT),
        ("SQLite format 3 is the header of a database", "note.txt", Kind.TEXT),
        ("PK are the initials of Phil Katz, and begin a ZIP archive.", "note.txt", Kind.TEXT),
        ("7z is a format, and II* and MM* begin TIFF pictures", "note.txt", Kind.TEXT),
    ],
)
def test_a_text_about_formats_is_a_text(text: str, name: str, kind: Kind) -> None:
    """Its name says so, and so do the bytes behind the quoted ones."""
    assert find_kind(text.encode(), name=name) is kind
    assert decode(text.encode(), Labels()) == text


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GIF89a\x01\x00\x01\x00\x80\x00\x00", "a picture"),
        (bz2.compress(b"text"), "a bzip2 file"),
        (bz2.compress(b""), "a bzip2 file"),
        (gzip.compress(b"text", mtime=0), "a gzip file"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (b"{\\rtf1\\ansi\\deff0 Text}", "an RTF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript document"),
        (b"SQLite format 3\x00\x10\x00", "a SQLite database"),
        (b"!BDN\x00\x00", "an Outlook data file"),
    ],
)
def test_other_formats_are_named(data: bytes, what: str) -> None:
    """Whatever the name says."""
    for name in ("a", "a.txt", "a.md"):
        with pytest.raises(Refusal, match=f"is {what}"):
            find_kind(data, name=name)


@pytest.mark.parametrize("name", ["a", "a.txt", "a.html", "a.pdf"])
def test_a_pdf_is_one_under_any_name(name: str) -> None:
    """It has objects; if it is called a PDF, something may stand before its header."""
    pdf = make_pdf(["text"])
    assert find_kind(pdf, name=name) is Kind.PDF
    assert find_kind(pdf.replace(b"\n", b"\r"), name=name) is Kind.PDF
    assert find_kind(b"from the gateway\r\n" + pdf, name="a.pdf") is Kind.PDF
    assert find_kind(make_docx(["text"]), name=name) is Kind.DOCX


def test_a_few_nuls_do_not_make_a_text_a_program() -> None:
    """Exports have them; they are removed with other invisible characters."""
    text = b"line one\n\x00line two\n" + b"more words here\n" * 100
    assert "line two" in decode(text, Labels())
    with pytest.raises(Refusal, match="is not text"):
        decode(bytes(range(32)) * 10, Labels())


def test_the_client_takes_all_files_that_the_workers_read() -> None:
    """It skips files of other suffixes in a folder, and takes their names for texts."""
    assert set(kinds._BY_SUFFIX) <= SUFFIXES
