"""The footnotes and endnotes of a DOCX, which are numbered in the order in which the text refers to them."""

from __future__ import annotations

from collections import Counter
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.inline import Reference
from workers.retrieval.documents.word.names import qn
from workers.retrieval.documents.word.numbering import roman
from workers.retrieval.documents.word.package import Package

_ID: Final = qn("w:id")


class Notes:
    """The notes of one document."""

    def __init__(self, package: Package, main_part: str) -> None:
        self._counts: Counter[str] = Counter()
        self._notes: dict[tuple[str, str], tuple[str, Element, Element]] = {}
        for kind in ("footnote", "endnote"):
            if (found := package.related(main_part, f"{kind}s")) is not None:
                part, root = found
                for note in root.iterfind(qn(f"w:{kind}")):
                    self._notes[kind, note.get(_ID, "")] = (part, root, note)

    def next_mark(self, kind: str) -> str:
        """The mark of the next note: footnotes have Arabic numerals, endnotes Roman ones, as in Word."""
        self._counts[kind] += 1
        number = self._counts[kind]
        return f"[{number if kind == 'footnote' else roman(number)}]"

    def take(self, reference: Reference) -> tuple[str, Element, Element] | None:
        """A note with the name and the root of its part. Each is given once, however many references it has."""
        return self._notes.pop((reference.kind, reference.id), None)
