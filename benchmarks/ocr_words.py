"""How many words of scans are recognised: `python -m benchmarks.ocr_words FOLDER` (needs the extra `ocr`).

The first page of each PDF of the folder is drawn at 200 dots per inch, turned by one or two degrees, blurred, made
noisy and compressed as JPEG. The words that are read of the result are compared with those that the original has.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from pathlib import Path
from time import monotonic

import numpy as np
import pypdfium2

from benchmarks.pdf_words import words_of
from sessions.errors import DocumentError
from workers.retrieval.documents.reader import read_document
from workers.retrieval.documents.recognition.limits import RecognitionLimits

_LEAST_WORDS = 50
_NOISE = 12.0


def scan(page: pypdfium2.PdfPage, angle: float) -> bytes:
    """A PDF with a picture of the page, as from a scanner on which it does not lie straight."""
    import cv2
    from PIL import Image

    picture = page.render(scale=200 / 72, grayscale=True).to_numpy().squeeze()
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    picture = cv2.GaussianBlur(cv2.warpAffine(picture, turn, (width, height), borderValue=255), (3, 3), 0.8)
    noise = np.random.default_rng(1).normal(5, _NOISE, picture.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(picture * 0.92 + noise, 0, 255).astype(np.uint8)).save(
        out, "PDF", resolution=200, quality=60
    )
    return out.getvalue()


def _original(data: bytes) -> bytes:
    """A PDF of the first page only."""
    document = pypdfium2.PdfDocument.new()
    document.import_pages(pypdfium2.PdfDocument(data), [0])
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


async def compare(path: Path, angle: float) -> tuple[int, int]:
    """The words of a file's first page, and how many of them were recognised."""
    data = await asyncio.to_thread(path.read_bytes)
    original = await read_document(_original(data), name=path.name)
    words = words_of("\n\n".join(section.text for section in original.sections))
    if words.total() < _LEAST_WORDS or original.warnings:
        return 0, 0
    started = monotonic()
    recognised = await read_document(
        scan(pypdfium2.PdfDocument(data)[0], angle), name=path.name, recognition=RecognitionLimits("")
    )
    found = words & words_of("\n\n".join(section.text for section in recognised.sections))
    share = found.total() / words.total()
    print(f"{words.total():6,} {share:7.1%} {monotonic() - started:6.1f} s  {path.name}", flush=True)
    return words.total(), found.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    words = found = 0
    for number, path in enumerate(sorted(options.folder.rglob("*.pdf"))):
        try:
            counts = asyncio.run(compare(path, (-2, -1, 1, 2)[number % 4]))
        except (DocumentError, pypdfium2.PdfiumError) as error:
            print(f"not read: {error}")
            continue
        words, found = words + counts[0], found + counts[1]
    print(f"{found:,} of {words:,} words recognised: {found / max(1, words):.1%}")


if __name__ == "__main__":
    main()
