"""A search that a caller sends directly to a process of the retrieval role, as it goes over the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from sessions.protocol.operation import OperationSpec
from sessions.protocol.version import WIRE_VERSION, WireVersion


class DirectSearch(BaseModel):
    """A search without a turn.

    Attributes:
        session: key of the session, or of the user, in whose lane the search would be otherwise.
        operation: what to search for, as in the request of a turn.
        seconds: after this, nobody waits for the result any more.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    v: WireVersion = WIRE_VERSION
    session: str
    operation: OperationSpec
    seconds: float
