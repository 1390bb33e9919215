"""Each kind of document is read as a reader sees it."""

from __future__ import annotations

import asyncio
import io

import pytest
from pypdf import PdfWriter

from tests.support.documents import make_docx, make_encrypted_pdf, make_pdf
from workers.retrieval.documents import reader
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.reader import read_document
from workers.retrieval.ports import Document, Section


async def read(data: bytes | str, name: str, content_type: str | None = None) -> Document:
    raw = data.encode() if isinstance(data, str) else data
    return await read_document(raw, name=name, content_type=content_type)


async def test_a_pdf_has_a_section_for_each_page_with_text() -> None:
    """A hit can name the page; progress is reported page by page."""
    told: list[tuple[int, int]] = []
    pdf = make_pdf(["First page", "", "Third (page) \u2013 caf\xe9"])
    document = await read_document(pdf, name="a.pdf", on_page=lambda number, of: told.append((number, of)))
    assert document == Document(
        "pdf", [Section("First page", page=1), Section("Third (page) \u2013 caf\xe9", page=3)], pages=3
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


async def test_lines_of_a_pdf_become_paragraphs() -> None:
    """Words cut at a line's end are whole again, but keep a hyphen that they have elsewhere."""
    page = (
        "Passports\n"
        "Each member of staff who travels for the compa-\n"
        "ny, and each of their guests, needs a well-\n"
        "known document that is valid for half a year.\n"
        "It must be renewed.\n"
        "- a well-known first item of a list, which is long\n"
        "- a second item of the list, which is no shorter"
    )
    document = await read(make_pdf([page]), "a.pdf")
    assert document.sections[0].text.split("\n") == [
        "Passports",
        "Each member of staff who travels for the company, and each of their guests, needs a well-known document that"
        " is valid for half a year. It must be renewed.",
        "- a well-known first item of a list, which is long",
        "- a second item of the list, which is no shorter",
    ]


def with_bookmarks(pdf: bytes, *bookmarks: tuple[str, int, bool]) -> bytes:
    """A PDF with titles, their pages, and whether they lie below the last one that does not."""
    writer = PdfWriter(clone_from=io.BytesIO(pdf))
    chapter = None
    for title, page, below in bookmarks:
        made = writer.add_outline_item(title=title, page_number=page, parent=chapter if below else None)
        chapter = chapter if below else made
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


async def test_bookmarks_of_a_pdf_are_its_headings() -> None:
    """A page on which a chapter begins is cut there; a title that is not on its page counts all the same."""
    pages = ["Preface", "1. Travel\nGo by train.\n1.1 PASS-PORTS\nRenew them.", "Each year.", "Nothing here."]
    data = with_bookmarks(make_pdf(pages), ("Travel", 1, False), ("Passports", 1, True), ("Other", 3, False))
    document = await read(data, "a.pdf")
    assert list(document.sections) == [
        Section("Preface", page=1),
        Section("1. Travel\n\nGo by train.", page=2, heading="1. Travel"),
        Section("1.1 PASS-PORTS\n\nRenew them.", page=2, heading="1. Travel > 1.1 PASS-PORTS"),
        Section("Each year.", page=3, heading="1. Travel > 1.1 PASS-PORTS"),
        Section("Nothing here.", page=4, heading="Other"),
    ]


async def test_damaged_bookmarks_do_not_lose_the_text() -> None:
    """Bookmarks are optional; the text is what counts."""
    data = with_bookmarks(make_pdf(["Travel"]), ("Travel", 0, False)).replace(b"/Title", b"/Tilte")
    assert list((await read(data, "a.pdf")).sections) == [Section("Travel", page=1)]


async def test_a_pdf_that_only_may_not_be_changed_is_read() -> None:
    """Its password for reading is empty."""
    document = await read(make_encrypted_pdf(["Terms of use"], password=""), "terms.pdf")
    assert document.sections[0].text == "Terms of use"


async def test_a_docx_has_headings_lists_and_tables_in_order() -> None:
    """Sections stand under their headings; a row is a line that names its columns."""
    fees = [["Country", "Fee"], ["France", "86"]]
    document = await read(make_docx(["Before", "# Travel", "## Passports", "Renew them.", fees, "# End"]), "a.docx")
    assert list(document.sections) == [
        Section("Before"),
        Section("Travel\n\nPassports\n\nRenew them.\n\nCountry: France; Fee: 86", heading="Travel > Passports"),
        Section("End", heading="End"),
    ]


async def test_html_is_what_a_reader_sees() -> None:
    """Scripts, menus and hidden elements are not text; words of neighbouring elements do not run together."""
    page = """<!DOCTYPE html><html><head><title>Guide</title><style>p {}</style></head><body>
      <nav><a href="/">Home</a></nav><script>alert(1)</script><div hidden>secret</div>
      <h1>Guide</h1><p>One <b>bold</b>\n word.<p>Fish &amp; chips<br>daily
      <h2>Prices</h2><table><tr><th>What<th>Price</tr><tr><td>Fish</td><td>9</td></tr></table>
      <ul><li><p>first</p><li>second</ul><pre>if x:\n    y</pre></body></html>"""
    document = await read(page, "page")
    assert list(document.sections) == [
        Section("Guide\n\nOne bold word.\n\nFish & chips\ndaily", heading="Guide"),
        Section("Prices\n\nWhat: Fish; Price: 9\n\n- first\n\n- second\n\nif x:\n    y", heading="Guide > Prices"),
    ]


async def test_html_says_its_own_charset() -> None:
    """The charset is in a header or in the page; the header takes precedence."""
    page = '<html><meta charset="iso-8859-5"><p>\u041f\u0440\u0438\u0432\u0435\u0442'
    assert (await read(page.encode("iso-8859-5"), "p.html")).sections[0].text == "\u041f\u0440\u0438\u0432\u0435\u0442"
    sent = await read(page.encode("koi8-r"), "p.html", "text/html; charset=koi8-r")
    assert sent.sections[0].text == "\u041f\u0440\u0438\u0432\u0435\u0442"


async def test_markdown_is_cut_at_headings_outside_of_code() -> None:
    """Both kinds of headings count; their markup is removed."""
    text = "intro\n\n# The *big* `one`\n\ntext\n\n```sh\n# a comment\n```\n\nSmall\n-----\n\nmore\n"
    document = await read(text, "a.md")
    assert list(document.sections) == [
        Section("intro"),
        Section("The big one\n\ntext\n\n```sh\n# a comment\n```", heading="The big one"),
        Section("Small\n\nmore", heading="The big one > Small"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
async def test_rows_of_a_csv_name_their_columns(delimiter: str) -> None:
    """A row is understood alone; empty cells and line breaks in cells are not in the way."""
    rows = [["name", "note", ""], ["Ada", '"two\nlines"', "x"], ["", "", ""], ["Bob", "", ""]]
    document = await read("\n".join(delimiter.join(row) for row in rows), "people.csv")
    assert list(document.sections) == [Section("name: Ada; note: two lines; x\nname: Bob", heading="rows 1 to 2")]


async def test_a_csv_without_header_counts_its_columns() -> None:
    """A row with numbers is not a header."""
    document = await read("Ada,36\nBob,41\n", "people.csv")
    assert document.sections[0].text == "column 1: Ada; column 2: 36\ncolumn 1: Bob; column 2: 41"


async def test_a_long_csv_says_where_a_row_is() -> None:
    """Rows are grouped into numbered sections of fifty."""
    document = await read("name\n" + "\n".join(f"n{number}" for number in range(1, 102)), "people.csv")
    assert [section.heading for section in document.sections] == ["rows 1 to 50", "rows 51 to 100", "rows 101 to 101"]
    assert document.sections[2].text == "name: n101"


async def test_json_is_paths_and_values() -> None:
    """Numbers stay as they were written; empty values are left out."""
    document = await read('{"a": {"b": [1.10, {"c": "x"}]}, "yes": true, "no": null, "e": ""}', "a.json")
    assert list(document.sections) == [Section("a.b[0]: 1.10\na.b[1].c: x\nyes: true")]


@pytest.mark.parametrize(
    ("text", "name", "heading"),
    [('[{"a": 1}, {"a": 2}]', "a.json", "items 1 to 2"), ('{"a": 1}\n\n{"a": 2}\n', "a.jsonl", "lines 1 to 2")],
)
async def test_records_of_json_are_grouped(text: str, name: str, heading: str) -> None:
    """They are grouped like rows of a table."""
    assert list((await read(text, name)).sections) == [Section("a: 1\n\na: 2", heading=heading)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
async def test_text_is_read_in_the_usual_encodings(encoding: str) -> None:
    """The encoding comes from the byte order mark, else UTF-8, else the one of Windows."""
    document = await read("Caf\xe9 \u2013 cr\xe8me\r\nbr\xfbl\xe9e".encode(encoding), "a.txt")
    assert document == Document("text", [Section("Caf\xe9 \u2013 cr\xe8me\nbr\xfbl\xe9e")])


async def test_text_is_cleaned_but_keeps_its_case_and_indentation() -> None:
    """No escapes, nothing invisible, composed letters, one empty line at most."""
    document = await read("\x1b[1mTitle\x1b[0m\xad\n \n\t\n\n  if X:\u200b  \ncafe\u0301\n", "a.log")
    assert document.sections[0].text == "Title\n\n  if X:\ncaf\xe9"


@pytest.mark.parametrize(
    ("name", "content_type", "kind"),
    [
        ("a.md", "text/plain", "markdown"),
        ("a.txt", "text/markdown; charset=utf-8", "markdown"),
        ("a", "application/ld+json", "json"),
        ("a.unknown", "application/octet-stream", "text"),
        ("A.CSV", None, "csv"),
    ],
)
async def test_content_type_counts_before_the_name(name: str, content_type: str | None, kind: str) -> None:
    """The name decides only if the content type says nothing."""
    assert (await read("[1]", name, content_type)).kind == kind


@pytest.mark.parametrize("name", ["a.txt", "a.docx", "a"])
async def test_what_the_bytes_are_counts_first(name: str) -> None:
    """A PDF is read as a PDF under any name."""
    assert (await read(make_pdf(["x"]), name, "text/plain")).kind == "pdf"


async def test_large_text_is_read_apart_and_the_same() -> None:
    """The result does not depend on where it is parsed."""
    data = "# One\n\nword\n\n" * 200
    apart = await read_document(data.encode(), name="a.md", limits=DocumentLimits(inline_bytes=10))
    assert apart == await read(data, "a.md")


PLAIN = "# Trains\n\nThe train leaves at nine. " * 3
NOTEBOOK = '{"nbformat": 4, "cells": []}'


@pytest.mark.parametrize(
    ("data", "name", "charset", "apart"),
    [
        (PLAIN.encode(), "a.md", None, False),
        (PLAIN.encode("cp037"), "a.md", "cp037", False),
        ((PLAIN + "<p>x").encode(), "a.md", None, True),
        ((PLAIN + "<p>x").encode("cp037"), "a.md", "cp037", True),
        ((PLAIN + "<\u200bp>x").encode(), "a.md", None, True),
        (b'{"caf\\u00e9": 1}', "a.json", None, False),
        (NOTEBOOK.encode(), "a.json", None, True),
        (NOTEBOOK.replace("n", "\\u006e", 1).encode(), "a.json", None, True),
        (NOTEBOOK.replace("nb", "nb\\u0066o").replace("ofo", "o").encode("utf-16"), "a.json", None, True),
    ],
)
async def test_a_text_that_may_contain_html_is_read_apart(
    monkeypatch: pytest.MonkeyPatch, data: bytes, name: str, charset: str | None, apart: bool
) -> None:
    """However it is encoded or escaped: the parser of HTML runs in child processes only."""

    async def read_in_child(*args: object, **options: object) -> Document:
        return Document("apart", [])

    monkeypatch.setattr(reader, "read_in_child", read_in_child)
    document = await read_document(data, name=name, charset=charset)
    assert (document.kind == "apart") is apart


async def test_documents_are_read_side_by_side() -> None:
    """Each has its own child process and gets only its own progress."""
    documents = await asyncio.gather(*(read(make_pdf([f"number {number}"]), f"{number}.pdf") for number in range(4)))
    assert [document.sections[0].text for document in documents] == [f"number {number}" for number in range(4)]
