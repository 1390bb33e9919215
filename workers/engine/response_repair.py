"""Model responses that break the rules, made such that the journal, the tools and every provider take them.

The answer has been paid for, so it is mended where that is possible, and always in the same way: what a replay reads
in the journal is what the run went on with.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

from pydantic_ai.messages import ModelResponse, ModelResponsePart, TextPart, ToolCallPart
from pydantic_core import from_json

from sessions.protocol.finite import non_finite, spelled_out
from workers.engine.well_formed import well_formed_json, well_formed_values

_MAYBE_NON_FINITE: Final = re.compile(r"NaN|Infinity|[eE]\+?[1-9]\d\d|\d{309}")


def usable(response: ModelResponse) -> ModelResponse:
    """The response with well-formed text, an id of its own for each call, and no text that is nothing but spaces.

    The same object if it is so already.
    """
    response = well_formed_values(response)
    parts = list(_calls_apart(_without_blank_text(response.parts)))
    same = all(old is new for old, new in zip(response.parts, parts, strict=True))
    return response if same else replace(response, parts=parts)


def _without_blank_text(parts: Sequence[ModelResponsePart]) -> Sequence[ModelResponsePart]:
    """An answer of spaces is none: the agent asks again for an empty one, and providers refuse spaces in a history.

    The part stays, for a provider may know it by its id.
    """
    texts = [part.content for part in parts if isinstance(part, TextPart)]
    if not any(texts) or "".join(texts).strip():
        return parts
    return [replace(part, content="") if isinstance(part, TextPart) else part for part in parts]


def _calls_apart(parts: Sequence[ModelResponsePart]) -> Iterator[ModelResponsePart]:
    """Results are matched with calls by their ids, by pydantic-ai, by providers and by the journal."""
    given = {part.tool_call_id for part in parts if isinstance(part, ToolCallPart)}
    seen: set[str] = set()
    for part in parts:
        if not isinstance(part, ToolCallPart):
            yield part
            continue
        call_id = part.tool_call_id
        if not call_id or call_id in seen:
            call_id = _free_id(call_id or "call", given)
            given.add(call_id)
        seen.add(call_id)
        args = _json_arguments(part.args)
        same = call_id == part.tool_call_id and args is part.args
        yield part if same else replace(part, tool_call_id=call_id, args=args)


def _json_arguments(args: Any) -> Any:
    """The same arguments as JSON that every provider takes back; the same object if they are so already.

    NaN becomes a text: many libraries send what they read, and then refuse to write it.
    """
    if isinstance(args, dict):
        return args if non_finite(args) is None else spelled_out(args)
    if not args:
        return args
    sound = well_formed_json(args)
    if _MAYBE_NON_FINITE.search(sound):
        with contextlib.suppress(ValueError):  # broken JSON: the model is told
            read = from_json(sound)
            if non_finite(read) is not None:
                return json.dumps(spelled_out(read))
    return args if sound == args else sound


def _free_id(base: str, taken: set[str]) -> str:
    return next(name for number in count(2) if (name := f"{base}-{number}") not in taken)
