"""JSON: each value becomes a line with its path, so that it can be found and understood on its own."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from workers.retrieval.documents.base64_data import is_base64, without_data_uris
from workers.retrieval.documents.geojson import is_geojson, without_coordinates
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.notebook import is_notebook, read_notebook
from workers.retrieval.documents.plain import clean, one_line
from workers.retrieval.documents.refusal import Reason, Refusal, nested_too_deeply
from workers.retrieval.documents.table import group
from workers.retrieval.ports import Document, Section

# Longer lists of numbers are vectors, coordinates or measurements, which no search by words or meaning finds.
_MOST_NUMBERS: Final = 100
# What separates several values in a file: spaces, or the record separator of RFC 7464. Commas do not.
_BETWEEN_VALUES: Final = re.compile(r"[\s\x1e]*")


class _Number(str):
    """A number as it was written: Python would turn 1.10 into 1.1, and rejects very long ones."""

    __slots__ = ()


def read_json(text: str, limits: DocumentLimits) -> Document:
    """Parse JSON. The items of a list are grouped like the rows of a table; any other value is one section.

    A file with several values, such as JSON Lines under the name of JSON, is read value by value; a notebook is read as
    Markdown.

    Raises:
        Refusal: it is not valid JSON, or nested too deeply.
    """
    values = list(_values(text))
    if len(values) > 1:
        return Document("jsonl", _records(values, "lines", limits))
    value = _shown(values[0]) if values else None
    if is_notebook(value):
        return read_notebook(value, limits)
    if isinstance(value, list) and _count_numbers(value, limits.depth) <= _MOST_NUMBERS:
        return Document("json", _records(value, "items", limits))
    lines = "\n".join(_bounded(_lines(value, "", limits.depth), limits))
    return Document("json", [Section(lines)] if lines else ())


def read_json_lines(text: str, limits: DocumentLimits) -> Document:
    """Parse JSON Lines: one value per line, or values of several lines one after the other.

    Raises:
        Refusal: a line is not valid JSON, or nested too deeply.
    """
    return Document("jsonl", _records(_values(text), "lines", limits))


def _values(text: str) -> Iterator[Any]:
    """All values of a text, one after the other."""
    decoder = json.JSONDecoder(parse_int=_Number, parse_float=_Number, object_pairs_hook=_object)
    at = _start(text, 0)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except RecursionError as error:
            raise nested_too_deeply() from error
        except ValueError as error:
            raise Refusal(Reason.CORRUPT, f"is not valid JSON ({error})") from error
        yield value
        at = _start(text, at)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Python would keep only the last of several values with the same name."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found.clear()
    seen: Counter[str] = Counter()
    for name, value in pairs:
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} ({seen[name]})"] = value
    return found


def _start(text: str, at: int) -> int:
    found = _BETWEEN_VALUES.match(text, at)
    return found.end() if found else at


def _records(values: Iterable[Any], what: str, limits: DocumentLimits) -> list[Section]:
    """Each value as the lines of its parts; values are grouped like the rows of a table."""
    texts = ("\n".join(_lines(_shown(value), "", limits.depth)) for value in values)
    return group(list(_bounded(texts, limits)), what, "\n\n")


def _shown(value: Any) -> Any:
    return without_coordinates(value) if is_geojson(value) else value


def _bounded(lines: Iterable[str], limits: DocumentLimits) -> Iterator[str]:
    """Check the length of the text while it grows: paths are repeated, so deep JSON becomes a far longer text."""
    chars = 0
    for line in lines:
        chars += len(line)
        limits.check_chars(chars)
        yield line


def _lines(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth == 0:
        raise nested_too_deeply()
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(inner, f"{path}.{one_line(key)}" if path else one_line(key), depth - 1)
    elif isinstance(value, list):
        if count := _count_numbers(value, depth):
            yield _numbers(value, count, path)
            return
        for number, inner in enumerate(value):
            yield from _lines(inner, f"{path}[{number}]", depth - 1)
    elif text := _scalar(value):
        yield f"{path}: {text}" if path else text


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, _Number):
        return value
    if isinstance(value, str):
        return "" if is_base64(value) else clean(without_data_uris(value))
    return json.dumps(value)


def _numbers(value: list[Any], count: int, path: str) -> str:
    """A list of numbers in one line: all of them, or the first ones of a very long list."""
    if isinstance(value[0], list):
        text = f"{count:,} numbers"
    else:
        more = f", ... ({count:,} numbers)" if count > _MOST_NUMBERS else ""
        text = ", ".join(value[:_MOST_NUMBERS]) + more
    return f"{path}: {text}" if path else text


def _count_numbers(value: list[Any], depth: int) -> int:
    """How many numbers a list has that contains nothing else, or many lists of them; 0 for any other list."""
    if value and all(isinstance(inner, _Number) for inner in value):
        return len(value)
    count = _leaves(value, depth)
    return count if count > _MOST_NUMBERS else 0


def _leaves(value: list[Any], depth: int) -> int:
    """The number of leaves of nested lists, if all of them are numbers, otherwise 0."""
    if depth == 0:
        raise nested_too_deeply()
    count = 0
    for inner in value:
        found = 1 if isinstance(inner, _Number) else _leaves(inner, depth - 1) if isinstance(inner, list) else 0
        if not found:
            return 0
        count += found
    return count
