"""Markdown: divided at its headings. The markup is kept, since Markdown is readable as it is, except in tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from workers.retrieval.documents.embedded_data import without_data_uris
from workers.retrieval.documents.front_matter import split_front_matter
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.plain import clean, one_line
from workers.retrieval.documents.table import Table
from workers.retrieval.ports import Document

# A longer heading becomes text anyway, unless it is mostly links. Parsing a megabyte of brackets takes seconds.
_LONGEST_SOURCE: Final = 2_000
_LONGEST_CODE_LINE: Final = 500
_LONGEST_TITLE: Final = 200
_EMPTY_PICTURE: Final = re.compile(r"!\[([^\]\n]*)\]\(\s*<?\s*>?(?:\s+[\"'][^\"'\n]*[\"'])?\s*\)")
_EMPTY_REFERENCE: Final = re.compile(r"^ {0,3}\[[^\]\n]+\]:[ \t]*<?>?[ \t]*$\n?", re.MULTILINE)
_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
_MDX_CODE: Final = re.compile(
    r"(?:import\b.+\bfrom\s+|import\s+)[\"'].+[\"'];?|export\s+(?:const|default|function|let)\b.*"
)
_COMPONENT: Final = re.compile(r"</?[A-Z]")
_HEADING_ID: Final = re.compile(r"\s*\{[#.:][^{}]*\}\s*\Z")


def read_markdown(text: str, limits: DocumentLimits) -> Document:
    """One section for each heading; a `#` in a code block is not a heading.

    Metadata at the beginning is text of its own, and its title is the document's. HTML is read as in a page.
    """
    title, metadata, body = split_front_matter(clean(text))
    outline = Outline(limits, title=one_line(title)[:_LONGEST_TITLE] or None)
    outline.text(metadata)
    _Reader(outline).read(_without_data(body))
    return Document("markdown", outline.sections())


def _without_data(text: str) -> str:
    if ";base64," not in text:
        return text
    return _EMPTY_REFERENCE.sub("", _EMPTY_PICTURE.sub(r"\1", without_data_uris(text)))


class _Reader:
    """Passes the blocks of a text to an outline, each as it is written."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._parser = MarkdownIt("commonmark").enable("table")
        self._lines: list[str] = []
        self._end = 0  # the first line that was not passed on

    def read(self, text: str) -> None:
        """Pass all blocks to the outline."""
        self._lines = text.split("\n")
        tokens = self._parser.disable("inline").parse(text)
        self._parser.enable("inline")
        for block in _blocks(tokens):
            first = block[0]
            if first.map is None:
                continue
            if first.type == "heading_open":
                self._pass_on(first.map[0])
                self._outline.heading(int(first.tag[1:]), self._heading(block[1].content))
            elif first.type == "table_open":
                self._pass_on(first.map[0])
                self._outline.table(_table(block))
            elif first.type == "html_block" and not _COMPONENT.match(first.content):
                self._pass_on(first.map[0])
                self._html(first.content)
            elif first.type == "paragraph_open" and (kept := _changed(self._lines[slice(*first.map)])) is not None:
                self._pass_on(first.map[0])
                self._outline.text(kept)
            else:
                continue
            self._end = first.map[1]
        self._pass_on(len(self._lines))

    def _pass_on(self, end: int) -> None:
        """Add the lines up to this one as they are, also those that make no block, such as targets of links."""
        self._outline.text("\n".join(self._lines[self._end : end]).strip("\n"))
        self._end = end

    def _heading(self, content: str) -> str:
        """A heading without its markup; a very long one is returned unchanged."""
        if len(content) > _LONGEST_SOURCE:
            return content
        (parsed,) = self._parser.parseInline(content)
        return _HEADING_ID.sub("", one_line("".join(map(_plain, parsed.children or ()))))

    def _html(self, content: str) -> None:
        from workers.retrieval.documents.html import read_fragment  # noqa: PLC0415

        read_fragment(content, self._outline)


def _blocks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The outermost blocks, each with the tokens within it."""
    block: list[Token] = []
    for token in tokens:
        block.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield block
            block = []


def _plain(token: Token) -> str:
    if token.type in ("softbreak", "hardbreak") or (token.type == "html_inline" and _BREAK.match(token.content)):
        return " "
    return token.content if token.type in ("text", "code_inline", "image", "text_special") else ""


def _table(block: Sequence[Token]) -> Table:
    rows: list[list[str]] = []
    for token in block:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(one_line(_without_comments(_BREAK.sub(" ", token.content))))
    return Table(rows, header_rows=1 if any(rows[0]) else 0)


def _changed(lines: Sequence[str]) -> str | None:
    """A paragraph without comments, and without code of MDX (`import Tabs from '...'`); None if it has neither."""
    if lines[0].startswith(("import ", "export ")) and all(map(_is_mdx_code, lines)):
        return ""
    text = "\n".join(lines)
    return _without_comments(text) if "<!--" in text and "`" not in text else None


def _is_mdx_code(line: str) -> bool:
    return len(line) <= _LONGEST_CODE_LINE and _MDX_CODE.fullmatch(line) is not None


def _without_comments(text: str) -> str:
    parts = []
    start = 0
    while (begin := text.find("<!--", start)) >= 0 and (end := text.find("-->", begin)) >= 0:
        parts.append(text[start:begin])
        start = end + 3
    return "".join((*parts, text[start:]))
