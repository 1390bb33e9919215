"""Markdown: divided at its headings. The markup is kept, since Markdown is readable as it is, except in tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from workers.retrieval.documents.base64_data import without_data_uris
from workers.retrieval.documents.front_matter import split_front_matter
from workers.retrieval.documents.headings import title_of
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.markdown_table import BREAK, find_table, without_comments
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.plain import clean, one_line
from workers.retrieval.ports import Document

# A longer heading is not parsed, because a megabyte of brackets takes seconds. Hardly any becomes short enough for a
# heading without its links.
_LONGEST_SOURCE: Final = 2_000
_LONGEST_CODE_LINE: Final = 500
_EMPTY_PICTURE: Final = re.compile(r"!\[([^\]\n]*)\]\(\s*<?\s*>?(?:\s+[\"'][^\"'\n]*[\"'])?\s*\)")
_EMPTY_REFERENCE: Final = re.compile(r"^ {0,3}\[[^\]\n]+\]:[ \t]*<?>?[ \t]*$\n?", re.MULTILINE)
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
    outline = Outline(limits, title=title_of(title))
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
        # Tables are found in paragraphs. The parser's own rule takes 167 MiB for 600 kB of a table.
        self._parser = MarkdownIt("commonmark")
        self._lines: list[str] = []
        self._end = 0  # the first line that was not passed on
        self._page: list[str] = []  # HTML that may continue in the next block

    def read(self, text: str) -> None:
        """Pass all blocks to the outline."""
        self._lines = text.split("\n")
        tokens = self._parser.disable("inline").parse(text)
        self._parser.enable("inline")
        for block in _blocks(tokens):
            if (span := block[0].map) is not None:
                self._block(block, *span)
        self._pass_on(len(self._lines))

    def _block(self, block: Sequence[Token], start: int, end: int) -> None:
        """Pass on a block that is not kept as it is written, and what stands before it."""
        kind = block[0].type
        if kind == "html_block" and not _COMPONENT.match(block[0].content):
            if any(self._lines[self._end : start]):
                self._pass_on(start)
            self._page.append(block[0].content)
        elif kind == "heading_open":
            self._pass_on(start)
            self._outline.heading(int(block[0].tag[1:]), self._heading(block[1].content))
        elif kind == "paragraph_open" and (found := find_table(self._lines[start:end])) is not None:
            above, table = found
            self._pass_on(start + above)
            self._outline.table(table)
        elif kind == "paragraph_open" and (kept := _changed(self._lines[start:end])) is not None:
            self._pass_on(start)
            self._outline.text(kept)
        else:
            return
        self._end = end

    def _pass_on(self, end: int) -> None:
        """Add the lines up to this one as they are, also those that make no block, such as targets of links."""
        if self._page:
            from workers.retrieval.documents.html import read_fragment  # noqa: PLC0415

            read_fragment("\n".join(self._page), self._outline)
            self._page = []
        self._outline.text("\n".join(self._lines[self._end : end]).strip("\n"))
        self._end = end

    def _heading(self, content: str) -> str:
        """A heading without its markup; a very long one is returned unchanged."""
        if len(content) > _LONGEST_SOURCE:
            return content
        (parsed,) = self._parser.parseInline(content)
        return _HEADING_ID.sub("", one_line("".join(map(_plain, parsed.children or ()))))


def _blocks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The outermost blocks, each with the tokens within it."""
    block: list[Token] = []
    for token in tokens:
        block.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield block
            block = []


def _plain(token: Token) -> str:
    if token.type in ("softbreak", "hardbreak") or (token.type == "html_inline" and BREAK.match(token.content)):
        return " "
    return token.content if token.type in ("text", "code_inline", "image", "text_special") else ""


def _changed(lines: Sequence[str]) -> str | None:
    """A paragraph without comments, and without code of MDX (`import Tabs from '...'`); None if it has neither."""
    if lines[0].startswith(("import ", "export ")) and all(map(_is_mdx_code, lines)):
        return ""
    text = "\n".join(lines)
    return without_comments(text) if "<!--" in text and "`" not in text else None


def _is_mdx_code(line: str) -> bool:
    return len(line) <= _LONGEST_CODE_LINE and _MDX_CODE.fullmatch(line) is not None
