"""Recognises the text of those pages of a PDF that have none that can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pypdfium2

from workers.retrieval.documents.pdf.page_text import PageText
from workers.retrieval.documents.pdf.unread import UnreadPages
from workers.retrieval.documents.recognition.engine import LONGEST_SIDE, RecognitionFailed
from workers.retrieval.documents.recognition.page_text import Recogniser

_DOTS_PER_INCH: Final = 150
_POINTS_PER_INCH: Final = 72


def recognise_pages(
    document: pypdfium2.PdfDocument,
    pages: list[PageText],
    numbers: Sequence[int],
    unread: UnreadPages,
    recogniser: Recogniser,
    on_page: Callable[[int, int, int], None],
) -> None:
    """Replace the text of pages by what is recognised on them, if that is more.

    Args:
        numbers: the pages, 1-based. Those beyond the recogniser's limit, and those it fails at, are noted in `unread`.
        on_page: called before each page with its number, how many pages of the document are done, and how many it has.
    """
    for done, number in enumerate(numbers[: recogniser.pages]):
        on_page(number, len(pages) - len(numbers) + done, len(pages))
        try:
            text = recogniser.read(_picture(document, number - 1))
        except (RecognitionFailed, pypdfium2.PdfiumError) as failed:
            unread.unrecognised(number, str(failed))
            continue
        page = pages[number - 1]
        if len("".join(text.split())) > len("".join(page.text.split())):
            pages[number - 1] = replace(page, text=text, unmapped=0, pictured=False, recognised=True)
    for number in numbers[recogniser.pages :]:
        problem = f"at most {recogniser.pages:,} pages of a document are recognised (SESSIONFLEET_OCR_PAGES)"
        unread.unrecognised(number, problem)


def _picture(document: pypdfium2.PdfDocument, number: int) -> Any:
    page = document[number]
    try:
        longest = max(page.get_size()) / _POINTS_PER_INCH  # a page may be as large as a poster
        scale = min(_DOTS_PER_INCH, LONGEST_SIDE / max(longest, 0.01)) / _POINTS_PER_INCH
        return page.render(scale=scale).to_numpy()
    finally:
        page.close()
