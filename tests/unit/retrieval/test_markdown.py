"""Markdown: metadata, headings of all kinds, tables and HTML are what they are, and pictures are no text."""

from __future__ import annotations

import json

import pytest

from workers.retrieval.chunking import chunk_document
from workers.retrieval.documents.json_text import read_json
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.markdown import read_markdown

LIMITS = DocumentLimits()


def sections(source: str) -> list[tuple[str | None, str]]:
    return [(section.heading, section.text) for section in read_markdown(source, LIMITS).sections]


def text(source: str) -> str:
    return "\n\n".join(section.text for section in read_markdown(source, LIMITS).sections)


METADATA = {
    "YAML": ("---\ntitle: My page\ntags: [a, b]\n---\n\nHerons.\n\n## Use\n\nMore.",
             [("My page", "title: My page\ntags: [a, b]\n\nHerons."), ("My page > Use", "Use\n\nMore.")]),
    "quoted title": ("---\ntitle: 'It''s: here' \nx:\n  - y\n# z\n...\n# It's: here\n\na",
                     [("It's: here", "title: 'It''s: here'\nx:\n  - y\n# z"), ("It's: here", "It's: here\n\na")]),
    "no title": ("---\ntitle: >\n  long\n---\na", [(None, "title: >\n  long\n\na")]),
    "TOML": ('+++\ntitle = "My page"\n+++\na', [("My page", 'title = "My page"\n\na')]),
    "empty": ("---\n---\na", [(None, "a")]),
    "rules around text": ("---\n\nA text: and more.\nNone of it is metadata\n\n---\na",
                          [(None, "---\n\nA text: and more.\nNone of it is metadata\n\n---\na")]),
}  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), METADATA.values(), ids=METADATA)
def test_metadata_is_no_heading(source: str, expected: list[tuple[str | None, str]]) -> None:
    """It is text, and its title is the document's."""
    assert sections(source) == expected


@pytest.mark.parametrize(
    ("source", "heading"),
    [
        ("A long heading\nof two lines\n====", "A long heading of two lines"),
        ("# One<br>two", "One two"),
        ("# ![Logo](l.png) *The* `code` of [it](u) {#id}", "Logo The code of it"),
        ("# C# \\# &amp; more #", "C# # & more"),
        ("<h1 align=center>The <b>page</b></h1>", "The page"),
    ],
)
def test_a_heading_is_its_words(source: str, heading: str) -> None:
    """Without markup, and with a space where a line ends."""
    assert sections(f"{source}\n\ntext") == [(heading, f"{heading}\n\ntext")]


TEXTS = {
    "table": ("Fees:\n\n| Country | Fee |\n|---|--:|\n| France \\| x | **86** |\n| Spain | 30<br>31 |\n\nafter",
              "Fees:\n\nCountry: France | x; Fee: **86**\nCountry: Spain; Fee: 30 31\n\nafter"),
    "table without names": ("| | |\n|-|-|\n| a | b |", "a | b"),
    "code": ("```\n# a\n| b | c |\n|---|---|\n<p>d</p>\n```\n\n    # e",
             "```\n# a\n| b | c |\n|---|---|\n<p>d</p>\n```\n\n    # e"),
    "lists, notes and links": ("Do:\n- [x] a\n- [ ] b\n> # c\n\nd[^1] [e]\n\n[^1]: f\n[e]: https://example.org",
                               "Do:\n- [x] a\n- [ ] b\n> # c\n\nd[^1] [e]\n\n[^1]: f\n[e]: https://example.org"),
    "HTML": ("<p><img alt='A heron'></p>\n\ntext <b>x</b>\n\n<table>\n<tr><th>A<th>B<tr><td>1<td>2</table>",
             "A heron\n\ntext <b>x</b>\n\nA: 1; B: 2"),
    "details": ("<details>\n<summary>Why?</summary>\n\nBecause *so*.\n\n</details>\n\nafter",
                "Why?\n\nBecause *so*.\n\nafter"),
    "comments": ("a <!-- not\nseen --> b\n\n<!-- nor\n\nthis -->\n\n`<!-- code -->`", "a  b\n\n`<!-- code -->`"),
    "pictures": ("See ![Plan](data:image/png;base64,iVBOR/w+0==) now ![][p] <img src='data:image/png;base64,iVB'>\n\n"
                 "[p]: <data:image/png;base64,iVB=>",
                 "See Plan now ![][p] <img src=''>"),
    "MDX": ("import Tabs from '@theme/Tabs';\nimport \"./x.css\"\n\nexport const a = 1;\n\n"
            "<Card title=\"Set up\">\n\ntext\n\n</Card>\n\nimport duties apply",
            "<Card title=\"Set up\">\n\ntext\n\n</Card>\n\nimport duties apply"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), TEXTS.values(), ids=TEXTS)
