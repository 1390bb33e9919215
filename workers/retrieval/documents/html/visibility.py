"""Decides what of an HTML page a reader can see, also after opening its accordions and tabs."""

from __future__ import annotations

import re
from typing import Final

from selectolax.lexbor import LexborNode

from workers.retrieval.documents.html.tree import HEADINGS, is_shadow_root
from workers.retrieval.documents.plain import one_line

_DROPPED: Final = frozenset({
    "head", "script", "style", "nav", "object", "canvas", "audio", "video", "select", "textarea", "datalist",
    "progress", "meter", "rt", "rp", "defs", "symbol", "metadata",
})  # fmt: skip
_SOMETIMES: Final = frozenset({"button", "noscript", "template", "iframe", "dialog", "a", "span", "td"})
# Links to edit a section of a wiki, and the numbers of lines of code.
_MARGIN: Final = frozenset({"mw-editsection", "linenos", "lineno", "hljs-ln-numbers", "blob-num"})
_LINK_MARK: Final = re.compile(r"anchor|headerlink|permalink|heading-?link", re.IGNORECASE)
_MENUS: Final = frozenset({"navigation", "menu", "menubar"})
_HEADING: Final = ", ".join([*HEADINGS, "[role=heading]"])
_LIKE_HEADINGS: Final = frozenset({*HEADINGS, "summary", "dt"})
_INVISIBLE: Final = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_ABOUT_SCRIPTS: Final = re.compile(r"java\s?script|enable\W+scripts", re.IGNORECASE)
_LONGEST_REQUEST: Final = 600

_TOGGLES: Final = frozenset({"collapse", "tab", "pill", "accordion"})
_TOGGLE_CLASS: Final = re.compile(r"accordion|collaps|expand|faq|question|disclosure", re.IGNORECASE)
_PANEL_CLASS: Final = re.compile(r"accordion|collaps|tab-?(?:pane|panel|content)|faq|answer|disclosure", re.IGNORECASE)
_SAYS_NOTHING: Final = re.compile(
    r"\W*(?:(?:show|read|see|view|learn|load)\s+(?:more|less|all|details)|more|menu|toggle\b.*|open|close|expand|"
    r"collapse|navigation|search)\W*",
    re.IGNORECASE,
)
_LONGEST_LABEL: Final = 200

_CONSENT: Final = re.compile(
    r"cookie[-_]?(?:banner|bar|consent|notice|law|popup|modal|message|overlay|policy-banner)|onetrust|cookiebot|didomi|"
    r"usercentrics|\bcc-window|qc-cmp2|gdpr[-_]?(?:banner|consent|notice)|consent[-_]?(?:banner|popup|modal|dialog)",
    re.IGNORECASE,
)
_CONSENT_TAGS: Final = frozenset({"div", "section", "aside", "dialog", "form"})


