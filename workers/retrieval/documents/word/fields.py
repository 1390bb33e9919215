"""Finds the text of fields that is not part of the document: their instructions, and tables of contents.

A field is a sequence of runs: 'begin', the instruction, 'separate', the result, 'end'. It can reach over many
paragraphs, and contain other fields. Text can stand in an instruction, too, where one field computes a part of another.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.names import qn

LISTS: Final = frozenset({"TOC", "INDEX", "TOA", "RD"})
"""Fields that repeat the document's headings, captions or terms with the numbers of their pages."""
PAGE_NUMBERS: Final = frozenset({"PAGE", "NUMPAGES", "SECTIONPAGES", "SECTION"})

_FIELD, _KIND, _INSTRUCTION = qn("w:fldChar"), qn("w:fldCharType"), qn("w:instrText")
_LONGEST_NAME: Final = 200


@dataclass(slots=True)
class _Field:
    begin: int
    instruction: str = ""
    result: int | None = None


def field_name(instruction: str | None) -> str:
    """The name with which a field's instruction begins: 'TOC'."""
    return next(iter((instruction or "").split(maxsplit=1)), "").upper()


def skipped_by_fields(root: Element, results_of: Collection[str]) -> set[Element]:
    """The leaves below `root` that are instructions, or results of the fields named. Fields without an end are none."""
    if next(root.iter(_FIELD), None) is None:
        return set()
    elements = list(root.iter())
    ranges: list[tuple[int, int]] = []
    open_fields: list[_Field] = []
    for number, element in enumerate(elements):
        if element.tag == _INSTRUCTION:
            if open_fields and open_fields[-1].result is None and len(open_fields[-1].instruction) < _LONGEST_NAME:
                open_fields[-1].instruction += element.text or ""
        elif element.tag == _FIELD:
            kind = element.get(_KIND)
            if kind == "begin":
                open_fields.append(_Field(number))
            elif kind == "separate" and open_fields:
                open_fields[-1].result = number
            elif kind == "end" and open_fields:
                field = open_fields.pop()
                is_skipped = field.result is None or field_name(field.instruction) in results_of
                ranges.append((field.begin, number if is_skipped or field.result is None else field.result))
    return _leaves(elements, ranges)


def _leaves(elements: list[Element], ranges: list[tuple[int, int]]) -> set[Element]:
    """The elements without children in the ranges; one with children may end after its range."""
    skipped: set[Element] = set()
    end = 0
    for start, stop in sorted(ranges):
        skipped.update(each for each in elements[max(start, end) : stop] if not len(each))
        end = max(end, stop)
    return skipped
