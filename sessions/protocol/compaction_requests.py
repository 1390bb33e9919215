"""Compaction as it goes over the wire: whether a session has a summary of the turns before its window, and its work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self, get_args

from sessions.protocol.operation import OperationRequest

Compact = Literal["auto", "off"]
"""Whether the turns before a session's window are summarised."""

COMPACT_VALUES: Final[tuple[Compact, ...]] = get_args(Compact)


class CompactHistory(OperationRequest):
    """Summarise the next chunk of the turns before the session's window.

    Attributes:
        chain: the summaries that it continues; there is nothing to do if they were dropped.
        to: how many turns the summary is to cover.
        asked: when that was asked for; milliseconds since the epoch. Later requests for the same are other ones.
        most: bytes of turns that a request to the model may have, because it refused more; None for the usual number.
    """

    kind: ClassVar[str] = "compact"

    chain: str
    to: int
    asked: str
    most: int | None = None

    @classmethod
    def asked_by(cls, effect: Mapping[str, Any]) -> Self:
        """What an entry of the outbox asks for (`lua/lib/compaction.lua`)."""
        return cls(chain=effect["chain"], to=effect["to"], asked=effect["at"])
