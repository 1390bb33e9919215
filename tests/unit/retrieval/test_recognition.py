"""Text recognition: the pages that need it, in a process of its own, and nothing is lost if it fails.

The engine is a double, since it takes 190 MB and seconds; `make ocr` runs the last tests with the real one.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker_config.settings import Settings
from sessions import errors
from tests.support.pdfs import pages_pdf, shown, stream
from workers.retrieval.documents import child_process
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.pdf.reading import read_pdf
from workers.retrieval.documents.reader import read_document
from workers.retrieval.documents.recognition import limits as recognition_limits
from workers.retrieval.documents.recognition.engine import RecognitionFailed, TextBox
from workers.retrieval.documents.recognition.limits import RecognitionLimits
from workers.retrieval.documents.recognition.page_text import Recogniser, rows_of
from workers.retrieval.documents.recognition.ports import Recognition
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.knowledge.catalog import CatalogEntry
from workers.retrieval.knowledge.changes import read_with_recognition
from workers.retrieval.ports import Document

PICTURE = stream(
    b"\xff", "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
)
SCAN = "500 0 0 700 40 40 cm /Im1 Do"
WORDS = "The train leaves at nine."
ON = RecognitionLimits(problem="")


def scans(*pages: str) -> bytes:
    return pages_pdf(pages, objects=[PICTURE], resources="/XObject << /Im1 4 0 R >>")


def box(text: str, left: float, top: float, *, turned: float = 0.0) -> TextBox:
    """A line of text, 20 high, on a page that is turned by so many degrees."""
    right, bottom, angle = left + 9 * len(text), top + 20, math.radians(turned)

    def at(x: float, y: float) -> tuple[float, float]:
        return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)

    return TextBox(text, (at(left, top), at(right, top), at(right, bottom), at(left, bottom)))


def engine(*answers: str | Exception) -> Callable[[Any], list[TextBox]]:
    """An engine that finds these texts, each on one picture."""
    left = list(answers)

    def recognise(picture: Any) -> list[TextBox]:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [box(answer, 10, 10)] if answer else []

    return recognise


def read(data: bytes, *answers: str | Exception, most: int = 9, told: list[tuple[int, ...]] | None = None) -> Document:
    recogniser = Recogniser(engine(*answers), most, 60.0)
    on_page = (lambda *page: told.append(page)) if told is not None else (lambda *_: None)
    recognition = Recognition("", recogniser, lambda _: None, on_page)
    return read_pdf(data, DocumentLimits(), lambda *_: None, recognition=recognition)


def test_only_pages_without_text_are_recognised() -> None:
    """The others are exact as they are. The receipt names the pages whose text may have errors."""
    told: list[tuple[int, ...]] = []
    document = read(scans(shown("Cover", 50, 700), SCAN, "", SCAN), WORDS, "Second", told=told)
    assert [(section.page, section.text) for section in document.sections] == [(1, "Cover"), (2, WORDS), (4, "Second")]
    assert (document.recognised_pages, document.unread_pages, document.warnings) == ((2, 4), (), ())
    assert told == [(2, 2, 4), (4, 3, 4)]  # the page, how many are done, how many there are


def test_a_stamp_on_a_scan_does_not_stand_for_its_text() -> None:
    """If the engine finds no more than that, it may be a slide, and nothing is wrong with it."""
    page = "595 0 0 842 0 0 cm /Im1 Do 1 0 0 1 0 0 cm"
    stamp = "q " + page + " Q " + shown("Page 1", 50, 700)
    assert read(scans(stamp), WORDS).sections[0].text == WORDS
    slide = read(scans(stamp), "")
    assert (slide.sections[0].text, slide.warnings, slide.recognised_pages) == ("Page 1", (), ())


def test_what_is_not_recognised_is_reported() -> None:
    """Pages without a result, pages at which the engine fails, and pages beyond the limit."""
    document = read(scans(SCAN, SCAN, SCAN, SCAN), WORDS, "", RecognitionFailed("it takes too much memory"), most=3)
    assert (document.recognised_pages, document.unread_pages) == ((1,), (2, 3, 4))
    said = " ".join(document.warnings)
    assert "page 2 consists of pictures without text, and no text was recognised" in said
    assert "no text was recognised on page 3: it takes too much memory" in said
    assert (
        "no text was recognised on page 4: at most 3 pages of a document are recognised (SESSIONFLEET_OCR_PAGES)"
        in said
    )


def test_a_scan_that_cannot_be_recognised_is_not_damaged() -> None:
    """The refusal says why the engine failed."""
    with pytest.raises(
        Refusal, match="has no text on its only page, and none was recognised: it takes too much"
    ) as told:
        read(scans(SCAN), RecognitionFailed("it takes too much memory"))
    assert told.value.reason is Reason.EMPTY


def test_columns_of_a_page_that_lies_askew_are_read_one_after_the_other() -> None:
    """The lines say by how much it is turned. Row by row, sentences of both columns would alternate."""
    first = [f"left line {number} has five words" for number in range(6)]
    second = [f"right line {number} has five words" for number in range(6)]
    boxes = [
        box(text, x, 40 * row, turned=2.0)
        for row, texts in enumerate(zip(first, second, strict=True))
        for x, text in zip((0, 300), texts, strict=True)
    ]
    boxes.sort(key=lambda found: found.corners[0][1])  # as engines sort them
    assert Recogniser(lambda _: boxes, 1, 60.0).read(None).split("\n") == first + second
    assert [(row[0].text, row[-1].text) for row in rows_of(boxes[::-1])] == [("left", "words")] * 6


CHILD = """
import os, runpy, signal, sys, types
from pathlib import Path
real = Path({child!r})
package = types.ModuleType("workers")
package.__path__ = [str(real.parents[2])]
sys.modules["workers"] = package
from workers.retrieval.documents.recognition import engine
pages = []
def load_engine(threads):
    if {crash_at_load}:
        os.kill(os.getpid(), signal.SIGKILL)
    def recognise(picture):
        pages.append(picture.shape)
        if {crash}:
            os.kill(os.getpid(), signal.SIGSEGV)
        return [engine.TextBox({words!r}, ((0, 0), (200, 0), (200, 20), (0, 20)))]
    return recognise
