"""Repairs malformed model responses, so that the journal, the tools and every provider accept them.

The response was paid for, so it is repaired rather than rejected where possible. Repairs are deterministic: the run
continues with exactly what a replay reads from the journal.
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

from sessions.protocol.finite import non_finite, non_finite_as_strings
from workers.engine.well_formed import well_formed_json, well_formed_values

_MAYBE_NON_FINITE: Final = re.compile(r"NaN|Infinity|[eE]\+?[1-9]\d\d|\d{309}")


def repaired(response: ModelResponse) -> ModelResponse:
    """The response with well-formed text, a unique id for each call, and no whitespace-only text.

    Returns the same object if nothing needs repair.
    """
    response = well_formed_values(response)
    parts = list(_with_unique_ids(_without_blank_text(response.parts)))
    same = all(old is new for old, new in zip(response.parts, parts, strict=True))
    return response if same else replace(response, parts=parts)


def _without_blank_text(parts: Sequence[ModelResponsePart]) -> Sequence[ModelResponsePart]:
    """Empty the text parts if all their text is whitespace.

    pydantic-ai repeats the request after an empty answer, and providers refuse whitespace-only text in a history. The
    parts themselves stay, since a provider may refer to them by id.
    """
    texts = [part.content for part in parts if isinstance(part, TextPart)]
    if not any(texts) or "".join(texts).strip():
        return parts
    return [replace(part, content="") if isinstance(part, TextPart) else part for part in parts]


def _with_unique_ids(parts: Sequence[ModelResponsePart]) -> Iterator[ModelResponsePart]:
    """Give each call a unique id: pydantic-ai, providers and the journal match results with calls by id."""
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
    """The arguments as strict JSON, which every provider accepts back; the same object if they already are.

    NaN becomes a string: many libraries parse it from a response but refuse to write it into the next request.
    """
    if isinstance(args, dict):
        return args if non_finite(args) is None else non_finite_as_strings(args)
    if not args:
        return args
    sound = well_formed_json(args)
    if _MAYBE_NON_FINITE.search(sound):
        with contextlib.suppress(ValueError):  # invalid JSON: pydantic-ai reports it to the model
            read = from_json(sound)
            if non_finite(read) is not None:
                return json.dumps(non_finite_as_strings(read))
    return args if sound == args else sound


def _free_id(base: str, taken: set[str]) -> str:
    return next(name for number in count(2) if (name := f"{base}-{number}") not in taken)
