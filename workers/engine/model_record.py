"""A model response as it is stored in the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter
from pydantic_ai.messages import ModelResponse

BROKEN: Final = "broken:"
"""The prefix of journal keys that record the usage of broken streams."""


@dataclass(slots=True)
class ModelRecord:
    """A model response as it is stored in the journal.

    Attributes:
        fingerprint: of the request as it was prepared for the model.
        asked: of the request before it was prepared; "" in the records of earlier versions.
    """

    fingerprint: str
    response: ModelResponse
    asked: str = ""

    def answers(self, asked: str) -> bool:
        """Whether the response is to a request with this fingerprint, which is not prepared for the model yet."""
        return asked in (self.asked, self.fingerprint)


_RECORD = TypeAdapter(ModelRecord)


def load_record(raw: bytes) -> ModelRecord:
    """Parse a journal entry of a model request."""
    return _RECORD.validate_json(raw)


def dump_record(record: ModelRecord) -> bytes:
    """Serialize a response for the journal."""
    return _RECORD.dump_json(record)


def load_response(raw: bytes) -> ModelResponse:
    """The response in a journal entry of a model request."""
    return load_record(raw).response
