"""The text of one paragraph: its runs, whatever elements they are wrapped in, without what was deleted or is hidden.

Word wraps runs in dozens of elements (tracked insertions, content controls, links, smart tags), and programs invent
more. So everything is read except what is known not to be text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.word.fields import field_name
from workers.retrieval.documents.word.formula import Formulas
from workers.retrieval.documents.word.names import names, qn
from workers.retrieval.documents.word.properties import VAL, has, integer, is_on, value_of
from workers.retrieval.documents.word.styles import ParagraphStyle, Styles
from workers.retrieval.documents.word.symbols import readable, symbol

TEXT_BOX: Final = qn("w:txbxContent")
_RUN_PROPERTIES, _FONTS = qn("w:rPr"), qn("w:rFonts")
_ASCII, _FONT, _CHAR, _ID, _INSTRUCTION = names("w", "ascii", "font", "char", "id", "instr")
_CUSTOM_MARK, _STRING, _TEXT = qn("w:customMarkFollows"), "string", qn("w:t")
DRAWN: Final = (qn("a:p"), qn("dgm:relIds"), qn("c:chart"), qn("v:textpath"), qn("wp:docPr"))
"""Elements of drawings that have a text, or refer to one."""
_CHOICE, _FALLBACK = qn("mc:Choice"), qn("mc:Fallback")
_CHECKED, _DEFAULT, _RESULT, _ENTRY = names("w", "checked", "default", "result", "listEntry")

SKIPPED: Final = frozenset([
    *names("w", "del", "moveFrom", "delText", "instrText", "delInstrText", "rt"),
    *names("w", "pPr", "rPr", "tblPr", "tblGrid", "trPr", "tcPr", "sdtPr", "sdtEndPr", "sectPr", "smartTagPr"),
    *names("w", "customXmlPr", "rubyPr", "pPrChange", "rPrChange", "object"),
    *names("w", "commentReference", "annotationRef", "footnoteRef", "endnoteRef", "fldData"),
    *names("m", "rPr", "ctrlPr", "oMathParaPr"),
])  # fmt: skip
"""Elements whose content is not text of the document: deleted, an instruction, a property, or a file of its own."""

# Elements that stand for a character.
_CHARACTERS: Final = {
    **dict.fromkeys(names("w", "tab", "ptab"), "\t"),
    **dict.fromkeys(names("w", "br", "cr"), "\n"),
    qn("w:noBreakHyphen"): "-",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A footnote or endnote that a paragraph refers to: its kind, its id, and the mark that stands in the text."""

    kind: str
    id: str
    mark: str


@dataclass(slots=True)
class Inline:
    """What one paragraph contains.

    Attributes:
        style: the paragraph's style.
        parts: its text in pieces.
        references: the notes that it refers to.
        objects: text boxes, diagrams and charts that are anchored in it.
    """

    style: ParagraphStyle
    parts: list[str] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    objects: list[Element] = field(default_factory=list)


class InlineReader:
    """Reads the paragraphs of one part of a DOCX."""

    def __init__(
        self, styles: Styles, *, skipped: set[Element], fields: frozenset[str], mark: Callable[[str], str]
    ) -> None:
        """Prepare for a part.

        Args:
            styles: the document's styles.
            skipped: elements that are not text, since they belong to a field.
            fields: the names of fields whose results are not text.
            mark: counts a note of a kind ('footnote') and gives its mark.
        """
        self._styles = styles
        self._skipped = skipped
        self._fields = fields
        self._mark = mark
        self._style = ParagraphStyle()
        self._formulas = Formulas(self._is_skipped)
        self._handlers: dict[str, Callable[[Element, Inline], None]] = {
            qn("w:r"): self._run,
            _TEXT: lambda each, into: self._text(each, into, ""),
            qn("m:t"): lambda each, into: self._text(each, into, ""),
            qn("w:sym"): lambda each, into: into.parts.append(symbol(each.get(_FONT, ""), each.get(_CHAR, ""))),
            qn("w:fldSimple"): self._simple_field,
            qn("w:ffData"): lambda each, into: into.parts.append(_form_field(each)),
            qn("w:footnoteReference"): lambda each, into: self._reference("footnote", each, into),
            qn("w:endnoteReference"): lambda each, into: self._reference("endnote", each, into),
            qn("mc:AlternateContent"): self._alternatives,
            qn("m:oMath"): lambda each, into: into.parts.append(self._formulas.line(each)),
            **dict.fromkeys([TEXT_BOX, *DRAWN], _object),
        }

    def read(self, paragraph: Element, style: ParagraphStyle) -> Inline:
        """The contents of a paragraph (`w:p`)."""
        self._style = style
        found = Inline(style)
        self._children(paragraph, found)
        return found

    def _children(self, element: Element, into: Inline) -> None:
        for child in element:
            self._element(child, into)

    def _element(self, child: Element, into: Inline) -> None:
        tag = child.tag
        if tag in SKIPPED or child in self._skipped:
            return
        if handler := self._handlers.get(tag):
            handler(child, into)
        elif char := _CHARACTERS.get(tag):
            into.parts.append(char)
        else:
            self._children(child, into)

    def _run(self, run: Element, into: Inline) -> None:
        properties = run.find(_RUN_PROPERTIES)
        if self._styles.hides(properties, self._style):
            return
        font = "" if properties is None else _font(properties)
        for child in run:
            if child.tag == _TEXT:
                self._text(child, into, font)
            else:
                self._element(child, into)

    def _text(self, element: Element, into: Inline, font: str) -> None:
        if element.text and element not in self._skipped:
            # Line breaks are elements; those in the text come from a program that indents XML.
            into.parts.append(readable(element.text.replace("\n", " "), font))

    def _simple_field(self, element: Element, into: Inline) -> None:
        if field_name(element.get(_INSTRUCTION)) not in self._fields:
            self._children(element, into)

    def _reference(self, kind: str, element: Element, into: Inline) -> None:
        mark = "" if is_on(element.get(_CUSTOM_MARK, "0")) else self._mark(kind)
        into.references.append(Reference(kind, element.get(_ID, ""), mark))
        into.parts.append(mark)

    def _alternatives(self, element: Element, into: Inline) -> None:
        """The first alternative that has something to read. The others say the same for older programs."""
        for alternative in element:
            if alternative.tag in (_CHOICE, _FALLBACK):
                found = Inline(into.style)
                self._children(alternative, found)
                if found.objects or found.references or "".join(found.parts).strip():
                    into.parts += found.parts
                    into.references += found.references
                    into.objects += found.objects
                    return

    def _is_skipped(self, element: Element) -> bool:
        if element.tag in SKIPPED or element in self._skipped:
            return True
        properties = element.find(_RUN_PROPERTIES)
        return properties is not None and self._styles.hides(properties, self._style)


def _object(element: Element, into: Inline) -> None:
    into.objects.append(element)


def _font(properties: Element) -> str:
    fonts = properties.find(_FONTS)
    return "" if fonts is None else fonts.get(_ASCII, "")


def _form_field(data: Element) -> str:
    """The value of an old form field that has no text: a box to tick, or a list to choose from."""
    box = data.find(qn("w:checkBox"))
    if box is not None:
        return "☒" if has(box, _DEFAULT if box.find(_CHECKED) is None else _CHECKED) else "☐"
    choice = data.find(qn("w:ddList"))
    if choice is None:
        return ""
    entries, number = choice.findall(_ENTRY), integer(value_of(choice, _RESULT))
    return entries[number].get(VAL, "") if 0 <= number < len(entries) else ""
