"""Jupyter notebooks: their cells as one Markdown text, with code and the texts that it printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.markdown import read_markdown
from workers.retrieval.ports import Document

_FENCE: Final = re.compile(r"`{3,}")
_LANGUAGE: Final = re.compile(r"[\w+#.-]{1,30}")
_LEVELS: Final = frozenset("123456")
# Longer outputs are logs or whole tables of data.
_LONGEST_OUTPUT: Final = 2_000
_LONGEST_PAGE: Final = 50_000
# A blank line would end the HTML within Markdown.
_BLANK_LINES: Final = re.compile(r"\n\s*\n")


def is_notebook(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is a notebook, of the present format (4) or the one before."""
    return isinstance(value, dict) and "nbformat" in value and isinstance(_sheet(value).get("cells"), list)


def read_notebook(value: dict[str, Any], limits: DocumentLimits) -> Document:
    """One section for each heading; pictures and the HTML of outputs are left out."""
    language = _language(value)
    blocks = [block for cell in _sheet(value)["cells"] if isinstance(cell, dict) for block in _cell(cell, language)]
    return Document("notebook", read_markdown("\n\n".join(blocks), limits).sections)


def _sheet(value: dict[str, Any]) -> dict[str, Any]:
    sheets = value.get("worksheets")
    return sheets[0] if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict) else value


def _cell(cell: dict[str, Any], language: str) -> Iterator[str]:
    source = _text(cell.get("source", cell.get("input")))
    kind = cell.get("cell_type")
    if kind == "code":
        if source.strip():
            yield _fenced(source, language)
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, dict):
                yield from _output(output)
    elif kind == "heading":
        level = str(cell.get("level"))  # `json_text` reads numbers as texts
        yield f"{'#' * (int(level) if level in _LEVELS else 1)} {source}"
    elif source.strip():
        yield source


def _output(output: dict[str, Any]) -> Iterator[str]:
    """What a cell printed or returned, or the message of its error.

    A table is read from its HTML, so that its rows name their columns.
    """
    if "ename" in output:
        yield _fenced(f"{output.get('ename')}: {output.get('evalue')}", "")
        return
    found = output.get("data")
    data = found if isinstance(found, dict) else {}
    page = _BLANK_LINES.sub("\n", _text(data.get("text/html")).strip())
    text = _text(output.get("text")) or _text(data.get("text/plain"))
    if any(str(kind).startswith("image/") for kind in data):
        return  # its text is '<Figure size 640x480>'
    if len(page) <= _LONGEST_PAGE and page.startswith("<") and ("<table" in page or not text):
        yield page
    elif written := _text(data.get("text/markdown")):
        yield written
    elif text.strip():
        text = text.strip("\n")
        yield _fenced(text if len(text) <= _LONGEST_OUTPUT else f"{text[:_LONGEST_OUTPUT]}\n...", "")


def _language(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    kernel = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    language = kernel.get("language") if isinstance(kernel, dict) else None
    return language if isinstance(language, str) and _LANGUAGE.fullmatch(language) else ""


def _fenced(text: str, language: str) -> str:
    longest = max(map(len, _FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def _text(value: Any) -> str:
    """Texts are stored as one string or as a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""
