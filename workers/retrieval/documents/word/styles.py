"""What the styles of a DOCX say about paragraphs and runs: headings, numbering, and hidden text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.names import names, qn
from workers.retrieval.documents.word.properties import VAL, integer, is_on, value_of

_HEADING: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
_DEEPEST_STYLE: Final = 20
_DEEPEST_HEADING: Final = 9
_STYLE, _NAME, _BASE, _PPR, _RPR = names("w", "style", "name", "basedOn", "pPr", "rPr")
_PARAGRAPH_STYLE, _CHARACTER_STYLE = qn("w:pStyle"), qn("w:rStyle")
_OUTLINE_LEVEL, _VANISH, _NUMBERING = qn("w:outlineLvl"), qn("w:vanish"), qn("w:numPr")
_NUMBERING_ID, _NUMBERING_LEVEL = qn("w:numId"), qn("w:ilvl")
_ID, _TYPE, _IS_DEFAULT = qn("w:styleId"), qn("w:type"), qn("w:default")


@dataclass(frozen=True, slots=True)
class Numbered:
    """The numbering of a paragraph.

    Attributes:
        id: of a list in the numbering part; '0' if the paragraph explicitly has no number.
        level: 0-based; None if not stated.
    """

    id: str
    level: int | None


@dataclass(frozen=True, slots=True)
class ParagraphStyle:
    """What a style, with the styles that it is based on, says about its paragraphs.

    Attributes:
        id: the style's id; '' if the document does not define it.
        heading: the level of a heading: 0 for the title, then 1 to 9; None for text.
        hidden: whether the text is hidden; None if the style does not say.
        numbered: the numbering, if there is one.
        is_bullet: whether it is Word's built-in style of a bullet list.
    """

    id: str = ""
    heading: int | None = None
    hidden: bool | None = None
    numbered: Numbered | None = None
    is_bullet: bool = False


class Styles:
    """The styles of one document."""

    def __init__(self, root: Element | None) -> None:
        self._styles: dict[tuple[str, str], Element] = {}
        self._default = ""
        self._paragraph: dict[str, ParagraphStyle] = {}
        self._hides: dict[str, bool | None] = {}
        if root is None:
            return
        for style in root.iter(_STYLE):
            kind, style_id = style.get(_TYPE, "paragraph"), style.get(_ID, "")
            self._styles[kind, style_id] = style
            if kind == "paragraph" and is_on(style.get(_IS_DEFAULT, "0")):
                self._default = style_id

    def paragraph(self, properties: Element | None) -> ParagraphStyle:
        """The style of a paragraph with these properties (`w:pPr`)."""
        style = None if properties is None else properties.find(_PARAGRAPH_STYLE)
        style_id = self._default if style is None else style.get(VAL, "")
        if style_id not in self._paragraph:
            self._paragraph[style_id] = self._paragraph_style(style_id)
        return self._paragraph[style_id]

    def hides(self, run: Element | None, paragraph: ParagraphStyle) -> bool:
        """Whether a run with these properties (`w:rPr`) is hidden. What it says itself precedes the styles."""
        if run is None:
            return bool(paragraph.hidden)
        if (direct := run.find(_VANISH)) is not None:
            return is_on(direct.get(VAL))
        style = run.find(_CHARACTER_STYLE)
        if style is None:
            return bool(paragraph.hidden)
        # The standard says that a run is shown if both styles hide it.
        return bool(paragraph.hidden) != bool(self._character_hides(style.get(VAL, "")))

    def numbering(self, style_id: str) -> str:
        """The id of the list that belongs to a style of lists; '' if there is none."""
        style = self._styles.get(("numbering", style_id))
        found = None if style is None else numbering_of(style.find(_PPR), None)
        return found.id if found else ""

    def _character_hides(self, style_id: str) -> bool | None:
        if style_id not in self._hides:
            self._hides[style_id] = _first_vanish(list(self._chain("character", style_id)))
        return self._hides[style_id]

    def _paragraph_style(self, style_id: str) -> ParagraphStyle:
        chain = list(self._chain("paragraph", style_id))
        numbered = None
        for style in reversed(chain):
            numbered = numbering_of(style.find(_PPR), numbered)
        return ParagraphStyle(
            style_id,
            heading=_heading(chain),
            hidden=_first_vanish(chain),
            numbered=numbered,
            is_bullet=any(value_of(style, _NAME).startswith("List Bullet") for style in chain),
        )

    def _chain(self, kind: str, style_id: str) -> Iterator[Element]:
        """A style and those that it is based on."""
        for _ in range(_DEEPEST_STYLE):
            style = self._styles.get((kind, style_id))
            if style is None:
                return
            yield style
            style_id = value_of(style, _BASE)


def numbering_of(properties: Element | None, inherited: Numbered | None) -> Numbered | None:
    """The numbering in a paragraph's or style's properties (`w:pPr`), completed by the one that it inherits."""
    found = None if properties is None else properties.find(_NUMBERING)
    if found is None:
        return inherited
    number, level = found.find(_NUMBERING_ID), found.find(_NUMBERING_LEVEL)
    return Numbered(
        number.get(VAL, "") if number is not None else inherited.id if inherited else "",
        integer(level.get(VAL)) if level is not None else inherited.level if inherited else None,
    )


def heading_of(properties: Element | None, style: ParagraphStyle) -> int | None:
    """The heading level of a paragraph with these properties (`w:pPr`); None for text."""
    level = None if properties is None else properties.find(_OUTLINE_LEVEL)
    if level is None or style.heading == 0:
        return style.heading
    return _heading_level(level)


def _heading(chain: Sequence[Element]) -> int | None:
    """A style's heading level. Word stores the names of built-in styles in English, in whatever language it runs."""
    for style in chain:
        name = value_of(style, _NAME)
        if name.lower() == "title":
            return 0
        level = style.find(f"{_PPR}/{_OUTLINE_LEVEL}")
        if level is not None:
            return _heading_level(level)
        if found := _HEADING.fullmatch(name):
            return int(found[1])
    return None


def _heading_level(level: Element) -> int | None:
    number = integer(level.get(VAL)) + 1
    return number if 1 <= number <= _DEEPEST_HEADING else None


def _first_vanish(chain: Sequence[Element]) -> bool | None:
    for style in chain:
        if (found := style.find(f"{_RPR}/{_VANISH}")) is not None:
            return is_on(found.get(VAL))
    return None
