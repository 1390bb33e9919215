"""A DOCX as a file: other kinds of Word documents, embedded documents, damage, and attacks."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.documents import make_docx
from tests.support.word import cell, make_word, paragraph, part, read_word, run, table, text_of
from workers.retrieval.documents.kinds import Kind, find_kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.documents.word import read_docx
from workers.retrieval.ports import Section

LIMITS = DocumentLimits()
CHUNK = '<w:altChunk r:id="chunk"/>'
STRICT = (
    ("schemas.openxmlformats.org/wordprocessingml/2006/main", "purl.oclc.org/ooxml/wordprocessingml/main"),
    ("schemas.openxmlformats.org/officeDocument/2006/", "purl.oclc.org/ooxml/officeDocument/"),
    ("schemas.openxmlformats.org/drawingml/2006/", "purl.oclc.org/ooxml/drawingml/"),
)


def rewritten(data: bytes, change) -> bytes:
    """The archive with each name and contents changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(*change(name, before.read(name)))
    return out.getvalue()


def refusal(data: bytes, limits: DocumentLimits = LIMITS) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_docx(data, limits)
    return caught.value


def test_a_strict_document_is_read_as_any_other() -> None:
    """Its namespaces have other addresses, in its parts and in the kinds of its relationships."""

    def strict(name: str, contents: bytes) -> tuple[str, bytes]:
        for usual, other in STRICT:
            contents = contents.replace(usual.encode(), other.encode())
        return name, contents

    parts = {
        "footnotes.xml": ("footnotes", part("w:footnotes", f"<w:footnote w:id='1'>{paragraph('a note')}</w:footnote>")),
        "chunk.html": ("aFChunk", "<p>embedded"),
        "styles.xml": ("styles", part("w:styles", "<w:style w:styleId='H'><w:name w:val='heading 1'/></w:style>")),
    }
    body = (
        paragraph("One", properties='<w:pStyle w:val="H"/>')
        + paragraph("two", "<w:r><w:footnoteReference w:id='1'/></w:r>")
        + table([cell("a"), cell("b")]) + paragraph("<m:oMath><m:r><m:t>x</m:t></m:r></m:oMath>") + CHUNK
    )  # fmt: skip
    data = make_word(body, parts)
    document = read_docx(rewritten(data, strict), LIMITS)
    assert document == read_docx(data, LIMITS)
    assert list(document.sections) == [
        Section("One\n\ntwo[1]\n\n[1] a note\n\na | b\n\nx", heading="One"),
        Section("embedded", heading="One"),
    ]


MHT = """MIME-Version: 1.0
Content-Type: multipart/related; boundary="b"

--b
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

<h1>Caf=E9</h1><p>open
--b
Content-Type: image/png

x
--b--
"""
# The page is the part that `start` names, not the first one.
NAMED_MHT = MHT.replace('; boundary="b"\n', '; boundary="b"; start="<page>"\n').replace(
    "--b\nContent-Type: text/html",
    "--b\nContent-Type: text/html\n\n<p>a frame\n--b\nContent-ID: <page>\nContent-Type: text/html",
    1,
)


@pytest.mark.parametrize(
    ("name", "contents", "sections"),
    [
        ("chunk.html", "<h1>Fees</h1><p>450 euros", [Section("Fees\n\n450 euros", heading="Top > Fees")]),
        ("chunk.htm", "<meta charset=utf-16><p>x".encode("utf-16"), [Section("x", heading="Top")]),
        ("chunk.mht", MHT, [Section("Caf\xe9\n\nopen", heading="Top > Caf\xe9")]),
        ("chunk.mht", NAMED_MHT, [Section("Caf\xe9\n\nopen", heading="Top > Caf\xe9")]),
        ("chunk.txt", "plain\ntext", [Section("plain\ntext", heading="Top")]),
        ("chunk.docx", make_docx(["# Inner", "text"]), [Section("Inner\n\ntext", heading="Top > Inner")]),
    ],
)
def test_embedded_documents_are_read_in_their_place(name: str, contents: str | bytes, sections: list[Section]) -> None:
    """Some programs put all of a document into one of them. What follows is under the headings from before."""
    top = paragraph("Top", properties='<w:outlineLvl w:val="0"/>')
    read = read_word(top + CHUNK + paragraph("after"), {name: ("aFChunk", contents)}).sections
    assert list(read) == [Section("Top", heading="Top"), *sections, Section("after", heading="Top")]
    assert " ".join(sections[0].text.split()) in text_of(table([cell(CHUNK), cell("b")]), {name: ("aFChunk", contents)})


