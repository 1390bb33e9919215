"""The result in the record of an ended turn, or the exception that says why there is none."""

from __future__ import annotations

import json
from typing import Any

from sessions.client.output_type import OutputType
from sessions.errors import CorruptRecord, TurnFailed, turn_error
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import is_operation
from sessions.store.turns import TurnRecord


def result_of(record: TurnRecord, turn_id: str, output: OutputType | None) -> Any:
    """Return the result of a turn that has ended, as an object of its output type.

    Raises:
        TurnFailed: it has no result; the subclass says why. CorruptRecord: the result is missing.
    """
    if record.status is TurnStatus.SUCCEEDED:
        if record.result is None:
            raise CorruptRecord(f"{_subject(turn_id)}it succeeded, but its result is missing")
        value = json.loads(record.result)["output"]
        return value if output is None else output.load(value, turn_id)
    if record.error is not None:
        raise turn_error(record.error.type, f"{_subject(turn_id)}{record.error.message}", record.error.detail)
    raise TurnFailed(f"{_subject(turn_id)}it ended as {record.status}")


def _subject(turn_id: str) -> str:
    """What an error is about. That of an operation names the document, the model or the index itself."""
    return "" if is_operation(turn_id) else f"turn {turn_id!r}: "
