"""The fingerprint of a model request: a digest of everything in it that must be the same on a replay."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelRequestPart
from pydantic_core import to_json

from workers.engine.scope import TurnScope

_FINGERPRINTED: Final = frozenset({"user-prompt", "tool-return", "retry-prompt", "retry-feedback"})


def fingerprint(scope: TurnScope, messages: Sequence[ModelMessage]) -> str:
    """A digest of the turn's input, and of all that the model got since.

    Responses are not included, since a replay reads them from the journal. Nor are system prompts, since many agents
    put the current time into them.
    """
    digest = blake2b(scope.input_digest, digest_size=12)
    run_id = scope.turn.turn_id
    in_this_turn = False
    for message in messages:
        in_this_turn = in_this_turn or message.run_id == run_id
        if in_this_turn and isinstance(message, ModelRequest):
            for part in message.parts:
                if part.part_kind in _FINGERPRINTED:
                    _add_part(digest, part)
    return digest.hexdigest()


def _add_part(digest: blake2b, part: ModelRequestPart) -> None:
    content = getattr(part, "content", None)
    raw = content.encode() if isinstance(content, str) else to_json(content, fallback=repr)
    digest.update(f"\0{part.part_kind}\0{getattr(part, 'tool_call_id', None)}\0{len(raw)}\0".encode())
    digest.update(raw)
