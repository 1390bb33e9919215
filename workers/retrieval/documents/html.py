"""HTML: the visible text of a page, divided at its headings, without menus, scripts and form controls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.nesting import flatten
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.plain import clean, flow, named_charset, one_line
from workers.retrieval.ports import Document

_DROPPED: Final = frozenset({
    "head", "script", "style", "noscript", "template", "nav", "svg", "iframe", "object", "canvas", "audio", "video",
    "button", "select", "textarea", "dialog",
})  # fmt: skip
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCKS: Final = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "details", "div", "dl", "fieldset",
    "figcaption", "figure", "footer", "form", "header", "hr", "main", "ol", "p", "section", "summary", "table", "ul",
})  # fmt: skip
# These elements begin a new line; blocks are surrounded by blank lines.
_LINES: Final = frozenset({"li", "tr", "dd", "dt", "br"})
_LONE_MARK: Final = re.compile(r"^-\n+(?!-)", re.MULTILINE)


def read_html(text: str, limits: DocumentLimits) -> Document:
    """One section for each heading, under the page's title."""
    tree = LexborHTMLParser(flatten(text))
    title = tree.css_first("head > title")
    outline = Outline(limits, title=one_line(title.text())[:200] if title else None)
    if tree.body is not None:
        _Page(outline).read(tree.body)
    return Document("html", outline.sections())


class _Page:
    """Walks a page's tree once, without recursion."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._parts: list[str] = []
        self._heading: int | None = None
        self._pre = False

    def read(self, body: LexborNode) -> None:
        """Pass all visible text to the outline."""
        for node, opens in _walk(body):
            tag = node.tag or ""
            if tag == "-text":
                self._parts.append(node.text() if self._pre else _spaced(node.text()))
            elif tag in _HEADINGS:
                self._flush()
                self._heading = _HEADINGS[tag] if opens else None
            elif tag == "pre":
                self._flush()
                self._pre = opens
            else:
                self._parts.append(_opening(tag) if opens else _closing(tag))
        self._flush()

    def _flush(self) -> None:
        text = "".join(self._parts)
        self._parts = []
        if self._heading is not None:
            self._outline.heading(self._heading, one_line(text))
        else:
            self._outline.text(clean(text) if self._pre else _tidy(text))


def _opening(tag: str) -> str:
    if tag in _LINES:
        return "\n- " if tag == "li" else "\n"
    return "\n\n" if tag in _BLOCKS else ""


def _closing(tag: str) -> str:
    if tag in ("td", "th"):
        return " | "
    return "\n\n" if tag in _BLOCKS else ""


def _spaced(text: str) -> str:
    """Collapse spaces, including those at the ends, which separate words of neighbouring elements."""
    return " ".join(f"<{text}>".split())[1:-1]


def _tidy(text: str) -> str:
    """Remove the marks of cells and list items that are empty or contain paragraphs."""
    lines = (line.strip(" |") for line in flow(text).split("\n"))
    return flow(_LONE_MARK.sub("- ", "\n".join(lines)))


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Each visible node when it opens (True) and closes (False), in document order."""
    stack: list[tuple[LexborNode, bool]] = [(root, True)]
    while stack:
        node, opens = stack.pop()
        if opens and _hidden(node):
            continue
        yield node, opens
        if opens and node.tag != "-text":
            stack.append((node, False))
            child = node.last_child
            while child is not None:
                stack.append((child, True))
                child = child.prev


def _hidden(node: LexborNode) -> bool:
    tag = node.tag or "-"
    if tag.startswith("-"):
        return tag != "-text"
    if tag in _DROPPED:
        return True
    attributes = node.attributes
    return "hidden" in attributes or attributes.get("aria-hidden") == "true" or attributes.get("role") == "navigation"


def page_charset(data: bytes) -> str | None:
    """The charset that the page itself declares; like browsers, this searches the first kilobyte."""
    return named_charset(data[:1024].decode("ascii", "replace"))
