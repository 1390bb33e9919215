"""A model request as the agent made it, before it is prepared for the model.

To prepare a request, pydantic-ai looks through all of its texts. In a replay that was most of the work, and it grew
with the square of the turn's length; a request whose response is recorded need not be prepared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_ai.messages import ModelMessage, ModelResponse

from workers.engine.fingerprint import fingerprint
from workers.engine.model_record import load_record
from workers.engine.scope import TurnScope


def next_key(scope: TurnScope) -> str:
    """The journal key of the turn's next model response."""
    return f"model:{scope.requests + 1}"


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """A request that is not prepared yet.

    Attributes:
        key: the journal key of its response.
        fingerprint: of the request as it is.
        response: if the journal has it. None if there is none, or if only the prepared request can show whether it
            answers this one.
    """

    key: str
    fingerprint: str
    response: ModelResponse | None

    @classmethod
    def of(cls, scope: TurnScope, messages: Sequence[ModelMessage]) -> AskedRequest:
        """The turn's next request."""
        key, asked = next_key(scope), fingerprint(scope, messages)
        raw = scope.journal.lookup(key)
        record = None if raw is None else load_record(raw)
        return cls(key, asked, record.response if record is not None and record.answers(asked) else None)
