"""Markdown: cut at its headings; the rest stays as it was written, which is how Markdown is meant to be read."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.plain import clean, one_line
from workers.retrieval.ports import Document

# A longer one becomes text anyway, unless it is mostly links; reading its brackets takes seconds for a megabyte.
_LONGEST_SOURCE: Final = 2_000


def read_markdown(text: str, limits: DocumentLimits) -> Document:
    """A section for each heading; a `#` in a block of code is none."""
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
    """A heading without its markup, as a reader sees it; a very long one as it was written."""
    if len(inline.content) > _LONGEST_SOURCE:
        return inline.content
    (parsed,) = parser.parseInline(inline.content)
    return one_line("".join(token.content for token in parsed.children or () if token.type in ("text", "code_inline")))
