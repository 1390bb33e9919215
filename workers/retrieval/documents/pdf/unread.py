"""Collects the pages of a PDF that could not be read, or in part only, and says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from workers.retrieval.documents.pdf.page_text import PageText
from workers.retrieval.documents.refusal import Reason, Refusal

# A page is reported if this share of its characters has no meaning. Logos and bullets often have none.
_REPORTED: Final = 0.05
_MOSTLY: Final = 0.5


class UnreadPages:
    """The pages that could not be read. Numbers are 1-based.

    Args:
        without_recognition: why there is no text recognition; '' if there is.
    """

    def __init__(self, without_recognition: str) -> None:
        self._advice = f"; {without_recognition}" if without_recognition else ", and no text was recognised"
        self._unrecognised: dict[int, str] = {}
        self._damaged: dict[int, str] = {}
        self._unmapped: list[int] = []
        self._pictured: list[int] = []

    def damaged(self, number: int, problem: str) -> None:
        """Note a damaged page; `problem` is a sentence without its full stop."""
        self._damaged.setdefault(number, problem)

    def unrecognised(self, number: int, problem: str) -> None:
        """Note a page without text that can be read, and why none was recognised."""
        self._unrecognised[number] = problem

    def needing_recognition(self, pages: Sequence[PageText]) -> list[int]:
        """The pages that are not damaged and have no text, or too little of it, that can be read."""
        return [
            number
            for number, page in enumerate(pages, start=1)
            if number not in self._damaged and (_is_unmapped(page) or page.pictured or page.stamped)
        ]

    def check(self, pages: Sequence[PageText]) -> None:
        """Note the pages without a text that can be read.

        Raises:
            Refusal: no page has text, or most of the text cannot be read.
        """
        for number, page in enumerate(pages, start=1):
            if number in self._unrecognised or number in self._damaged:
                continue
            if _is_unmapped(page):
                self._unmapped.append(number)
            elif page.pictured:
                self._pictured.append(number)
        glyphs = sum(page.glyphs for page in pages)
        unmapped = sum(page.unmapped for page in pages)
        if glyphs and unmapped > _MOSTLY * glyphs:
            problem = "does not say which letters most of its text consists of"
            raise Refusal(Reason.EMPTY, f"{problem} ({unmapped / glyphs:.0%}){self._advice}")
        if not any(page.text.strip() for page in pages):
            self._refuse(len(pages))

    def numbers(self) -> tuple[int, ...]:
        """All pages that could not be read, or in part only."""
        return tuple(sorted({*self._damaged, *self._unmapped, *self._pictured, *self._unrecognised}))

    def warnings(self) -> tuple[str, ...]:
        """A sentence for each reason, with the pages."""
        said = [
            f"{_listed(numbers)} could not be read, or in part only: {problem}"
            for problem, numbers in _by_problem(self._damaged)
        ]
        if self._unmapped:
            problem = "the file does not say which letters their text consists of"
            said.append(f"{_listed(self._unmapped)} could not be read, or in part only: {problem}{self._advice}")
        if self._pictured:
            verb = "consists" if len(self._pictured) == 1 else "consist"
            said.append(f"{_listed(self._pictured)} {verb} of pictures without text{self._advice}")
        for problem, numbers in _by_problem(self._unrecognised):
            said.append(f"no text was recognised on {_listed(numbers)}: {problem}")
        return tuple(said)

    def _refuse(self, count: int) -> None:
        if self._damaged:
            number, problem = min(self._damaged.items())
            what = f"is damaged: none of its {count:,} pages can be read (page {number}: {problem})"
            raise Refusal(Reason.CORRUPT, f"{what}; open it in a PDF program and save it again")
        failed = sorted(set(self._unrecognised.values()))
        why = f", and none was recognised: {failed[0]}" if failed else self._advice
        problem = f"has no text on its {_pages(count)}{why}"
        raise Refusal(Reason.EMPTY, problem)


def _is_unmapped(page: PageText) -> bool:
    return page.unmapped > _REPORTED * page.glyphs


def _pages(count: int) -> str:
    return "only page" if count == 1 else f"{count:,} pages"


def _by_problem(damaged: dict[int, str]) -> Iterable[tuple[str, list[int]]]:
    ordered = sorted(damaged.items(), key=lambda item: (item[1], item[0]))
    for problem, group in groupby(ordered, key=lambda item: item[1]):
        yield problem, [number for number, _ in group]


def _listed(numbers: Sequence[int]) -> str:
    """Page numbers as a reader writes them: 'pages 2, 5 to 9'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"{'page' if len(numbers) == 1 else 'pages'} {', '.join(told)}"