def test_an_embedded_document_of_another_kind_is_refused_by_name() -> None:
    """Its text must not be missing silently."""
    rtf = refusal(make_word(paragraph("x") + CHUNK, {"chunk.rtf": ("aFChunk", "{\\rtf1 x}")}))
    assert rtf.reason is Reason.UNSUPPORTED
    assert "word/chunk.rtf" in rtf.problem
    assert refusal(make_word(CHUNK)).reason is Reason.CORRUPT
    no_page = "MIME-Version: 1.0\nContent-Type: image/png\n\nx"
    assert "web archive without a page" in refusal(make_word(CHUNK, {"chunk.mht": ("aFChunk", no_page)})).problem
    nested = make_word(paragraph("x"))
    for _ in range(4):
        nested = make_word(CHUNK, {"chunk.docx": ("aFChunk", nested)})
    assert "nested too deeply" in refusal(nested).problem


@pytest.mark.parametrize("name", ["a.docx", "a.docm", "a.dotx", "a.dotm", "a"])
def test_templates_and_documents_with_macros_are_read(name: str) -> None:
    """They differ from a DOCX in a content type that no text depends on."""
    data = rewritten(
        make_docx(["text"]),
        lambda entry, contents: (
            entry,
            contents.replace(b"document.main+xml", b"template.macroEnabledTemplate.main+xml"),
        ),
    )
    assert find_kind(data, name=name) is Kind.DOCX
    assert read_docx(data, LIMITS).sections[0].text == "text"


def test_programs_may_name_parts_as_they_like() -> None:
    """Another main part, Windows' separators, other case."""
    assert read_docx(make_word(paragraph("x"), main="document2.xml"), LIMITS).sections[0].text == "x"
    windows = rewritten(make_word(paragraph("x")), lambda name, contents: (name.replace("/", "\\").upper(), contents))
    assert read_docx(windows, LIMITS).sections[0].text == "x"
    moved = make_word(paragraph("x")).replace(b"word/", b"text/")
    assert find_kind(moved, name="a.docx") is Kind.DOCX
    with pytest.raises(Refusal, match="archive"):
        find_kind(moved, name="a.zip")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le"), "Word document (DOC)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "Workbook".encode("utf-16-le"), "spreadsheet (XLS)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "Encrypted".encode("utf-16-le"), "office format from before 2007"),
        (b'<?xml version="1.0"?>\n<?mso-application progid="Word.Document"?><pkg:package xmlns:pkg="x">', "in XML"),
    ],
)
def test_other_documents_of_word_are_refused_by_name(data: bytes, says: str) -> None:
    """The error says what they are, and that a DOCX would be read."""
    with pytest.raises(Refusal) as caught:
        find_kind(data, name="a.docx")
    assert caught.value.reason is Reason.UNSUPPORTED
    assert says in caught.value.problem


def test_a_document_of_another_program_is_refused_by_name() -> None:
    """A spreadsheet whose main part lies where Word's does."""
    sheet = rewritten(make_word(""), lambda name, contents: (name, contents.replace(b"w:document", b"w:workbook")))
    assert "a spreadsheet" in refusal(sheet).problem
    assert "no main part" in refusal(make_word("").replace(b"word/document.xml", b"word/documint.xml")).problem


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_parts_have_the_encoding_that_they_declare(encoding: str) -> None:
    """UTF-8 by default, UTF-16 by the standard, and Latin 1 in files of some programs."""

    def encoded(name: str, contents: bytes) -> tuple[str, bytes]:
        declared = contents.decode().replace('"1.0"?', f'"1.0" encoding="{encoding}"?')
        return name, declared.encode(encoding)

    assert read_docx(rewritten(make_word(paragraph("Caf\xe9")), encoded), LIMITS).sections[0].text == "Caf\xe9"


