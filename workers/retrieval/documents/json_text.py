"""JSON: a line for each value, with the path to it, so that it is found and understood alone."""

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
    """A list's items are grouped as a table's rows are; anything else is one section.

    Raises:
        Refusal: it is no JSON, or nested too deeply.
    """
    value = _load(text, "is no sound JSON")
    if isinstance(value, list):
        return Document("json", group(_records(value, limits), "items", "\n\n"))
    lines = "\n".join(_bounded(_lines(value, "", limits.depth), limits))
    return Document("json", [Section(lines)] if lines else ())


def read_json_lines(text: str, limits: DocumentLimits) -> Document:
    """One value a line.

    Raises:
        Refusal: a line is no JSON, or nested too deeply.
    """
    lines = [line for line in text.split("\n") if line.strip()]  # `splitlines` would also cut within texts
    values = (_load(line, f"is no sound JSON in line {number}") for number, line in enumerate(lines, start=1))
    return Document("jsonl", group(_records(values, limits), "lines", "\n\n"))


def _load(text: str, problem: str) -> Any:
    try:
        # Numbers stay as they are written; Python would turn 1.10 into 1.1, and refuses very long ones.
        return json.loads(text, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise Refusal(Reason.CORRUPT, "is nested too deeply") from error
    except ValueError as error:
        raise Refusal(Reason.CORRUPT, f"{problem} ({error})") from error


def _records(values: Iterable[Any], limits: DocumentLimits) -> list[str]:
    return list(_bounded(("\n".join(_lines(value, "", limits.depth)) for value in values), limits))


def _bounded(lines: Iterable[str], limits: DocumentLimits) -> Iterator[str]:
    """Counts while it goes: paths repeat, so that the text of deep JSON is far longer than the JSON."""
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
