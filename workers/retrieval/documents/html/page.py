"""HTML: the text of a page as a reader sees it, divided at its headings, without menus, scripts and form controls."""

from __future__ import annotations

import re
from typing import Final

from selectolax.lexbor import LexborNode

from workers.retrieval.documents.headings import title_of
from workers.retrieval.documents.html.inline import InlineText
from workers.retrieval.documents.html.table import read_table
from workers.retrieval.documents.html.tree import HEADINGS, Tree, Walk, number_in
from workers.retrieval.documents.html.visibility import Visibility
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.plain import one_line
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document

_AS_WRITTEN: Final = frozenset({"pre", "listing", "xmp", "plaintext"})
# The level of summaries and of labels of panels, below all headings.
_LABELS: Final = 7
# What a page says that has no text before its scripts have run.
_PLACEHOLDER: Final = re.compile(
    r"\W*(?:(?:loading|please wait|initiali[sz]ing)\b.{0,40}|"
    r".{0,80}\b(?:enabled?|requires?|needs?) java\s?script.{0,200})?",
    re.IGNORECASE | re.DOTALL,
)


def read_html(text: str, limits: DocumentLimits) -> Document:
    """One section for each heading, under the page's title.

    Raises:
        Refusal: its text is made by scripts.
    """
    tree = Tree(text)
    outline = Outline(limits, title=title_of(tree.title))
    needs_script = _read_body(tree, outline)
    sections = outline.sections()
    if needs_script and all(_PLACEHOLDER.fullmatch(section.text) for section in sections):
        raise Refusal(Reason.EMPTY, "has no text without JavaScript; save the page in a browser and send that file")
    return Document("html", sections)


def read_fragment(text: str, outline: Outline) -> None:
    """Add HTML that is part of another document. Its elements may end in a later fragment."""
    _read_body(Tree(text), outline, is_fragment=True)


def _read_body(tree: Tree, outline: Outline, *, is_fragment: bool = False) -> bool:
    """Pass all text to the outline; return whether the page asks for JavaScript."""
    if tree.body is None:
        return False
    visibility = Visibility(tree.body)
    _Page(tree, visibility, outline, is_fragment=is_fragment).read(tree.body)
    return visibility.needs_script


class _Page:
    """Walks a page's tree once, without recursion."""

    def __init__(self, tree: Tree, visibility: Visibility, outline: Outline, *, is_fragment: bool) -> None:
        self._tree = tree
        self._is_fragment = is_fragment
        self._visibility = visibility
        self._outline = outline
        self._text = InlineText()
        self._heading: int | None = None
        self._pre = False
        self._open_labels: list[int] = []  # the details and panels that are open

    def read(self, body: LexborNode) -> None:
        """Pass all visible text to the outline."""
        walk = Walk(self._tree, body, self._visibility.hidden)
        for node, opens in walk:
            tag = node.tag or ""
            if tag == "-text":
                self._text.add(node, opens, pre=self._pre)
            elif tag == "math" and opens:
                self._text.formula(node)
                walk.skip()
            elif tag == "table" and opens and self._table(node):
                walk.skip()
            else:
                self._element(node, tag, opens)
        self._flush()

    def _element(self, node: LexborNode, tag: str, opens: bool) -> None:
        if (level := self._level(node, tag)) is not None:
            self._flush()
            self._heading = level if opens else None
        elif tag in _AS_WRITTEN:
            self._flush()
            self._pre = opens
        else:
            self._text.add(node, opens)
        self._label(node, tag, opens)

    def _level(self, node: LexborNode, tag: str) -> int | None:
        """The level of a heading."""
        if tag in HEADINGS:
            return HEADINGS[tag]
        if tag == "summary" and self._open_labels:
            return _LABELS + len(self._open_labels) - 1
        if node.attributes.get("role") == "heading":
            return min(number_in(node, "aria-level") or 2, _LABELS - 1)
        return None

    def _label(self, node: LexborNode, tag: str, opens: bool) -> None:
        """Begin or end what stands under the summary of details, or under the label of a panel."""
        if not opens:
            if self._open_labels and self._open_labels[-1] == node.mem_id:
                self._flush()
                self._open_labels.pop()
                self._outline.end(_LABELS + len(self._open_labels))
            return
        label = self._visibility.label(node)
        if (tag == "details" and not self._is_fragment) or label:
            self._flush()
            self._open_labels.append(node.mem_id)
        if label:
            self._outline.heading(_LABELS + len(self._open_labels) - 1, label)

    def _table(self, node: LexborNode) -> bool:
        """Whether the node is a table of data, which is then read."""
        found = read_table(self._tree, node, self._visibility.hidden)
        if found is None:
            return False
        self._flush()
        caption, table = found
        self._outline.text(caption)
        self._outline.table(table)
        return True

    def _flush(self) -> None:
        text = self._text.take(pre=self._pre)
        if self._heading is not None:
            self._outline.heading(self._heading, one_line(text))
        else:
            self._outline.text(text)
