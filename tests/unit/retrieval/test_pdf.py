"""PDFs are read as a reader sees them; what cannot be read is reported and does not hinder the rest."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions import errors
from tests.support.documents import make_pdf
from tests.support.pdfs import form_pdf, pages_pdf, shown, stream
from workers.retrieval.documents import child_process
from workers.retrieval.documents.pdf.damage import find_damage
from workers.retrieval.documents.reader import read_document
from workers.retrieval.knowledge.catalog import CatalogEntry
from workers.retrieval.ports import Document, Section

PROSE = "Passengers should be at the station ten minutes before the train leaves."
# A font whose glyphs are numbered in an order of its own, and that does not say what they are.
NO_MAPPING = (
    b"<< /Type /Font /Subtype /Type0 /BaseFont /AAAAAA+Unknown /Encoding /Identity-H /DescendantFonts"
    b" [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /AAAAAA+Unknown /CIDToGIDMap /Identity"
    b" /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor << /Type"
    b" /FontDescriptor /FontName /AAAAAA+Unknown /Flags 4 /FontBBox [0 0 1000 1000] /ItalicAngle 0 /Ascent 800"
    b" /Descent -200 /CapHeight 700 /StemV 80 >> >>] >>"
)


async def read(data: bytes) -> Document:
    return await read_document(data, name="a.pdf")


async def text(data: bytes) -> str:
    return "\n".join(section.text for section in (await read(data)).sections)


def unmapped(words: str, y: int = 600) -> str:
    """Contents that show glyphs without a mapping; their numbers are those of most TrueType fonts, 29 below ASCII."""
    codes = "".join(f"{ord(char) - 29:04X}" for char in words)
    return f"BT /F2 10 Tf 50 {y} Td <{codes}> Tj ET\n"


def with_unmapped(*contents: str) -> bytes:
    return pages_pdf(contents, objects=[NO_MAPPING], resources="/Font << /F1 3 0 R /F2 4 0 R >>")


@pytest.mark.parametrize("drawn", [True, False])
async def test_what_was_filled_into_a_form_is_text(drawn: bool) -> None:
    """Text fields, choices and typed notes count, whether or not the file says how they look."""
    fields = [
        ("/Subtype /Widget /FT /Tx /T (insured) /V (Henrietta Blackwood)", "Henrietta Blackwood"),
        ("/Subtype /Widget /FT /Ch /Ff 131072 /T (cover) /Opt [(Basic) (Premium)] /V (Premium)", "Premium"),
        ("/Subtype /FreeText /DA (/F1 10 Tf) /Contents (Typed note)", "Typed note"),
    ]
    form = form_pdf(
        shown("Name of the insured:", 60, 690), [(inside, look if drawn else None) for inside, look in fields]
    )
    found = await text(form)
    assert [
        part for part in ("Name of the insured:", "Henrietta Blackwood", "Premium", "Typed note") if part not in found
    ] == []


async def test_a_hidden_field_is_not_text() -> None:
    """What nobody sees is not indexed."""
    field = "/Subtype /Widget /FT /Tx /T (code) /V (Secret)"
    assert await text(form_pdf(shown("Shown", 60, 690), [(f"{field} /F 2", "Secret")])) == "Shown"


DAMAGED = {
    "compressed": stream(zlib.compress((PROSE * 99).encode())[:60], "/Filter /FlateDecode"),
    "not compressed at all": stream(b"\x00 no stream", "/Filter /FlateDecode"),
    "a filter that nobody knows": stream(b"x", "/Filter /Odd"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_page_is_reported_and_the_others_are_read(damage: bytes) -> None:
    """The numbers of the other pages stay right."""
    document = await read(pages_pdf([shown("First", 50, 700), damage, shown("Third", 50, 700)]))
    assert [(section.text, section.page) for section in document.sections if section.page != 2] == [
        ("First", 1),
        ("Third", 3),
    ]
    assert (document.pages, list(document.unread_pages)) == (3, [2])
    assert [warning.partition(" could not")[0] for warning in document.warnings] == ["page 2"]


async def test_a_page_that_is_not_there_is_reported() -> None:
    """The list of pages may name an object that is none."""
    data = pages_pdf([shown("First", 50, 700), shown("Second", 50, 700)]).replace(
        b"/Type /Page /Parent", b"/Tipe /Pag  /Xarent", 1
    )
    document = await read(data)
    assert document.pages == 2
    assert "Second" in [section.text for section in document.sections]


@pytest.mark.parametrize("name", ["/Fl", "/FlateDecode"])
async def test_filters_have_two_names(name: str) -> None:
    """An abbreviated name is as good, and no damage."""
    compressed = stream(zlib.compress(shown("Short names", 50, 700).encode()), f"/Filter {name}")
    assert await read(pages_pdf([compressed])) == Document("pdf", [Section("Short names", page=1)], 1)


async def test_letters_that_are_placed_one_by_one_are_words() -> None:
    """Some programs place each letter."""
    widths = {"i": 222, "l": 222, "t": 278, " ": 278, "r": 333}
    placed, x = "", 50.0
    for letter in "letter after letter":
        placed += shown(letter, round(x, 2), 700)
        x += widths.get(letter, 278 if letter == "f" else 556) / 100
    assert await text(pages_pdf([placed])) == "letter after letter"


LEFT = [f"The left column has line {number} of its own story" for number in range(8)]
RIGHT = [f"while its neighbour tells {number} other things to all" for number in range(8)]


async def test_letters_that_are_spaced_out_stay_one_word() -> None:
    """A gap like those between the letters of its word separates no words, even where the file begins a new piece."""
    pieces = ["Nort", "h Buon", "a Vist", "a Driv", "e"]
    starts = [60 + 8 * sum(map(len, pieces[:at])) for at in range(len(pieces))]
    spaced = "".join(
        f"BT /F1 10 Tf 2 Tc {start} 600 Td ({piece}) Tj ET\n" for piece, start in zip(pieces, starts, strict=True)
    )
    found = await text(pages_pdf([spaced], font=b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>"))
    assert "North Buona Vista Drive" in found


@pytest.mark.parametrize("rotate", [0, 90])
async def test_columns_are_read_one_after_the_other(rotate: int) -> None:
    """Also if the file has the first lines of both columns, then the second ones. A heading stays above."""
    rows = zip(LEFT, RIGHT, strict=True)
    lines = "".join(
        shown(left, 50, 700 - 12 * number) + shown(right, 310, 700 - 12 * number)
        for number, (left, right) in enumerate(rows)
    )
    turned = "0 1 -1 0 595 0 cm\n" if rotate else ""
    heading = shown("A heading that goes across both of the columns, from the left to the right end", 50, 740)
    found = await text(pages_pdf([turned + heading + lines], rotate=rotate))
    assert " ".join(found.split()).endswith(" ".join([*LEFT, *RIGHT]))
    assert found.startswith("A heading")


async def test_rows_of_a_table_stay_rows() -> None:
    """A table is drawn like columns, but its cells are short."""
    rows = [("Trains", "9.40"), ("Ferries", "12.10"), ("Coaches", "7.25"), ("Trams", "2.80"), ("Buses", "2.10")] * 3
    table = "".join(
        shown(name, 50, 700 - 12 * number) + shown(price, 310, 700 - 12 * number)
        for number, (name, price) in enumerate(rows)
    )
    assert (await text(pages_pdf([table]))).split("\n")[0] == "Trains 9.40"


async def test_raised_characters_stay_in_their_line() -> None:
    """A footnote's number or an exponent does not end the line."""
    raised = "BT /F1 10 Tf 50 700 Td (See the note) Tj 6 0 0 6 107 704 Tm /F1 1 Tf (2) Tj ET\n" + shown(
        "and go on", 114, 700
    )
    assert await text(pages_pdf([raised])) == "See the note2 and go on"


