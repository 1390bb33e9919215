"""Makes text of the nodes of an HTML page: spaces, line breaks, list marks, and the texts of pictures and formulas."""

from __future__ import annotations

import re
from typing import Final

from selectolax.lexbor import LexborNode

from workers.retrieval.documents.html.tree import number_in
from workers.retrieval.documents.plain import clean, flow, one_line

_BLOCKS: Final = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "details", "dialog", "div", "dl",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "iframe", "legend", "main", "menu",
    "noscript", "ol", "p", "section", "summary", "svg", "table", "template", "ul",
})  # fmt: skip
# These elements begin a new line; blocks are surrounded by blank lines.
_LINES: Final = frozenset({"tr", "dd", "dt", "br", "option", "text", "desc", "title"})
# Browsers draw these apart from each other, even if no space is between them.
_APART: Final = frozenset({"a", "button", "label", "input", "img"})
_LISTS: Final = frozenset({"ol", "ul", "menu"})
# Marks the end of a cell until `_tidy` has removed the marks of empty cells. A `|` can be a part of a cell; this
# character occurs in no text.
_CELL_END: Final = "\ufdd0"
_LONE_MARK: Final = re.compile(r"^(-|\d+\.)\n+(?!-|\d+\. )", re.MULTILINE)
_POWER: Final = re.compile(r"[-+\u2212]?\d{1,3}|n")
_NO_ALT: Final = re.compile(
    r"\W*|\S+\.(?:png|jpe?g|gif|svg|webp|bmp|avif)|(?:image|photo|picture|logo|icon|img|banner|thumbnail)s?",
    re.IGNORECASE,
)


class InlineText:
    """Collects the text of nodes as they open and close."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._lists: list[int | None] = []  # the number of the last item of each open list; None for bullets
        self._closed = ""  # the element that was closed just before
        self._brackets = 0

    def add(self, node: LexborNode, opens: bool, *, pre: bool = False) -> None:
        """Add a text, or what an element's begin or end says."""
        tag = node.tag or ""
        if tag == "-text":
            text = node.text()
            self._add(text if pre else _spaced(text))
        elif opens:
            self._open(node, tag)
        else:
            self._close(tag)

    def formula(self, node: LexborNode) -> None:
        """Add a formula as it was written, in TeX, or else its signs."""
        written = node.attributes.get("alttext")
        source = node.css_first("annotation[encoding*=tex i]") if not written else None
        text = written or (source.text() if source is not None else " ".join(node.text(separator=" ").split()))
        self._add(f" {text.strip()} ")

    def take(self, *, pre: bool = False) -> str:
        """What was collected since the last call."""
        text = self._taken()
        return (clean(text) if pre else _tidy(text)).replace(_CELL_END, "|")

    def take_line(self) -> str:
        """The same as one line, for a cell."""
        return one_line(self._taken())

    def _taken(self) -> str:
        text = "".join(self._parts)
        self._parts = []
        self._closed = ""
        return text

    def _add(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._closed = ""

    def _open(self, node: LexborNode, tag: str) -> None:
        if tag in _APART and self._closed in _APART:
            self._add(" ")
        if tag in _LISTS:
            start = number_in(node, "start")
            self._lists.append(None if tag != "ol" else 0 if start is None else start - 1)
        if tag == "li":
            self._add(self._item(node))
        elif tag in ("img", "area"):
            self._picture(node)
        elif tag == "sup":
            self._raised(node)
        elif tag in _LINES or tag in _BLOCKS:
            self._add("\n" if tag in _LINES else "\n\n")
        elif "-" in tag:
            self._add(" ")  # nothing says whether a custom element is a block

    def _close(self, tag: str) -> None:
        if tag in _LISTS and self._lists:
            self._lists.pop()
        if tag == "sup" and self._brackets:
            self._brackets -= 1
            self._add("]")
        elif tag in ("td", "th"):
            self._add(f" {_CELL_END} ")
        elif tag in _BLOCKS:
            self._add("\n\n")
        elif "-" in tag:
            self._add(" ")
        self._closed = tag

    def _item(self, node: LexborNode) -> str:
        if not self._lists or (last := self._lists[-1]) is None:
            return "\n- "
        value = number_in(node, "value")
        self._lists[-1] = number = last + 1 if value is None else value
        return f"\n{number}. "

    def _picture(self, node: LexborNode) -> None:
        alt = " ".join((node.attributes.get("alt") or "").split())
        if not _NO_ALT.fullmatch(alt):
            self._add(f" {alt} ")
        self._closed = "img"

    def _raised(self, node: LexborNode) -> None:
        """10<sup>6</sup> is not 106, and a number that leads to a note is not part of the word before it."""
        text = node.text().strip()
        if node.css_first("a") is not None and text.isalnum():
            self._brackets += 1
            self._add("[")
        elif _POWER.fullmatch(text):
            self._add("^")


def _spaced(text: str) -> str:
    """Collapse spaces, including those at the ends, which separate words of neighbouring elements."""
    return " ".join(f"<{text}>".split())[1:-1]


def _tidy(text: str) -> str:
    """Remove the marks of cells and list items that are empty or contain paragraphs."""
    lines = (line.strip(f" {_CELL_END}") for line in flow(text).split("\n"))
    joined = _LONE_MARK.sub(r"\1 ", "\n".join(lines))
    return flow("\n".join(line for line in joined.split("\n") if line != "-"))
