"""JSON: each value becomes a line with its path, so that it can be found and understood on its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import check_chars
from workers.retrieval.documents.plain import clean, one_line
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.documents.table import group
from workers.retrieval.ports import Document, Section


def read_json(text: str, limits: DocumentLimits) -> Document:
    """Parse JSON. The items of a list are grouped like the rows of a table; any other value is one section.

    Raises:
        Refusal: it is not valid JSON, or nested too deeply.
    """
    value = _load(text, "is not valid JSON")
    if isinstance(value, list):
        return Document("json", group(_records(value, limits), "items", "\n\n"))
    lines = "\n".join(_bounded(_lines(value, "", limits.depth), limits))
    return Document("json", [Section(lines)] if lines else ())


def read_json_lines(text: str, limits: DocumentLimits) -> Document:
    """Parse JSON Lines: one value per line.

    Raises:
        Refusal: a line is not valid JSON, or nested too deeply.
    """
    lines = [line for line in text.split("\n") if line.strip()]  # `splitlines` would also split within strings
    values = (_load(line, f"is not valid JSON in line {number}") for number, line in enumerate(lines, start=1))
    return Document("jsonl", group(_records(values, limits), "lines", "\n\n"))


def _load(text: str, problem: str) -> Any:
    try:
        # Numbers are kept as written: Python would turn 1.10 into 1.1, and rejects very long ones.
        return json.loads(text, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise Refusal(Reason.CORRUPT, "is nested too deeply") from error
    except ValueError as error:
        raise Refusal(Reason.CORRUPT, f"{problem} ({error})") from error


def _records(values: Iterable[Any], limits: DocumentLimits) -> list[str]:
    return list(_bounded(("\n".join(_lines(value, "", limits.depth)) for value in values), limits))


def _bounded(lines: Iterable[str], limits: DocumentLimits) -> Iterator[str]:
    """Check the length of the text while it grows: paths are repeated, so deep JSON becomes a far longer text."""
    chars = 0
    for line in lines:
        chars += len(line)
        check_chars(chars, limits)
        yield line


def _lines(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth == 0:
        raise Refusal(Reason.CORRUPT, "is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(inner, f"{path}.{one_line(key)}" if path else one_line(key), depth - 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _lines(inner, f"{path}[{number}]", depth - 1)
    elif value not in (None, ""):
        text = clean(value) if isinstance(value, str) else json.dumps(value)
        yield f"{path}: {text}" if path else text