engine.load_engine = load_engine
sys.path.insert(0, str(real.parent))
import child
child._bypass_workers_init = lambda: None
child.main()
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Children with a double of the engine, which crash when a condition holds."""

    def use(crash: str = "False", *, at_load: bool = False) -> None:
        path = tmp_path / "child.py"
        path.write_text(CHILD.format(child=str(child_process._CHILD), crash=crash, crash_at_load=at_load, words=WORDS))
        monkeypatch.setattr(child_process, "_CHILD", path)

    return use


async def test_recognition_has_a_process_and_limits_of_its_own(
    double: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that looks for pages without text has those of any PDF. One crash costs one page."""
    double("len(pages) == 2")
    limits: list[DocumentLimits] = []
    start = child_process._start

    async def started(settings: dict[str, Any], allowed: DocumentLimits) -> Any:
        limits.append(allowed)
        return await start(settings, allowed)

    monkeypatch.setattr(child_process, "_start", started)
    told: list[tuple[int, int]] = []
    data = scans(shown("Cover", 50, 700), SCAN, SCAN)
    document = await read_document(data, name="a.pdf", recognition=ON, on_page=lambda *page: told.append(page))
    assert [section.text for section in document.sections] == ["Cover", WORDS]
    assert (document.recognised_pages, document.unread_pages) == ((2,), (3,))
    assert [allowed.memory_bytes == ON.memory_bytes for allowed in limits] == [False, True, True]
    assert limits[1].seconds >= limits[0].seconds + 2 * ON.page_seconds
    assert told[-1] == (2, 3)


async def test_without_memory_for_the_models_the_rest_is_read(double: Callable[..., None]) -> None:
    """The system ends the process that loads them; the pages with text do not depend on it."""
    double(at_load=True)
    document = await read_document(scans(shown("Cover", 50, 700), SCAN), name="a.pdf", recognition=ON)
    assert [section.text for section in document.sections] == ["Cover"]
    assert "page 2 consists of pictures without text; text recognition failed: " in document.warnings[0]


@pytest.mark.parametrize("name", ["scan.pdf", "scan.png"])
async def test_without_the_extra_the_error_names_the_command(name: str) -> None:
    """So does the warning, if other pages have text."""
    data = scans(SCAN) if name.endswith(".pdf") else b"\x89PNG\r\n\x1a\n"
    with pytest.raises(errors.DocumentError, match=r"pip install 'sessionfleet\[ocr\]'"):
        await read_document(data, name=name)


def test_the_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the extra is installed."""
    monkeypatch.setattr(recognition_limits, "is_installed", lambda: True)
    assert not RecognitionLimits.of(Settings()).problem
    assert "SESSIONFLEET_OCR" in RecognitionLimits.of(Settings(ocr="off")).problem


@pytest.mark.parametrize(("unread", "recognised", "again"), [([2], [], True), ([], [], False), ([2], [3], False)])
def test_a_document_is_read_again_once_there_is_recognition(
    unread: Sequence[int], recognised: Sequence[int], again: bool
) -> None:
    """Adding it again changes nothing otherwise, and nothing after that."""
    entry = CatalogEntry("a.pdf", "c", "r", "d", 1, "m", 0)
    before = CatalogEntry("a.pdf", "c", "r", "d", 1, "m", 0, unread_pages=unread, recognised_pages=recognised)
    assert (read_with_recognition(entry, before).revision != "r") is again
    after = read_with_recognition(entry, before)
    assert read_with_recognition(entry, after).revision == after.revision
    assert read_with_recognition(entry, None) is entry


def drawn(text: str) -> Any:
    """A picture of a text, as a large font draws it."""
    import pypdfium2

    return pypdfium2.PdfDocument(pages_pdf([shown(text, 50, 700, 24)]))[0].render(scale=1.5).to_pil()


@pytest.mark.parametrize("kind", ["PDF", "PNG", "JPEG", "TIFF"])
async def test_the_engine_reads_scans_and_pictures(kind: str) -> None:
    """Within its limits of memory and time, and without network."""
    pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")
    out = io.BytesIO()
    more = {"save_all": True, "append_images": [drawn("Second page")]} if kind in ("PDF", "TIFF") else {}
    drawn(WORDS).save(out, kind, **more)
    document = await read_document(out.getvalue(), name="scan", recognition=ON)
    texts = [section.text for section in document.sections]
    assert texts == ([WORDS, "Second page"] if more else [WORDS])
    assert list(document.recognised_pages) == list(range(1, len(texts) + 1))


async def test_a_damaged_picture_is_refused() -> None:
    """It is no text."""
    pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")
    with pytest.raises(errors.DocumentCorrupt, match="damaged picture"):
        await read_document(b"\x89PNG\r\n\x1a\n" + bytes(100), name="a.png", recognition=ON)
