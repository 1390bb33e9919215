"""Bounds how deeply HTML is nested before it is parsed.

An HTML parser looks through all open elements for each `<div>`, `<li>` or unmatched end tag, so its time grows with
length times depth: 400 kB of `<div>` took 20 s. Browsers stop nesting at 512 and go on side by side; so does this.
The text is the same, only elements that no reader could tell apart are gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

DEEPEST: Final = 512
"""Elements that may be open at once, as in browsers."""

# Comments, and elements whose content is not markup, are skipped whole; an open one goes on to the end of the page.
_TAG: Final = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(?P<raw>script|style|textarea|title|xmp|noembed|noframes)\b.*?(?:</(?P=raw)\b|\Z)"
    r"|<(?P<end>/?)(?P<name>[a-z][^\s/>]*)[^>]*>?",
    re.IGNORECASE | re.DOTALL,
)
_VOID: Final = frozenset({
    "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "keygen", "link",
    "meta", "param", "source", "track", "wbr",
})  # fmt: skip
# A parser closes these by itself before the next of their kind, so a thousand without an end tag are not nested.
_CLOSED_BY_THE_NEXT: Final = frozenset({
    "p", "li", "dd", "dt", "option", "optgroup", "rb", "rp", "rt", "rtc", "tr", "td", "th", "tbody", "thead", "tfoot",
    "caption", "colgroup", "html", "head", "body",
})  # fmt: skip
# What stands inside one word; all else that is left out begins a new line.
_INLINE: Final = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins",
    "kbd", "label", "mark", "nobr", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt",
    "u", "var",
})  # fmt: skip
_DRAWINGS: Final = ("svg", "math")


def flatten(text: str) -> str:
    """The page with elements beyond `DEEPEST` left out and their contents kept; unchanged if there are none."""
    if text.count("<") <= DEEPEST:
        return text
    left_out = list(_beyond(text))
    if not left_out:
        return text
    parts: list[str] = []
    end = 0
    for tag, instead in left_out:
        parts += (text[end : tag.start()], instead)
        end = tag.end()
    return "".join((*parts, text[end:]))


def _beyond(text: str) -> Iterator[tuple[re.Match[str], str]]:  # noqa: C901 - one pass, a case for each kind of tag
    """The tags of elements that are too deep, each with what takes its place."""
    still_open: list[tuple[str, bool]] = []
    names: Counter[str] = Counter()
    kept = 0
    for tag in _TAG.finditer(text):
        name = (tag["name"] or "").lower()
        if not name or name in _VOID or name in _CLOSED_BY_THE_NEXT:
            continue
        if not tag["end"]:
            if tag[0].endswith("/>") and any(names[drawing] for drawing in _DRAWINGS):
                continue  # only in drawings is this an element without content
            keeps = kept < DEEPEST
            still_open.append((name, keeps))
            names[name] += 1
            kept += keeps
            if not keeps:
                yield tag, "" if name in _INLINE else "<br>"
        elif names[name]:
            while True:
                closed, keeps = still_open.pop()
                names[closed] -= 1
                kept -= keeps
                if closed == name:
                    break
            if not keeps:
                yield tag, "" if name in _INLINE else "<br>"
        elif kept >= DEEPEST:
            yield tag, ""  # it closes nothing; the parser would look through all that is open to find out
