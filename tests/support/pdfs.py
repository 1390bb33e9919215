"""PDFs by hand, for what no library writes: contents as they are, forms, notes, fonts without a mapping."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.documents import pdf_file

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def stream(contents: bytes, entries: str = "") -> bytes:
    """A stream with further entries in its dictionary."""
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries.encode(), len(contents), contents)


def shown(text: str, x: float, y: float, size: float = 10) -> str:
    """Contents that show a text at a place."""
    return f"BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET\n"


def pages_pdf(
    contents: Sequence[bytes | str],
    *,
    font: bytes = _FONT,
    objects: Sequence[bytes] = (),
    resources: str = "",
    rotate: int = 0,
) -> bytes:
    """A PDF with these contents of its pages, each the text of a stream or (bytes) the whole stream object.

    Args:
        font: the object of the font /F1.
        objects: further objects, numbered from 4 on.
        resources: further resources of all pages.
        rotate: the pages' /Rotate.
    """
    first = 4 + len(objects)
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(contents)))
    made = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        font,
        *objects,
    ]
    for number, content in enumerate(contents):
        made.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Rotate {rotate} /Contents"
            f" {first + 2 * number + 1} 0 R /Resources << /Font << /F1 3 0 R >> {resources} >> >>".encode()
        )
        made.append(content if isinstance(content, bytes) else stream(content.encode("cp1252")))
    return pdf_file(made)


def form_pdf(content: str, annotations: Sequence[tuple[str, str | None]]) -> bytes:
    """A page with annotations: the inside of each dictionary, and the text of its appearance, or None without one."""
    objects = [b"", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", b"", _FONT, stream(content.encode("cp1252"))]
    refs = []
    for number, (inside, look) in enumerate(annotations):
        appearance = ""
        if look is not None:
            box = "/Type /XObject /Subtype /Form /BBox [0 0 200 20] /Resources << /Font << /F1 4 0 R >> >>"
            objects.append(stream(f"/Tx BMC BT /F1 10 Tf 2 4 Td ({look}) Tj ET EMC".encode("cp1252"), box))
            appearance = f"/AP << /N {len(objects)} 0 R >>"
        top = 700 - 30 * number
        rect = f"/Rect [200 {top - 20} 400 {top}]"
        objects.append(f"<< /Type /Annot {rect} /F 4 {appearance} {inside} >>".encode())
        refs.append(f"{len(objects)} 0 R")
    fields = " ".join(ref for ref, (inside, _) in zip(refs, annotations, strict=True) if "/Widget" in inside)
    form = f"/AcroForm << /Fields [{fields}] /DA (/F1 10 Tf) /DR << /Font << /F1 4 0 R >> >> >>"
    objects[0] = f"<< /Type /Catalog /Pages 2 0 R {form} >>".encode()
    objects[2] = (
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 4 0 R >> >> /Contents 5 0 R"
        f" /Annots [{' '.join(refs)}] >>"
    ).encode()
    return pdf_file(objects)
