"""The window of history in tokens: when a turn has ended, how many of the past turns the next one still sees.

Tokens are not counted before a request: the provider says with each response how many the conversation has. If that is
more than the limit, the window moves for the next turn, so far that about half of the limit is free again. Within a
turn nothing moves, and a replay sees what the first attempt saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from pydantic_ai._context_size import context_tokens  # a response may sum up several requests; this knows which
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_core import to_json

from workers.engine.long_results import prompt_bytes
from workers.engine.ports import PastTurn
from workers.engine.prompt_cache import models_of
from workers.engine.stored_messages import dump_messages

_UNKNOWN: Final = 32_000
_MOST: Final = 64_000


def token_limit(setting: int | None, model: object) -> int:
    """The most tokens that a conversation may have before the window moves.

    Without a setting, half of the model's context, so that a turn has the other half for its own steps; but no more
    than 64,000, which is what an answer may need and what a person would still pay for. 32,000 if the context is not
    known. A fallback chain has the limit of its smallest model.
    """
    if setting is not None:
        return setting
    return min([min(_context(each) // 2, _MOST) for each in models_of(model)], default=_UNKNOWN)


def _context(model: Model) -> int:
    return model.profile.get("context_window") or 2 * _UNKNOWN


def kept_in_window(
    history: Sequence[PastTurn],
    new: Sequence[ModelMessage],
    *,
    limit: int,
    halved: int,
    result_bytes: int,
    parameters: ModelRequestParameters | None,
    added: str,
) -> int | None:
    """How many of the newest past turns stay in the window; None for all of them.

    Args:
        history: the past turns that the turn saw.
        new: its own messages.
        limit: as `token_limit` says.
        halved: how often old turns were left out of a request that the provider refused, each time half of it.
        result_bytes: the bytes to which tool results of past turns are shortened.
        parameters: of the last request; it had the tools besides the messages.
        added: what was added to each request and is not stored: the summary, memories and passages.
    """
    tokens = next((context_tokens(m) for m in reversed(new) if isinstance(m, ModelResponse)), 0)
    if not history or (tokens <= limit and not halved):
        return None
    sizes = [prompt_bytes(past.messages, result_bytes) for past in history]
    own = len(dump_messages(new))
    kept = [_fitting(sizes, (sum(sizes) + own) / 2**halved - own)] if halved else []
    if tokens > limit:
        besides = bytes_besides(new, parameters) + len(added.encode())
        per_byte = tokens / (sum(sizes) + own + besides)
        kept.append(_fitting(sizes, (limit / per_byte - besides) / 2 - own))
    return min(kept)


def _fitting(sizes: Sequence[int], budget: float) -> int:
    """How many of the last sizes fit into the budget."""
    return sum(total <= budget for total in accumulate(reversed(sizes)))


def bytes_besides(new: Sequence[ModelMessage], parameters: ModelRequestParameters | None) -> int:
    """The bytes of a request's instructions and tools."""
    return sum(map(len, _besides(new, parameters)))


def _besides(new: Sequence[ModelMessage], parameters: ModelRequestParameters | None) -> Iterator[bytes]:
    yield next((m.instructions or "" for m in reversed(new) if isinstance(m, ModelRequest)), "").encode()
    if parameters is not None:
        for definition in (*parameters.function_tools, *parameters.output_tools):
            yield to_json((definition.name, definition.description, definition.parameters_json_schema))