class Visibility:
    """What is hidden on a page, and which elements are the panels of accordions and tabs.

    Attributes:
        needs_script: whether the page asks for JavaScript, or has an empty element that an application fills.
    """

    def __init__(self, body: LexborNode) -> None:
        self.needs_script = body.css_first("#root:empty, #app:empty, #__next:empty, app-root:empty") is not None
        self._ids = {node.id: node for node in body.css("[id]") if node.id}
        self._labels: dict[str, str] = {}  # the id of a panel and the text of the button or tab that opens it
        self._opened: set[str] = set()  # the ids of all panels
        self._openers: set[int] = set()  # the elements whose texts are labels
        for node in body.css("[aria-controls], [aria-expanded], [data-toggle], [data-bs-toggle], [role=tab]"):
            self._note_opener(node)
        for node in body.css("[role=tabpanel][aria-labelledby]"):
            if node.id and (tab := self._ids.get(node.attributes["aria-labelledby"] or "")):
                self._note_panel(node.id, tab)

    def label(self, node: LexborNode) -> str | None:
        """The heading of a panel: the text of the button or tab that opens it."""
        return self._labels.get(node.id) if node.id else None

    def hidden(self, node: LexborNode) -> bool:
        """Whether an element is not for readers: markup, controls, menus, consent banners, and what is hidden."""
        tag = node.tag or "-"
        if tag.startswith("-"):
            return tag != "-text"
        if tag == "body":
            return False  # it is often hidden until a script has run
        attributes = node.attributes
        if tag in _DROPPED or node.mem_id in self._openers or attributes.get("role") in _MENUS:
            return True
        if tag in _SOMETIMES and self._drops(node, attributes):
            return True
        if _is_invisible(attributes) and not self._is_panel(node, attributes):
            return True
        return tag in _CONSENT_TAGS and _asks_for_consent(node, attributes)

    def _note_opener(self, node: LexborNode) -> None:
        attributes = node.attributes
        if not _is_toggle(attributes):
            return
        target = attributes.get("aria-controls") or attributes.get("data-bs-target") or attributes.get("data-target")
        target = (target or attributes.get("href") or "").lstrip("#")
        panel = self._ids.get(target)
        if panel is None or panel.tag == "nav" or panel.attributes.get("role") in _MENUS:
            return
        self._opened.add(target)
        if not _within_heading(node) and node.css_first(_HEADING) is None:
            self._note_panel(target, node)

    def _note_panel(self, target: str, opener: LexborNode) -> None:
        self._opened.add(target)
        text = _short_text(opener)
        if text and target not in self._labels:
            self._openers.add(opener.mem_id)
            if not _SAYS_NOTHING.fullmatch(text):
                self._labels[target] = text

    def _is_panel(self, node: LexborNode, attributes: dict[str, str | None]) -> bool:
        """Whether a hidden element can be opened, such as the answer to a question."""
        if node.id in self._opened or attributes.get("role") == "tabpanel" or attributes.get("hidden") == "until-found":
            return True
        if _PANEL_CLASS.search(attributes.get("class") or ""):
            return True
        before = node.prev
        while before is not None and (before.tag or "-").startswith("-"):
            before = before.prev
        if before is None:
            return False
        return (node.tag == "dd" and before.tag == "dt") or _opens_something(before.attributes, before.tag)

    def _drops(self, node: LexborNode, attributes: dict[str, str | None]) -> bool:
        """Whether this element is left out. Others of its kind are part of the text."""
        match node.tag:
            case "button":
                return self._drops_button(node, attributes)
            case "noscript":
                return self._drops_noscript(node)
            case "template":
                return not is_shadow_root(node)
            case "iframe":
                return not attributes.get("srcdoc")
            case "dialog":
                return "open" not in attributes
            case "a":
                return _LINK_MARK.search(attributes.get("class") or "") is not None and _is_mark(node)
            case "span" | "td":
                return not _MARGIN.isdisjoint((attributes.get("class") or "").split())
        return False

    @staticmethod
    def _drops_button(node: LexborNode, attributes: dict[str, str | None]) -> bool:
        if _within_heading(node) or node.css_first(_HEADING) is not None:
            return False
        return not _opens_something(attributes, "button") or _SAYS_NOTHING.fullmatch(one_line(node.text())) is not None

    def _drops_noscript(self, node: LexborNode) -> bool:
        text = one_line(node.text(separator=" "))
        asks = len(text) < _LONGEST_REQUEST and _ABOUT_SCRIPTS.search(text) is not None
        self.needs_script = self.needs_script or asks
        return asks or not text  # pictures alone are a second copy of those that a script loads


def _short_text(node: LexborNode) -> str:
    """The text of an element in one line; empty if it is too long for a label."""
    parts: list[str] = []
    left = _LONGEST_LABEL
    for inner in node.traverse(include_text=True):
        if inner.tag == "-text":
            parts.append(inner.text())
            left -= len(parts[-1].strip())
            if left < 0:
                return ""
    return one_line(" ".join(parts))


def _is_toggle(attributes: dict[str, str | None]) -> bool:
    """Whether an element opens and closes another one that is part of the text, and no menu."""
    if attributes.get("aria-haspopup", "false") != "false":
        return False
    toggle = attributes.get("data-bs-toggle") or attributes.get("data-toggle") or ""
    if toggle:
        return toggle in _TOGGLES
    return "aria-expanded" in attributes or "aria-controls" in attributes or attributes.get("role") == "tab"


def _opens_something(attributes: dict[str, str | None], tag: str | None) -> bool:
    if _is_toggle(attributes):
        return True
    return tag != "a" and _TOGGLE_CLASS.search(attributes.get("class") or "") is not None


def _within_heading(node: LexborNode) -> bool:
    above = node.parent
    for _ in range(3):
        if above is None:
            return False
        if above.tag in _LIKE_HEADINGS or above.attributes.get("role") == "heading":
            return True
        above = above.parent
    return False


def _is_invisible(attributes: dict[str, str | None]) -> bool:
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    return _INVISIBLE.search(attributes.get("style") or "") is not None


def _asks_for_consent(node: LexborNode, attributes: dict[str, str | None]) -> bool:
    names = f"{attributes.get('id') or ''} {attributes.get('class') or ''}"
    return _CONSENT.search(names) is not None and node.css_first("main, article, h1") is None


def _is_mark(node: LexborNode) -> bool:
    text = node.text().strip()
    return len(text) <= 2 and not any(char.isalnum() for char in text) and node.css_first("img") is None
