"""Words of PDFs that Poppler's `pdftotext` reads and Sessionfleet does not: `python -m benchmarks.pdf_words FOLDER`.

For each PDF of the folder, the words of `pdftotext` (Debian: poppler-utils) are counted in our text, each as often as
it occurs. Both texts are treated alike: NFKC, lower case, no format characters, words with a hyphen and words cut at a
line's end are one word, a Chinese, Japanese or Korean character is a word.

    lost      words of pdftotext's reading order that are missing in our text
    both      words that its reading order and its physical layout (-layout) have alike, missing in our text
    letters   those of `lost` whose letters do not even occur in a row: the rest are words that we divide differently
    warned    what the receipt says: nothing, pages that could not be read, or that the document is refused
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sessions.errors import DocumentError
from workers.retrieval.documents.reader import read_document

_HYPHEN = re.compile(r"(?<=\w)(?:[-\u2010\u2011]|[-\u2010]\s*\n\s*)(?=\w)")
_CJK = (
    "\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_IN_ALL = 0.001
_IN_ONE = 0.05


@dataclass
class Row:
    """One file. `refused` is its error; `words` those of pdftotext."""

    name: str
    words: int
    lost: Counter[str] = field(default_factory=Counter)
    both: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    warnings: tuple[str, ...] = ()
    refused: str = ""

    @property
    def share(self) -> float:
        return self.lost.total() / self.words

    @property
    def warned(self) -> str:
        return "refused" if self.refused else "pages" if self.warnings else ""


def words_of(text: str) -> Counter[str]:
    """How often each word occurs."""
    return Counter(_WORD.findall(_HYPHEN.sub("", _alike(text))))


def _alike(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Mn"))


def poppler(path: Path, *options: str) -> str:
    """What pdftotext prints; an empty text if it cannot read the file."""
    command = ["pdftotext", "-q", "-enc", "UTF-8", *options, str(path), "-"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return ""


async def compare(path: Path) -> Row | None:
    """The row of a file; None if pdftotext finds no word in it."""
    flow, layout = words_of(poppler(path)), words_of(poppler(path, "-layout"))
    if not flow:
        return None
    row = Row(path.name, flow.total())
    try:
        document = await read_document(await asyncio.to_thread(path.read_bytes), name=path.name)
    except DocumentError as error:
        row.refused = f"{type(error).__name__}: {error}"
        return row
    row.warnings = tuple(document.warnings)
    text = "\n\n".join(section.text for section in document.sections)
    ours = words_of(text)
    row.lost, row.both = flow - ours, (flow & layout) - ours
    together = re.sub(r"[\W_]+", "", _alike(text))
    row.letters = Counter({word: count for word, count in row.lost.items() if together.count(word) < flow[word]})
    return row


async def compare_all(paths: list[Path]) -> list[Row]:
    """Two files at a time; a line for each is printed as it is done."""
    places = asyncio.Semaphore(2)

    async def one(path: Path) -> Row | None:
        async with places:
            return await compare(path)

    rows = [row for row in await asyncio.gather(*(one(path) for path in paths)) if row]
    return sorted(rows, key=lambda row: -row.lost.total())


def report(rows: list[Row], *, most: int) -> None:
    """The table: files with losses, the worst first; then the sums."""
    print(f"{'words':>8} {'lost':>6} {'share':>7} {'both':>6} {'letters':>7}  warned   file")
    for row in [row for row in rows if row.lost][:most]:
        counts = f"{row.words:8,} {row.lost.total():6,} {row.share:7.2%} {row.both.total():6,} {row.letters.total():7,}"
        print(f"{counts}  {row.warned:8} {row.name}  {' '.join(list(row.lost)[:8])}")
    for row in rows:
        if row.refused:
            print(f"{row.words:8,}  {row.refused}")
    read = [row for row in rows if not row.refused]
    silent = [row for row in read if not row.warnings]
    for title, some in (("all that are read", read), ("without a warning", silent)):
        total = max(1, sum(row.words for row in some))
        columns = {name: sum(getattr(row, name).total() for row in some) for name in ("lost", "both", "letters")}
        shares = ", ".join(f"{name} {count:,} ({count / total:.3%})" for name, count in columns.items())
        worst = [row for row in some if row.share > _IN_ONE]
        print(f"{title}: {len(some)} files, {total:,} words; {shares}; over {_IN_ONE:.0%}: {len(worst)} files")
    print(f"targets: at most {_IN_ALL:.1%} lost, and no file over {_IN_ONE:.0%} without a warning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=40, help="rows to print")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() == ".pdf")
    report(asyncio.run(compare_all(paths)), most=options.most)


if __name__ == "__main__":
    main()
