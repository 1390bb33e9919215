"""Operations: the work of the retrieval role, as it crosses the wire."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from sessions.protocol.version import WIRE_VERSION, WireVersion


class OperationSpec(BaseModel):
    """A search, or another piece of work for the retrieval role: `kind` says what its body holds."""

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    kind: str
    body: dict[str, Any] = Field(default_factory=dict)


class Extraction(BaseModel):
    """Whose memory the facts are for that a turn takes from another turn's exchange; no user: the session's."""

    model_config = ConfigDict(frozen=True)

    turn: str
    user: str | None = None


class OperationRequest(BaseModel):
    """What an operation is to do. `kind` names it on the wire."""

    # A request that cannot be read is told of in errors and logs, without the query or text that is in it.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    kind: ClassVar[str]

    def spec(self) -> OperationSpec:
        """As it crosses the wire."""
        return OperationSpec(kind=self.kind, body=self.model_dump(mode="json"))
