"""DOCX files made of raw XML, for what python-docx cannot write."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.word import read_docx
from workers.retrieval.ports import Document

_OFFICE = "http://schemas.openxmlformats.org"
_RELATIONSHIPS = f"{_OFFICE}/officeDocument/2006/relationships"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="{address}"'
    for prefix, address in {
        "a": f"{_OFFICE}/drawingml/2006/main",
        "c": f"{_OFFICE}/drawingml/2006/chart",
        "dgm": f"{_OFFICE}/drawingml/2006/diagram",
        "m": f"{_OFFICE}/officeDocument/2006/math",
        "mc": f"{_OFFICE}/markup-compatibility/2006",
        "r": _RELATIONSHIPS,
        "v": "urn:schemas-microsoft-com:vml",
        "w": f"{_OFFICE}/wordprocessingml/2006/main",
        "wp": f"{_OFFICE}/drawingml/2006/wordprocessingDrawing",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    }.items()
)
_MAIN_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
_TYPES = (
    f'<Types xmlns="{_OFFICE}/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/{}" ContentType="{}"/></Types>'
)


def run(text: str, properties: str = "") -> str:
    """A run with a text."""
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(*parts: str, properties: str = "") -> str:
    """A paragraph of runs and other elements; what is no markup becomes a run."""
    inner = "".join(part if part.startswith("<") else run(part) for part in parts)
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def cell(*blocks: str, properties: str = "") -> str:
    """A cell of paragraphs and tables."""
    inner = "".join(block if block.startswith("<") else paragraph(block) for block in blocks)
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{inner}</w:tc>"


def table(*rows: list[str], header: int = 0) -> str:
    """A table of rows, whose first ones are marked as the header."""
    marks = ["<w:trPr><w:tblHeader/></w:trPr>"] * header + [""] * len(rows)
    each = (f"<w:tr>{mark}{''.join(row)}</w:tr>" for mark, row in zip(marks, rows, strict=False))
    return f"<w:tbl>{''.join(each)}</w:tbl>"


def field(instruction: str, *result: str) -> str:
    """A field of runs: its instruction and its result."""
    mark = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
    inner = "".join(part if part.startswith("<") else run(part) for part in result)
    code = f"<w:r><w:instrText>{instruction}</w:instrText></w:r>"
    return f"{mark.format('begin')}{code}{mark.format('separate')}{inner}{mark.format('end')}"


def part(name: str, inner: str) -> str:
    """A part's XML: `part("w:styles", ...)`."""
    return f'<?xml version="1.0"?><{name} {NAMESPACES}>{inner}</{name}>'


def relationships(targets: Mapping[str, tuple[str, str]]) -> str:
    """A part's relationships: the kind and the target of each id."""
    each = (
        f'<Relationship Id="{key}" Type="{_RELATIONSHIPS}/{kind}" Target="{target}"/>'
        for key, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_OFFICE}/package/2006/relationships">{"".join(each)}</Relationships>'


def make_word(
    body: str, parts: Mapping[str, tuple[str, str | bytes]] | None = None, main: str = "document.xml"
) -> bytes:
    """A DOCX with this body.

    Args:
        body: the XML within `w:body`.
        parts: further parts by their names below 'word/': kind of relationship and contents. The id of each is its
            name without suffix.
        main: the name of the main part.
    """
    out = io.BytesIO()
    targets = {name.rpartition("/")[2].partition(".")[0]: (kind, name) for name, (kind, _) in (parts or {}).items()}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("[Content_Types].xml", _TYPES.format(main, _MAIN_TYPE))
        packed.writestr("_rels/.rels", relationships({"r1": ("officeDocument", f"word/{main}")}))
        packed.writestr(f"word/_rels/{main}.rels", relationships(targets))
        packed.writestr(f"word/{main}", part("w:document", f"<w:body>{body}</w:body>"))
        for name, (_, contents) in (parts or {}).items():
            packed.writestr(f"word/{name}", contents)
    return out.getvalue()


def read_word(body: str, parts: Mapping[str, tuple[str, str | bytes]] | None = None) -> Document:
    """What is read of a DOCX with this body, in this process."""
    return read_docx(make_word(body, parts), DocumentLimits())


def text_of(body: str, parts: Mapping[str, tuple[str, str | bytes]] | None = None) -> str:
    """The text of a DOCX with this body."""
    return "\n\n".join(section.text for section in read_word(body, parts).sections)
