"""Text as Unicode has it: the halves of a surrogate pair are joined, and a half without its other one is replaced.

Providers cut an emoji between two chunks, file names come with bytes that are no UTF-8. Python keeps such halves in a
`str`, but no encoding takes them: neither the journal nor a request to a provider can hold them.
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
# A pair in JSON's escapes; one half; any other escape, so that an escaped backslash before a `u` is not taken for one.
_ESCAPES: Final = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)|\\.", re.DOTALL)


def well_formed(text: str) -> str:
    """The text with pairs joined and lone halves replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def well_formed_json(text: str) -> str:
    """JSON, whose texts may also hold halves as escapes."""
    return _ESCAPES.sub(lambda found: REPLACEMENT if found[1] else found[0], well_formed(text))


def well_formed_values(value: Any) -> Any:
    """A value (dict, list, dataclass) with all its texts well-formed. The same object if they are already."""
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
    """What a tool returned, as JSON with all texts well-formed.

    Raises:
        TypeError: it is not JSON.
        ValueError: it is not JSON.
    """
    return json.loads(well_formed_json(json.dumps(value, default=_plain)))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, BaseModel):
        return value.model_dump()
    return to_jsonable_python(value)


async def well_formed_texts(texts: AsyncIterator[tuple[Kind, str]]) -> AsyncIterator[tuple[Kind, str]]:
    """Pieces of text of several kinds; a half at the end of a piece waits for the next one of its kind."""
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