def test_entities_cannot_hide_in_an_encoding() -> None:
    """In an encoding that is no superset of ASCII, a search for definitions would not find them."""

    def hidden(name: str, contents: bytes) -> tuple[str, bytes]:
        text = contents.decode().replace('"1.0"?', '"1.0" encoding="cp037"?')
        return name, text[:38].encode() + text[38:].encode("cp037") if name.endswith("document.xml") else contents

    assert "encoding" in refusal(rewritten(make_word(paragraph("x")), hidden)).problem


def test_endless_nesting_is_refused() -> None:
    """Word nests a few dozen elements."""
    deep = "<w:sdt>" * 20_000 + paragraph("x") + "</w:sdt>" * 20_000
    assert "nested too deeply" in refusal(make_word(deep)).problem
    deep = "<w:smartTag>" * 20_000 + run("x") + "</w:smartTag>" * 20_000
    assert "nested too deeply" in refusal(make_word(paragraph(deep))).problem


def test_what_is_referred_to_often_is_not_read_often() -> None:
    """A megabyte that is embedded a thousand times is a gigabyte of text."""
    parts = {"chunk.txt": ("aFChunk", "word " * 20_000)}
    assert refusal(make_word(CHUNK * 100, parts), replace(LIMITS, text_chars=1_000_000)).reason is Reason.TOO_LARGE
    assert refusal(make_word(CHUNK * 100, parts), replace(LIMITS, unpacked_bytes=1_000_000)).reason is Reason.TOO_LARGE
    note = part("w:footnotes", f"<w:footnote w:id='1'>{paragraph('word ' * 20_000)}</w:footnote>")
    references = "<w:r><w:footnoteReference w:id='1'/></w:r>" * 1_000
    assert len(text_of(paragraph("x", references), {"footnotes.xml": ("footnotes", note)})) < 110_000


TAGS = [
    "w:p", "w:r", "w:t", "w:tbl", "w:tr", "w:tc", "w:sdt", "w:sdtContent", "w:ins", "w:del", "w:fldChar", "w:pPr",
    "w:rPr", "w:tcPr", "w:vMerge", "w:gridSpan", "w:numPr", "w:ilvl", "w:numId", "w:pStyle", "w:txbxContent",
    "w:footnoteReference", "w:altChunk", "w:hyperlink", "w:sectPr", "w:headerReference", "w:sym", "mc:AlternateContent",
    "mc:Choice", "mc:Fallback", "m:oMath", "m:f", "m:num", "m:d", "m:nary", "c:chart", "dgm:relIds", "a:p", "w:framePr",
    "w:ffData", "w:ddList", "w:outlineLvl", "w:fldSimple", "w:instrText", "w:ruby", "w:tblHeader", "w:trPr",
    "w:gridBefore",
]  # fmt: skip
VALUES = [
    "",
    "0",
    "1",
    "-1",
    "99999999999999999999",
    "begin",
    "separate",
    "end",
    "restart",
    "TOC",
    "x",
    "\u0661",
    "F0FF",
]
ELEMENTS = st.recursive(
    st.sampled_from(["text", ""]),
    lambda inner: st.builds(
        lambda tag, name, value, children: f'<{tag} {name}="{value}">{"".join(children)}</{tag}>',
        st.sampled_from(TAGS),
        st.sampled_from(["w:val", "w:id", "r:id", "w:fldCharType", "w:char", "m:val", "w:instr", "w:dropCap"]),
        st.sampled_from(VALUES),
        st.lists(inner, max_size=4),
    ),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(body=ELEMENTS, numbering=ELEMENTS, styles=ELEMENTS)
def test_any_tree_of_words_elements_is_read_or_refused(body: str, numbering: str, styles: str) -> None:
    """Elements where none belong, and values that mean nothing, are no reason to crash."""
    parts = {
        "numbering.xml": (
            "numbering",
            part("w:numbering", f"<w:abstractNum><w:lvl>{numbering}</w:lvl></w:abstractNum>"),
        ),
        "styles.xml": ("styles", part("w:styles", f"<w:style>{styles}</w:style>")),
        "x.xml": ("header", part("w:hdr", body)),
    }
    with suppress(Refusal):
        assert read_word(body, parts).kind == "docx"
