"""Operations: the work of the retrieval role, as it goes over the wire."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from sessions.protocol.version import WIRE_VERSION, WireVersion


class OperationSpec(BaseModel):
    """A search, or other work for the retrieval role: `kind` says what its body contains."""

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    kind: str
    body: dict[str, Any] = Field(default_factory=dict)


class Extraction(BaseModel):
    """The turn that facts are extracted from, and the user whose memory they are for (None: the session's)."""

    model_config = ConfigDict(frozen=True)

    turn: str
    user: str | None = None


class OperationRequest(BaseModel):
    """What an operation does. `kind` names it on the wire.

    Attributes:
        direct: whether a process may answer it without a turn: it only reads, and its result is small.
    """

    # A request that cannot be read is reported in errors and logs without its query or text.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    kind: ClassVar[str]
    direct: ClassVar[bool] = False

    def spec(self) -> OperationSpec:
        """The form that goes over the wire."""
        return OperationSpec(kind=self.kind, body=self.model_dump(mode="json"))
