"""Walks the tree of an HTML page, including what stands in shadow roots and in frames that the page itself contains."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from workers.retrieval.documents.html.nesting import flatten

HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
"""The elements that are headings, with their levels."""

_CDATA: Final = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
# Only elements of HTML itself: in drawings and formulas, HTML closes `<path/>` as XHTML does.
_CLOSED_AT_ONCE: Final = re.compile(
    r"<(title|script|style|textarea|iframe|noscript|xmp|a|p|div|span|td|th|li|ul|ol|b|i|em|strong)\b([^<>]*)(?<=[\s\"'a-z])/>",
    re.IGNORECASE,
)
_MOST_DIGITS: Final = 9
_SHADOW_ROOTS: Final = ("shadowrootmode", "shadowroot")
# Each is parsed on its own, and again with each page that contains it.
_MOST_INNER_PAGES: Final = 100


class Tree:
    """A parsed page."""

    def __init__(self, text: str) -> None:
        parser = LexborHTMLParser(flatten(_as_html(text)))
        self.body: LexborNode | None = parser.body
        title = parser.css_first("head > title")
        self.title: str = title.text() if title else ""
        # A node does not keep its parser alive.
        self._parsers = [parser]
        self._bodies: dict[int, LexborNode | None] = {}  # of inner pages, by the element that contains each

    def children(self, node: LexborNode) -> Iterator[LexborNode]:
        """The children of an element, the last one first."""
        if (inner := self._inner(node)) is not None:
            yield inner
            return
        child = node.last_child
        while child is not None:
            yield child
            child = child.prev

    def _inner(self, node: LexborNode) -> LexborNode | None:
        """The body of the page that an element contains as text. It is parsed once, though tables are walked twice."""
        if node.tag != "iframe" and not is_shadow_root(node):
            return None
        if node.mem_id not in self._bodies:
            self._bodies[node.mem_id] = self._inner_body(node)
        return self._bodies[node.mem_id]

    def _inner_body(self, node: LexborNode) -> LexborNode | None:
        if len(self._parsers) > _MOST_INNER_PAGES:
            return None
        if node.tag == "iframe":
            source = node.attributes.get("srcdoc")
        else:
            source = (node.html or "").partition(">")[2].removesuffix("</template>")
        if not source:
            return None
        self._parsers.append(LexborHTMLParser(flatten(source)))
        return self._parsers[-1].body


class Walk:
    """Each visible node when it opens (True) and closes (False), in document order, without recursion."""

    def __init__(self, tree: Tree, root: LexborNode, hidden: Callable[[LexborNode], bool]) -> None:
        self._tree = tree
        self._hidden = hidden
        self._stack: list[tuple[LexborNode, bool]] = [(root, True)]
        self._skips = False

    def __iter__(self) -> Iterator[tuple[LexborNode, bool]]:
        while self._stack:
            node, opens = self._stack.pop()
            if opens and self._hidden(node):
                continue
            yield node, opens
            if self._skips:
                self._skips = False
            elif opens and node.tag != "-text":
                self._stack.append((node, False))
                self._stack.extend((child, True) for child in self._tree.children(node))

    def skip(self) -> None:
        """Leave out the contents and the end of the element that has just opened."""
        self._skips = True


def _as_html(text: str) -> str:
    """XHTML as HTML, where `<title/>` or `<script/>` would begin an element that contains the rest of the page."""
    if not text.lstrip().startswith("<?xml"):
        return text
    text = _CDATA.sub(lambda found: html.escape(found[1], quote=False), text)
    return _CLOSED_AT_ONCE.sub(r"<\1\2></\1>", text)


def is_shadow_root(node: LexborNode) -> bool:
    """Whether an element is the declaration of a shadow root, which browsers show in place of its parent's children."""
    return node.tag == "template" and any(name in node.attributes for name in _SHADOW_ROOTS)


def number_in(node: LexborNode, attribute: str) -> int | None:
    """The whole number in an attribute; None if it has none, or an absurdly large one."""
    value = node.attributes.get(attribute) or ""
    return int(value) if value.isdecimal() and len(value) <= _MOST_DIGITS else None
