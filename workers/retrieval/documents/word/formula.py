"""Writes formulas (Office Math) in one line, as people type them: 'a/b', 'x^2', 'sqrt(x)' as '√(x)'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.names import names, qn

_TEXTS: Final = frozenset({qn("m:t"), qn("w:t")})
_CHAR, _BEGIN, _END, _SEPARATOR, _VAL = names("m", "chr", "begChr", "endChr", "sepChr", "val")
_BASE, _SUB, _SUP, _NAME, _DEGREE, _NUMERATOR, _DENOMINATOR, _LIMIT = names(
    "m", "e", "sub", "sup", "fName", "deg", "num", "den", "lim"
)
_ROW: Final = qn("m:mr")
_INTEGRAL: Final = "∫"


class Formulas:
    """Writes formulas in one line. `is_skipped` says which elements are not part of the text, such as deleted ones."""

    def __init__(self, is_skipped: Callable[[Element], bool]) -> None:
        self._is_skipped = is_skipped
        self._structures: dict[str, Callable[[Element], str]] = {
            qn("m:f"): lambda each: f"{self._part(each, _NUMERATOR)}/{self._part(each, _DENOMINATOR)}",
            qn("m:sSup"): lambda each: self._plain(each, _BASE) + self._script("^", each, _SUP),
            qn("m:sSub"): lambda each: self._plain(each, _BASE) + self._script("_", each, _SUB),
            qn("m:sSubSup"): lambda each: self._plain(each, _BASE) + self._scripts(each),
            qn("m:sPre"): lambda each: f"{self._scripts(each)} {self._plain(each, _BASE)}",
            qn("m:rad"): lambda each: f"{self._plain(each, _DEGREE)}√{self._part(each, _BASE)}",
            qn("m:nary"): self._nary,
            qn("m:d"): self._delimited,
            qn("m:func"): lambda each: f"{self._plain(each, _NAME)} {self._plain(each, _BASE)}",
            qn("m:limLow"): lambda each: self._plain(each, _BASE) + self._script("_", each, _LIMIT),
            qn("m:limUpp"): lambda each: self._plain(each, _BASE) + self._script("^", each, _LIMIT),
            qn("m:m"): self._matrix,
            qn("m:eqArr"): lambda each: "\n".join(map(self.line, each.iterfind(_BASE))),
        }

    def line(self, element: Element) -> str:
        """The text of a formula, or of a part of one."""
        parts = []
        for child in element:
            if self._is_skipped(child):
                continue
            if child.tag in _TEXTS:
                parts.append(child.text or "")
            elif structure := self._structures.get(child.tag):
                parts.append(structure(child))
            else:
                parts.append(self.line(child))
        return "".join(parts)

    def _plain(self, element: Element, name: str) -> str:
        part = element.find(name)
        return "" if part is None else self.line(part)

    def _part(self, element: Element, name: str) -> str:
        """A part in brackets, unless it is a single number or name."""
        text = self._plain(element, name).strip()
        return text if text.isalnum() or not text else f"({text})"

    def _script(self, mark: str, element: Element, name: str) -> str:
        text = self._part(element, name)
        return f"{mark}{text}" if text else ""

    def _scripts(self, element: Element) -> str:
        return self._script("_", element, _SUB) + self._script("^", element, _SUP)

    def _nary(self, element: Element) -> str:
        return f"{_property(element, 'nary', _CHAR, _INTEGRAL)}{self._scripts(element)} {self._plain(element, _BASE)}"

    def _delimited(self, element: Element) -> str:
        begin, end, separator = (
            _property(element, "d", name, usual) for name, usual in ((_BEGIN, "("), (_END, ")"), (_SEPARATOR, "|"))
        )
        return begin + separator.join(map(self.line, element.iterfind(_BASE))) + end

    def _matrix(self, element: Element) -> str:
        rows = (", ".join(map(self.line, row.iterfind(_BASE))) for row in element.iterfind(_ROW))
        return "[" + "; ".join(rows) + "]"


def _property(element: Element, structure: str, name: str, usual: str) -> str:
    found = element.find(f"{qn(f'm:{structure}Pr')}/{name}")
    return usual if found is None else found.get(_VAL, "")