async def test_accents_that_are_drawn_apart_are_put_on_their_letters() -> None:
    """TeX draws an accent and a letter in the same place."""
    drawn = "BT /F1 10 Tf 50 700 Td [(R) -108 (\xb4) 441 (eunion)] TJ ET"
    assert await text(pages_pdf([drawn])) == "R\xe9union"


@pytest.mark.parametrize("direction", ["H", "V"])
async def test_chinese_and_japanese_text_needs_no_font_on_this_machine(direction: str) -> None:
    """Files may rely on the reader's fonts: characters that are placed one by one, and lines from top to bottom."""
    font = (
        f"<< /Type /Font /Subtype /Type0 /BaseFont /SimSun /Encoding /UniGB-UTF16-{direction} /DescendantFonts"
        " [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /SimSun /DW 1000 /CIDSystemInfo << /Registry (Adobe)"
        " /Ordering (GB1) /Supplement 2 >> /FontDescriptor << /Type /FontDescriptor /FontName /SimSun /Flags 4"
        " /FontBBox [0 -120 1000 880] /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 700 /StemV 80 >> >>] >>"
    )
    pieces = "会议室在三楼" if direction == "H" else ["会议室", "在三楼"]
    contents = "".join(
        f"BT /F1 10 Tf {100 + 12 * at} 600 Td <{piece.encode('utf-16-be').hex()}> Tj ET\n"
        for at, piece in enumerate(pieces)
    )
    found = await text(pages_pdf([contents], font=font.encode()))
    assert "会议室" in found
    assert "在三楼" in found


async def test_text_without_a_mapping_is_left_out_and_reported() -> None:
    """It is noise, and would be found by nothing. The text beside it is kept."""
    page = shown(PROSE, 50, 700) + shown(PROSE, 50, 680) + unmapped("Nobody can know what this says")
    document = await read(with_unmapped(shown("Cover", 50, 700), page))
    assert document.sections[1].text.split() == (f"{PROSE} {PROSE}").split()
    assert list(document.unread_pages) == [2]
    assert "text recognition" in document.warnings[0]


