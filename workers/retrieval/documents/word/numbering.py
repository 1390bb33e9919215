"""Computes the numbers of headings and list items, which a DOCX does not store: '1.2', 'b)', 'iv.'."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.names import names, qn
from workers.retrieval.documents.word.properties import VAL, has, integer, value_of
from workers.retrieval.documents.word.styles import Numbered, ParagraphStyle, Styles

_LEVELS: Final = 9
_LONGEST_LABEL: Final = 50
_MOST_LETTERS: Final = 26 * 5
_BULLET: Final = "-"
_PLACE: Final = re.compile("%([1-9])")
_ABSTRACT, _LIST, _LEVEL = qn("w:abstractNum"), qn("w:num"), qn("w:lvl")
_ABSTRACT_ID, _LIST_ID, _LEVEL_NUMBER = qn("w:abstractNumId"), qn("w:numId"), qn("w:ilvl")
_OVERRIDE, _START_OVERRIDE, _STYLE_LINK = qn("w:lvlOverride"), qn("w:startOverride"), qn("w:numStyleLink")
_START, _FORMAT, _TEXT, _RESTART, _LEGAL = names("w", "start", "numFmt", "lvlText", "lvlRestart", "isLgl")
_PARAGRAPH_STYLE = qn("w:pStyle")
_ROMAN: Final = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
    (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Level:
    """How one level of a list is numbered. `restart` is the 1-based level that restarts it; 0 for none."""

    start: int
    format: str
    text: str
    restart: int | None
    legal: bool


_UNKNOWN: Final = _Level(1, "bullet", "", None, legal=False)


@dataclass(slots=True)
class _List:
    """A list.

    Attributes:
        levels: how its levels are numbered.
        by_style: the levels that belong to styles of paragraphs.
        counters: the numbers of its last paragraphs. Lists of one definition share them.
        starts: the numbers with which the list begins at its first use of a level, instead of continuing the count.
    """

    levels: dict[int, _Level]
    by_style: dict[str, int]
    counters: list[int | None]
    starts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """The lists of one document. Paragraphs are numbered in the order in which they are asked for."""

    def __init__(self, root: Element | None, styles: Styles) -> None:
        self._lists: dict[str, _List] = {}
        if root is not None:
            self._read(root, styles)

    def label(self, numbered: Numbered | None, style: ParagraphStyle) -> tuple[str, int] | None:
        """The label of the next paragraph with this numbering ('-' for a bullet), and its level; None without one."""
        if numbered is None or numbered.id in ("", "0"):
            return None
        found = self._lists.get(numbered.id)
        if found is None:
            return _BULLET, min(max(numbered.level or 0, 0), _LEVELS - 1)
        level = numbered.level if numbered.level is not None else found.by_style.get(style.id, 0)
        level = min(max(level, 0), _LEVELS - 1)
        _count(found, level)
        return _label(found, level), level

    def _read(self, root: Element, styles: Styles) -> None:
        definitions = {each.get(_ABSTRACT_ID, ""): each for each in root.iterfind(_ABSTRACT)}
        lists = {each.get(_LIST_ID, ""): value_of(each, _ABSTRACT_ID) for each in root.iterfind(_LIST)}
        read: dict[str, _List] = {}
        for element in root.iterfind(_LIST):
            definition = _linked(definitions, lists, value_of(element, _ABSTRACT_ID), styles)
            if definition is None:
                continue
            abstract_id = definition.get(_ABSTRACT_ID, "")
            if abstract_id not in read:
                levels = {_number(level): level for level in definition.iterfind(_LEVEL)}
                by_style = {value_of(level, _PARAGRAPH_STYLE): number for number, level in levels.items()}
                read[abstract_id] = _List({n: _level(each) for n, each in levels.items()}, by_style, [None] * _LEVELS)
            self._lists[element.get(_LIST_ID, "")] = _overridden(read[abstract_id], element)


def _linked(definitions: dict[str, Element], lists: dict[str, str], abstract_id: str, styles: Styles) -> Element | None:
    """A definition; one that only names a style of lists is replaced by that style's definition."""
    definition = definitions.get(abstract_id)
    link = "" if definition is None else value_of(definition, _STYLE_LINK)
    if link and (linked := definitions.get(lists.get(styles.numbering(link), ""))) is not None:
        return linked
    return definition


def _overridden(base: _List, element: Element) -> _List:
    """A list of a definition, some levels or starts of which it may override."""
    levels, starts = dict(base.levels), {}
    for override in element.iterfind(_OVERRIDE):
        number = _number(override)
        if (level := override.find(_LEVEL)) is not None:
            levels[number] = _level(level)
        if (start := override.find(_START_OVERRIDE)) is not None:
            starts[number] = integer(start.get(VAL))
    return _List(levels, base.by_style, base.counters, starts)


def _count(found: _List, level: int) -> None:
    """Count a paragraph, and restart the levels below it."""
    for above in range(level):
        if found.counters[above] is None:
            found.counters[above] = _first(found, above)
    current = found.counters[level]
    begins = current is None or level in found.starts
    found.counters[level] = _first(found, level) if begins else (current or 0) + 1
    for below in range(level + 1, _LEVELS):
        restart = found.levels.get(below, _UNKNOWN).restart
        if restart is None or level < restart:
            found.counters[below] = None


def _first(found: _List, level: int) -> int:
    """The number with which a level begins."""
    return found.starts.pop(level, found.levels.get(level, _UNKNOWN).start)


def _label(found: _List, number: int) -> str:
    level = found.levels.get(number, _UNKNOWN)
    if level.format == "bullet":
        return _BULLET

    def place(match: re.Match[str]) -> str:
        other = int(match[1]) - 1
        count = found.counters[other]
        if count is None or other > number:
            return ""
        style = found.levels.get(other, _UNKNOWN).format
        style = "decimal" if level.legal and style != "decimalZero" else style
        return _FORMATS.get(style, str)(count)

    return _PLACE.sub(place, level.text)[:_LONGEST_LABEL].strip()


def _letters(number: int) -> str:
    """A to z, then aa, bb and so on, as Word counts."""
    if not 1 <= number <= _MOST_LETTERS:
        return str(number)
    return chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)


def roman(number: int) -> str:
    """A number in small Roman numerals; those that have none stay as they are."""
    if not 1 <= number < 4000:
        return str(number)
    out = ""
    for value, letters in _ROMAN:
        out += letters * (number // value)
        number %= value
    return out


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


# Other formats, most of them of East Asian languages, become Arabic numerals.
_FORMATS: Final[dict[str, Callable[[int], str]]] = {
    "lowerLetter": _letters,
    "upperLetter": lambda number: _letters(number).upper(),
    "lowerRoman": roman,
    "upperRoman": lambda number: roman(number).upper(),
    "decimalZero": lambda number: f"{number:02}",
    "ordinal": _ordinal,
    "bullet": lambda number: "",
    "none": lambda number: "",
}


def _level(element: Element) -> _Level:
    restart = element.find(_RESTART)
    return _Level(
        start=integer(value_of(element, _START)),
        format=value_of(element, _FORMAT) or "decimal",
        text=value_of(element, _TEXT),
        restart=None if restart is None else integer(restart.get(VAL)),
        legal=has(element, _LEGAL),
    )


def _number(element: Element) -> int:
    return integer(element.get(_LEVEL_NUMBER))
