"""Path parameters that several resources have, as OpenAPI shows them. The sessions check whether they are valid."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Header, Path
from pydantic import AwareDatetime, BeforeValidator, Field

from broker_config.names import LONGEST_BASE, LONGEST_ID, RULE, pattern
from sessions.client.arguments.times import FURTHEST

SESSION_ID: Final[dict[str, Any]] = {"pattern": pattern(LONGEST_ID)}
TURN_ID: Final[dict[str, Any]] = {"pattern": r"^[^~]{1,256}~[0-9a-f]{32}$"}
BASE: Final[dict[str, Any]] = {"pattern": pattern(LONGEST_BASE)}
ID_RULE: Final = f"1 to {LONGEST_ID} characters: {RULE}"
KEYS: Final[dict[str, Any]] = {"propertyNames": {"minLength": 1, "maxLength": 256}}
QUEUE: Final[dict[str, Any]] = {"pattern": r"^[A-Za-z0-9._-]+$", "not": {"const": "retrieval"}}
TEXT: Final[dict[str, Any]] = {"pattern": r"[^\s\x1c-\x1f\x85\xa0]"}
"""It is not blank."""
FILTERS: Final = (
    "Conditions on the metadata: a value, a list of values (any of them), or operators: `$eq`, `$ne`, `$gt`, `$gte`, "
    "`$lt`, `$lte`, `$in`, `$nin`, `$exists`, `$not`; `$and`, `$or` and `$not` combine whole filters. Numbers and ISO "
    "8601 dates have an order."
)
_VALUE: Final[dict[str, Any]] = {"type": ["string", "number", "boolean", "null"]}
_VALUES: Final[dict[str, Any]] = {"type": "array", "items": _VALUE}
_ORDERED: Final[dict[str, Any]] = {
    "anyOf": [{"type": "number", "minimum": -1e300, "maximum": 1e300}, {"type": "string", "format": "date"}]
}
_OPERATORS: Final[dict[str, Any]] = {
    **dict.fromkeys(("$eq", "$ne"), _VALUE),
    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _ORDERED),
    **dict.fromkeys(("$in", "$nin"), _VALUES),
    "$exists": {"type": "boolean"},
}


def _conditions(operators: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "minProperties": 1, "properties": operators, "additionalProperties": False}


_CONDITION: Final[dict[str, Any]] = {
    "anyOf": [_VALUE, _VALUES, _conditions({**_OPERATORS, "$not": _conditions(_OPERATORS)})]
}
_PART: Final[dict[str, Any]] = {
    "type": "object",
    "propertyNames": {"pattern": "^[^$]"},
    "additionalProperties": _CONDITION,
    "description": "A filter; parts may be nested further.",
}
_PARTS: Final[dict[str, Any]] = {"type": "array", "minItems": 1, "items": _PART}
_FILTER: Final[dict[str, Any]] = {
    "properties": {"$and": _PARTS, "$or": _PARTS, "$not": _PART},
    "propertyNames": {"pattern": "^([^$]|[$](and|or|not)$)"},
    "additionalProperties": _CONDITION,
}
Filters = Annotated[dict[str, Any], Field(json_schema_extra=_FILTER)]
"""Conditions on metadata. The schema shows them as far as it can without naming itself."""
WEBHOOK: Final[dict[str, Any]] = {
    "description": "The URL that is called when it ends, with a signature (docs/webhooks.md).",
    "max_length": 2048,
    "examples": ["https://shop.example.com/hooks/turns"],
    "json_schema_extra": {"pattern": r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,4})?([/?#][!-~]*)?$"},
}
TOOL: Final[dict[str, Any]] = {"pattern": r"^[A-Za-z0-9_-]{1,64}$"}
"""For documentation only: the sessions check the value themselves, so that errors are the same everywhere."""

LONGEST_TTL: Final = 100 * 365 * 86400
"""Seconds."""

SessionId = Annotated[
    str,
    Path(
        description=f"Percent-encoded. {ID_RULE}.",
        examples=["chat-1"],
        json_schema_extra=SESSION_ID,
    ),
]
TurnId = Annotated[
    str,
    Path(
        description="The `id` of a turn of this session.",
        examples=["chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21"],
        json_schema_extra=TURN_ID,
    ),
]
OperationId = Annotated[
    str,
    Path(
        description="The `id` of an operation of this session, of its user, or of a named base.",
        examples=["chat-1~knowledge~0192f5c4e8d17e3c8e3c5b7f0a9d4e21"],
        json_schema_extra={"pattern": r"^.+~knowledge~[0-9a-f]{32}$"},
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Repeating a key with the same request returns the same turn, until a day after its end.",
        min_length=1,
        max_length=256,
        examples=["3f1c9a52-6d7e-4b7e-9c53-0f6a1f0e7d11"],
    ),
]


def _moment(value: object) -> object:
    """A text as a time; pydantic's own lax reading would take numbers, too."""
    return datetime.fromisoformat(value.upper()) if isinstance(value, str) else value


NotBefore = Annotated[float, Field(ge=0, le=FURTHEST)] | Annotated[AwareDatetime, BeforeValidator(_moment)]
"""Seconds from now, or a time with a zone."""
