"""Makes text valid Unicode: joins surrogate pairs, and replaces lone surrogates by U+FFFD.

Providers split an emoji between two chunks, and file names contain bytes that are not UTF-8. Python allows surrogates
in a `str` but cannot encode them, so neither the journal nor a request to a provider could contain the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

Kind = TypeVar("Kind")
REPLACEMENT: Final = "\ufffd"
# JSON escapes: a pair; a lone surrogate; any other escape, so that an escaped backslash before a `u` is not misread.
_ESCAPES: Final = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)|\\.", re.DOTALL)


def well_formed(text: str) -> str:
    """The text with pairs joined and lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def well_formed_json(text: str) -> str:
    """The same for JSON, in which surrogates may also be written as escapes."""
    return _ESCAPES.sub(lambda found: REPLACEMENT if found[1] else found[0], well_formed(text))


def well_formed_values(value: Any) -> Any:
    """A value (dict, list, dataclass) with all its strings well-formed; the same object if they already are."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        pairs = {well_formed_values(key): well_formed_values(inner) for key, inner in value.items()}
        same = all(a is c and b is d for (a, b), (c, d) in zip(value.items(), pairs.items(), strict=False))
        return value if same and len(pairs) == len(value) else pairs
    if isinstance(value, list):
        items = [well_formed_values(inner) for inner in value]
        return value if all(a is b for a, b in zip(value, items, strict=True)) else items
    if is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for field in fields(value):
            if field.init and (new := well_formed_values(old := getattr(value, field.name))) is not old:
                changed[field.name] = new
        return replace(value, **changed) if changed else value
    return value


def well_formed_result(value: Any) -> Any:
    """A tool's result as a JSON value with all strings well-formed.

    Raises:
        TypeError, ValueError: it cannot be represented in JSON.
    """
    return json.loads(well_formed_json(json.dumps(value, default=_plain)))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, BaseModel):
        return value.model_dump()
    return to_jsonable_python(value)


async def well_formed_texts(texts: AsyncIterator[tuple[Kind, str]]) -> AsyncIterator[tuple[Kind, str]]:
    """Make a stream of text chunks well-formed; half a pair at the end of a chunk waits for the next of its kind."""
    held: tuple[Kind, str] | None = None
    async for kind, text in texts:
        if held is not None and held[0] != kind:
            yield held[0], REPLACEMENT
            held = None
        whole = held[1] + text if held is not None else text
        held = (kind, whole[-1]) if "\ud800" <= whole[-1:] <= "\udbff" else None
        if sound := well_formed(whole[:-1] if held is not None else whole):
            yield kind, sound
    if held is not None:
        yield held[0], REPLACEMENT
