"""Parts of paths that several resources have, as OpenAPI shows them. Whether one can be used, the sessions say."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Header, Path

_SESSION: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
_TURN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}~[0-9a-f]{32}$"

SessionId = Annotated[
    str,
    Path(
        description="Letters, digits and `._:@-`, up to 128, the first a letter or digit.",
        examples=["chat-1"],
        json_schema_extra={"pattern": _SESSION},
    ),
]
TurnId = Annotated[
    str,
    Path(
        description="The `id` of a turn of this session.",
        examples=["chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21"],
        json_schema_extra={"pattern": _TURN},
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
        description="The same key with the same request gives the same turn, for a day after its end.",
        min_length=1,
        max_length=256,
        examples=["3f1c9a52-6d7e-4b7e-9c53-0f6a1f0e7d11"],
    ),
]