def test_markdown_is_kept_as_it_is_written(source: str, expected: str) -> None:
    """Except for tables, whose rows name their columns, and for what is no text."""
    assert text(source) == expected


def test_a_picture_within_the_text_makes_no_passages() -> None:
    """A megabyte of Base64 would be a thousand of them, found by no question and in the way of all."""
    document = read_markdown(f"Before\n\n![A plan](data:image/png;base64,{'aB3/' * 250_000})\n\nAfter", LIMITS)
    assert [chunk.text for chunk in chunk_document(document)] == ["Before\n\nA plan\n\nAfter"]


def notebook(*cells: dict[str, object], **more: object) -> str:
    return json.dumps({"nbformat": 4, "metadata": {"kernelspec": {"language": "python"}}, "cells": cells, **more})


def test_a_notebook_is_its_texts_code_and_output() -> None:
    """Cells are read as Markdown; pictures are left out."""
    document = read_json(
        notebook(
            {"cell_type": "markdown", "source": ["# Herons\n", "Where they live."], "attachments": {"x.png": {}}},
            {
                "cell_type": "code",
                "source": "# count\nprint('```')",
                "outputs": [
                    {"output_type": "stream", "text": ["```\n"]},
                    {"output_type": "display_data", "data": {"image/png": "iVBORw0", "text/plain": "<Figure>"}},
                    {"output_type": "execute_result", "data": {"text/plain": ["7"], "text/html": "<b>7</b>"}},
                    {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": ["\x1b[0m..."]},
                ],
            },
            {"cell_type": "raw", "source": ""},
            {"cell_type": "code", "source": [], "outputs": [{"output_type": "stream", "text": "x" * 5_000}]},
        ),
        LIMITS,
    )
    assert document.kind == "notebook"
    (section,) = document.sections
    assert section.heading == "Herons"
    assert section.text.startswith(
        "Herons\n\nWhere they live.\n\n````python\n# count\nprint('```')\n````\n\n````\n```\n````\n\n```\n7\n```\n\n"
        "```\nKeyError: 'x'\n```"
    )
    assert len(section.text) < 2_500


def test_a_table_that_a_notebook_shows_names_its_columns() -> None:
    """pandas writes it as HTML, with a style sheet that has blank lines."""
    page = (
        "<div>\n<style scoped>\n  .a {\n  }\n\n  .b {\n  }\n</style>\n<table>\n  <thead>\n    <tr>\n      <th></th>\n"
        "      <th>Fee</th>\n    </tr>\n  </thead>\n  <tbody><tr><th>0</th><td>86</td></tr></tbody>\n</table>\n</div>"
    )
    outputs = [
        {"data": {"text/plain": "   Fee\n0   86", "text/html": [page]}},
        {"data": {"text/plain": "<Markdown>", "text/markdown": "*It is so.*"}},
        {"data": {"text/html": "<p>Done</p>"}},
    ]
    (section,) = read_json(notebook({"cell_type": "code", "source": "", "outputs": outputs}), LIMITS).sections
    assert section.text == "0; Fee: 86\n\n*It is so.*\n\nDone"


def test_a_notebook_of_the_format_before_is_read() -> None:
    """Its cells are in a worksheet, and its headings are cells."""
    cells = [{"cell_type": "heading", "level": 2, "source": "Herons"}, {"cell_type": "code", "input": ["x = 1"]}]
    (section,) = read_json(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}), LIMITS).sections
    assert (section.heading, section.text) == ("Herons", "Herons\n\n```\nx = 1\n```")


def test_headings_of_the_format_before_have_levels() -> None:
    """A level that does not exist is the outermost one."""
    levels: dict[str, object] = {"Birds": 1, "Herons": 3, "Storks": "2", "Plants": 7, "Reeds": [2], "Moss": None}
    cells = [
        cell
        for name, level in levels.items()
        for cell in (
            {"cell_type": "heading", "level": level, "source": name},
            {"cell_type": "markdown", "source": f"About {name}."},
        )
    ]
    source = json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]})
    assert [section.heading for section in read_json(source, LIMITS).sections] == [
        "Birds", "Birds > Herons", "Birds > Storks", "Plants", "Reeds", "Moss",
    ]  # fmt: skip
