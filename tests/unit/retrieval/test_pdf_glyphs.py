"""Characters of PDFs that PDFium does not give as a reader sees them: ligatures with names, and letters drawn twice."""

from __future__ import annotations

import pytest

from tests.support.pdfs import pages_pdf, shown, stream
from workers.retrieval.documents.pdf.glyph_names import GlyphNames, letters_of
from workers.retrieval.documents.pdf.utf8_mapping import with_letters
from workers.retrieval.documents.reader import read_document


def font(differences: str) -> bytes:
    encoding = f"<< /Type /Encoding /BaseEncoding /WinAnsiEncoding /Differences [{differences}] >>"
    return f"<< /Type /Font /Subtype /Type1 /BaseFont /ABCDEF+Helvetica /Encoding {encoding} >>".encode()


async def text(data: bytes) -> str:
    document = await read_document(data, name="a.pdf")
    assert document.warnings == ()
    return "\n".join(section.text for section in document.sections)


async def test_ligatures_are_read_by_their_names() -> None:
    """Programs of Adobe name them after their letters, and the file may have no other mapping to Unicode."""
    drawn = shown("\\035e \\037nancial o\\034ce of the \\036eet", 50, 700)
    names = font("28 /f_f_i /T_h /f_l.alt /f_i")
    assert await text(pages_pdf([drawn, drawn], font=names)) == "\n".join(["The financial office of the fleet"] * 2)


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("/f_f_i", "ffi"),
        ("/T_h.liga", "Th"),
        ("/uni01320133", "\u0132\u0133"),
        ("/u1F600", "\U0001f600"),
        ("/f_uni006A", "fj"),
        ("/uniD800", ""),
        ("/T", ""),
        ("/T.alt", ""),
        ("/g31", ""),
        ("/glyph_12", ""),
        ("/.notdef", ""),
    ],
)
def test_a_name_tells_letters_or_nothing(name: str, letters: str) -> None:
    """The rules are those of Adobe's glyph list. A number of the font's own tells nothing."""
    assert letters_of(name) == letters


def test_fonts_of_one_name_that_disagree_tell_nothing() -> None:
    """PDFium gives the name of a font, and a page may have several of one name."""
    form = "/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /Font << /F1 4 0 R >> >>"
    objects = [font("31 /f_f"), stream(b"", form)]
    data = pages_pdf([""], font=font("30 /f_l /f_i"), objects=objects, resources="/XObject << /X 5 0 R >>")
    names = GlyphNames(data, seconds=5)
    assert [names.letters(0, "Helvetica", code) for code in (30, 31, 32)] == ["fl", "", ""]
    assert GlyphNames(b"%PDF-1.7 damaged", seconds=5).letters(0, "Helvetica", 30) == ""


async def test_letters_that_are_drawn_twice_are_read_once() -> None:
    """Some programs draw each letter again beside itself, to make it bold; a double letter is not that."""
    bold = "BT /F1 10 Tf 50 700 Td [(M) 783 (M) 50 (i) 172 (i) 50 (l) 172 (l) 50 (l) 172 (l)] TJ ET\n"
    assert await text(pages_pdf([bold + shown("still: 1100 wells", 50, 600)])) == "Mill\nstill: 1100 wells"


def test_a_mapping_in_utf8_gives_letters_again() -> None:
    """Read as UTF-16, it gives Korean syllables, of which real Korean has others, too."""
    mass, scale = "\u041c\u0430\u0441\u0441\u0430", "\u041c\u0430\u0441\u0448\u0442\u0430\u0431"
    drawing = f"{mass} {scale} 1:5 {mass}"
    syllables = "".join(char.encode().decode("utf-16-be") if char.isalpha() else char for char in drawing)
    assert with_letters(syllables) == drawing
    korean = "승객은 기차가 출발하기 십 분 전에 역에 도착해야 합니다"
    assert with_letters(korean) == korean
    assert with_letters(f"{syllables} {korean}") == f"{syllables} {korean}"
    assert with_letters(syllables[:5]) == syllables[:5]
