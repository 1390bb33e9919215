"""Markdown: divided at its headings. The markup is kept, since Markdown is readable as it is."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.plain import clean, one_line
from workers.retrieval.ports import Document

# A longer heading becomes text anyway, unless it is mostly links. Parsing a megabyte of brackets takes seconds.
_LONGEST_SOURCE: Final = 2_000


def read_markdown(text: str, limits: DocumentLimits) -> Document:
    """One section for each heading. A `#` in a code block is not a heading."""
    text = clean(text)
    lines = text.split("\n")
    parser = MarkdownIt("commonmark")
    blocks = parser.disable("inline").parse(text)
    parser.enable("inline")
    outline = Outline(limits)
    end = 0
    for token, inside in pairwise(blocks):
        if token.type == "heading_open" and token.level == 0 and token.map:
            outline.text("\n".join(lines[end : token.map[0]]).strip("\n"))
            outline.heading(int(token.tag[1:]), _heading(parser, inside))
            end = token.map[1]
    outline.text("\n".join(lines[end:]).strip("\n"))
    return Document("markdown", outline.sections())


def _heading(parser: MarkdownIt, inline: Token) -> str:
    """A heading without its markup; a very long one is returned unchanged."""
    if len(inline.content) > _LONGEST_SOURCE:
        return inline.content
    (parsed,) = parser.parseInline(inline.content)
    return one_line("".join(token.content for token in parsed.children or () if token.type in ("text", "code_inline")))
