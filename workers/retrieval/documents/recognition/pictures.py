"""Pictures as documents: PNG, JPEG, and TIFF with its pages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

from workers.retrieval.documents.layout.lines import join_lines, words_with_hyphens
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.plain import clean
from workers.retrieval.documents.recognition.engine import LONGEST_SIDE, RecognitionFailed
from workers.retrieval.documents.recognition.page_text import Recogniser
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document, Section

_FORMATS: Final = ("PNG", "JPEG", "TIFF")
_MOST_PIXELS: Final = 100_000_000


def read_picture(
    data: bytes, limits: DocumentLimits, recogniser: Recogniser, on_page: Callable[[int, int, int], None]
) -> Document:
    """The text of a picture, one section for each page.

    Args:
        on_page: called before each page with its number (1-based), how many pages are done, and how many there are.

    Raises:
        Refusal: it is damaged or too large, or no text was recognised in it.
    """
    texts: list[str] = []
    problems: dict[int, str] = {}
    count = 1
    for number, count, picture in _pages(data, recogniser.pages):
        on_page(number, number - 1, count)
        try:
            text = clean(recogniser.read(picture))
            texts.append(join_lines(text, words_with_hyphens([text])))
        except RecognitionFailed as failed:
            texts.append("")
            problems[number] = str(failed)
        limits.check_chars(sum(map(len, texts)))
    sections = [Section(text, number) for number, text in enumerate(texts, start=1) if text.strip()]
    if not sections:
        said = "; ".join(sorted(set(problems.values())))
        raise Refusal(Reason.EMPTY, "has no text that can be recognised" + (f" ({said})" if said else ""))
    told = [f"page {number} could not be recognised: {problem}" for number, problem in problems.items()]
    if count > len(texts):
        told.append(f"only the first {len(texts)} of {count:,} pages were recognised (SESSIONFLEET_OCR_PAGES)")
    recognised = tuple(section.page for section in sections if section.page)
    unread = (*problems, *range(len(texts) + 1, count + 1))
    return Document("picture", sections, count, tuple(told), unread, recognised)


def _pages(data: bytes, most: int) -> Iterator[tuple[int, int, Any]]:
    """Each page with its number and the number of pages.

    Raises:
        Refusal: the picture is damaged or too large.
    """
    import numpy  # noqa: PLC0415 - slow to import, and of an extra
    from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError  # noqa: PLC0415 - of the extra `ocr`

    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            count = getattr(opened, "n_frames", 1)
            for number, frame in enumerate(ImageSequence.Iterator(opened), start=1):
                if number > most:
                    return
                page = ImageOps.exif_transpose(frame).convert("RGB")
                page.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
                yield number, count, numpy.ascontiguousarray(numpy.asarray(page)[:, :, ::-1])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        problem = f"has more than {_MOST_PIXELS:,} pixels; make it smaller"
        raise Refusal(Reason.TOO_LARGE, problem) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise Refusal(Reason.CORRUPT, f"is a damaged picture ({str(error)[:200]}); send it again") from error
