"""Limits nesting and attributes of HTML before it is parsed, since both make the parser take quadratic time.

A parser searches all open elements for each `<div>`, `<li>` or unmatched end tag, so its time grows with length times
depth: 400 kB of `<div>` took 20 s. Browsers stop nesting at 512 levels and add further elements as siblings; so does
this. The text stays the same. A parser also searches an element's attributes for each further attribute.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

DEEPEST: Final = 512
"""Elements that may be open at once, as in browsers."""

# Characters that can separate attributes. An element with more of them than the limit loses all its attributes.
_BETWEEN: Final = " \t\n\r\f/=\"'"
_MOST_BETWEEN: Final = 1_000
_MOST_PAGES: Final = 20  # `<body>` and `<html>` in the middle of a page add their attributes to the first one

# Comments, and elements whose content is not markup, are matched as a whole; an unclosed one extends to the end.
_TAG: Final = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(?P<raw>script|style|textarea|title|xmp|noembed|noframes)\b.*?(?:</(?P=raw)\b|\Z)"
    r"|<(?P<end>/?)(?P<name>[a-z][^\s/>]*+)(?:[^>=]++|=\s*+(?:\"[^\"]*\"|'[^']*')|=)*+>?",
    re.IGNORECASE | re.DOTALL,
)
_VOID: Final = frozenset({
    "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "keygen", "link",
    "meta", "param", "source", "track", "wbr",
})  # fmt: skip
# A parser closes these elements before the next one of their kind, so a thousand without end tags are not nested.
_CLOSED_BY_THE_NEXT: Final = frozenset({
    "p", "li", "dd", "dt", "option", "optgroup", "rb", "rp", "rt", "rtc", "tr", "td", "th", "tbody", "thead", "tfoot",
    "caption", "colgroup", "html", "head", "body",
})  # fmt: skip
# Elements that can occur within a word. Any other element that is left out becomes a line break.
_INLINE: Final = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins",
    "kbd", "label", "mark", "nobr", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt",
    "u", "var",
})  # fmt: skip
_DRAWINGS: Final = ("svg", "math")
_PAGE: Final = frozenset({"html", "body"})
_LEAVE_NO_LINE: Final = _INLINE | _PAGE


def flatten(text: str) -> str:
    """The page without the tags of elements nested deeper than `DEEPEST`; their contents are kept."""
    parts: list[str] = []
    end = 0
    for tag, instead in _replaced(text):
        parts += (text[end : tag.start()], instead)
        end = tag.end()
    return "".join((*parts, text[end:]))


def _replaced(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """The tags to replace, each with its replacement."""
    page = _Open()
    pages = 0
    for tag in _TAG.finditer(text):
        name = (tag["name"] or "").lower()
        if not name:
            continue
        pages += name in _PAGE
        if name in _VOID or name in _CLOSED_BY_THE_NEXT:
            keeps = name not in _PAGE or pages <= _MOST_PAGES
        else:
            keeps = page.closes(name) if tag["end"] else page.opens(name, alone=tag[0].endswith("/>"))
        if not keeps:
            yield tag, "" if name in _LEAVE_NO_LINE else "<br>"
        elif len(tag[0]) > _MOST_BETWEEN and sum(map(tag[0].count, _BETWEEN)) > _MOST_BETWEEN:
            yield tag, f"<{tag['end']}{name}>"


class _Open:
    """The elements that are open, and which of them are kept."""

    def __init__(self) -> None:
        self._stack: list[tuple[str, bool]] = []
        self._names: Counter[str] = Counter()
        self._kept = 0

    def opens(self, name: str, *, alone: bool) -> bool:
        """Whether the element that begins here is kept."""
        if alone and any(self._names[drawing] for drawing in _DRAWINGS):
            return True  # `<path/>` has no content; outside of drawings, HTML ignores the slash
        keeps = self._kept < DEEPEST
        self._stack.append((name, keeps))
        self._names[name] += 1
        self._kept += keeps
        return keeps

    def closes(self, name: str) -> bool:
        """Whether an end tag is kept: it belongs to a kept element, or is unmatched while few elements are open."""
        if not self._names[name]:
            return self._kept < DEEPEST  # otherwise the parser would search all open elements for it
        while True:
            closed, keeps = self._stack.pop()
            self._names[closed] -= 1
            self._kept -= keeps
            if closed == name:
                return keeps