async def test_mostly_unreadable_text_is_refused() -> None:
    """Indexing the rest would suggest that the document can be searched."""
    with pytest.raises(errors.DocumentEmpty, match=r"'a.pdf' does not say .* text recognition"):
        await read(with_unmapped(shown("Cover", 50, 700), unmapped(PROSE)))


async def test_letters_that_a_wrong_table_exchanges_are_noise() -> None:
    """Words without vowels are no words."""
    exchanged = PROSE.translate({ord(a): ord(b) for a, b in zip("aeiouy", "bcdfgh", strict=True)})
    lines = "".join(shown(exchanged, 50, 700 - 12 * number) for number in range(5))
    sound = "".join(shown(PROSE, 50, 700 - 12 * number) for number in range(9))
    document = await read(pages_pdf([sound, lines]))
    assert (len(document.sections), list(document.unread_pages)) == (1, [2])


async def test_scanned_pages_among_others_are_reported() -> None:
    """A document may begin with text and continue with scans; an empty page is no scan."""
    picture = stream(
        b"\xff", "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
    )
    pages = [shown("Text", 50, 700), "500 0 0 700 40 40 cm /Im1 Do", "", "500 0 0 700 40 40 cm /Im1 Do"]
    document = await read(pages_pdf(pages, objects=[picture], resources="/XObject << /Im1 4 0 R >>"))
    assert list(document.unread_pages) == [2, 4]
    assert "pages 2, 4" in document.warnings[0]


def crashing_child(tmp_path: Path, when: str) -> Path:
    """A child whose PDF reader is killed by the operating system when a condition on the page's number holds."""
    code = f"""
import os, runpy, signal, sys, types
from pathlib import Path
real = Path({str(child_process._CHILD)!r})
package = types.ModuleType("workers")
package.__path__ = [str(real.parents[2])]
sys.modules["workers"] = package
from workers.retrieval.documents.pdf import reading
read_page = reading.read_page
def crash(document, number, names):
    if {when}:
        os.kill(os.getpid(), signal.SIGSEGV)
    return read_page(document, number, names)
reading.read_page = crash
package.__path__ = [str(real.parents[2])]
sys.path.insert(0, str(real.parent))
import child
child._bypass_workers_init = lambda: None
child.main()
"""
    path = tmp_path / "crashing.py"
    path.write_text(code)
    return path


@pytest.fixture
def crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda when: monkeypatch.setattr(child_process, "_CHILD", crashing_child(tmp_path, when))


async def test_a_page_that_crashes_the_reader_is_left_out(crashes: Callable[[str], None]) -> None:
    """A segmentation fault costs one page."""
    crashes("number == 1")
    document = await read(make_pdf(["one", "two", "three"]))
    assert [(section.text, section.page) for section in document.sections] == [("one", 1), ("three", 3)]
    assert list(document.unread_pages) == [2]
    assert "crashed" in document.warnings[0]


async def test_a_document_whose_every_page_crashes_the_reader_is_refused(crashes: Callable[[str], None]) -> None:
    """It is named, and no other document notices."""
    crashes("True")
    with pytest.raises(errors.DocumentCorrupt, match=r"'a.pdf' crashed its parser \(SIGSEGV\)"):
        await read(make_pdf(["x"] * 9))


async def test_a_child_that_uses_no_processor_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting does not count, but a parser that waits for nothing must end some time."""
    path = tmp_path / "hanging.py"
    path.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(child_process, "_CHILD", path)
    monkeypatch.setattr(child_process, "_HANG_SECONDS", 1.0)
    with pytest.raises(errors.DocumentTooLarge, match="makes no progress"):
        await read(make_pdf(["x"]))


def test_looking_for_damage_ends_in_time() -> None:
    """It only completes the warnings, and must not use up the time that the document has."""
    gc.collect()  # the signal must not come within a finalizer of another test's objects
    assert find_damage(make_pdf(["x"] * 2000), seconds=0.001) == {}


def test_the_list_of_documents_keeps_what_could_not_be_read() -> None:
    """Entries of older versions have no warnings."""
    entry = CatalogEntry("a.pdf", "c", "r", "d", 1, "m", 0)
    document = Document("pdf", [], 3, ["page 2 could not be read"], [2])
    stored = entry.with_parsed(document, 5)
    assert (stored.receipt("added")["warnings"], stored.receipt("added")["unread_pages"]) == (document.warnings, [2])
    old = b'{"source": "a", "collection": "c", "revision": "r", "digest": "d", "bytes": 1, "model": "m", "added_ms": 0}'
    assert CatalogEntry.load(old).receipt("unchanged")["warnings"] == ()
