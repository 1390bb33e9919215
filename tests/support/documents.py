"""Documents made for tests: small, valid, and with exactly the text that was asked for."""

from __future__ import annotations

import io
from collections.abc import Sequence

_LINE_HEIGHT = 14


def make_pdf(pages: Sequence[str]) -> bytes:
    """A PDF with one page for each text; lines stay as they are, in Helvetica, with the characters of cp1252."""
    first = 4
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, text in enumerate(pages):
        contents = _page_contents(text)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
            b" /Contents %d 0 R >>" % (first + 2 * number + 1)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(contents), contents))
    return pdf_file(objects)


def make_encrypted_pdf(pages: Sequence[str], *, password: str) -> bytes:
    """The same, encrypted; an empty password is what a document has that may be read but not changed."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf(pages))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def make_docx(blocks: Sequence[str | Sequence[Sequence[str]]]) -> bytes:
    """A DOCX of headings ('# One', '## Two' and so on), paragraphs, and tables (rows of cells)."""
    from docx import Document

    document = Document()
    for block in blocks:
        if not isinstance(block, str):
            table = document.add_table(rows=len(block), cols=len(block[0]))
            for row, cells in zip(table.rows, block, strict=True):
                for cell, text in zip(row.cells, cells, strict=True):
                    cell.text = text
        elif block.startswith("#"):
            marks, _, text = block.partition(" ")
            document.add_heading(text, level=len(marks))
        else:
            document.add_paragraph(block)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def _page_contents(text: str) -> bytes:
    lines = [_pdf_string(line) for line in text.split("\n")]
    return b"BT /F1 11 Tf 50 790 Td %d TL\n%s\nET" % (_LINE_HEIGHT, b" T*\n".join(line + b" Tj" for line in lines))


def _pdf_string(text: str) -> bytes:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return b"(" + escaped.encode("cp1252") + b")"


def pdf_file(objects: Sequence[bytes]) -> bytes:
    """Number the objects from 1 and add the table of where they begin, which readers look for at the end."""
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for offset in offsets:
        out.write(b"%010d 00000 n \n" % offset)
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table))
    return out.getvalue()
