"""A document on its way in, as its caller sees it: follow it, wait for it, cancel it; from any process, by its id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sessions.api.turn import Turn
from sessions.client.blocking import iterating
from sessions.protocol.event import Event, EventType


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is.

    Attributes:
        stage: `reading`, `embedding` or `writing`.
        done, total: pages of the document while it is read, then its chunks; total is 0 while it is not known.
        pages: of the document, where it has pages and they are counted.
    """

    stage: str
    done: int
    total: int
    pages: int | None = None

    @classmethod
    def of(cls, event: Event) -> Progress | None:
        """What an event says of the progress, if it says anything."""
        if event.type is not EventType.PROGRESS:
            return None
        data = event.data
        return cls(str(data["stage"]), int(data.get("done", 0)), int(data.get("total", 0)), data.get("pages"))


class Operation(Turn):
    """A piece of work of the retrieval role; it has all that a turn has, and its result is a dict."""

    def __repr__(self) -> str:
        return f"Operation({self.id!r})"

    async def aprogress(self) -> AsyncIterator[Progress]:
        """Iterate how far it is, up to its end."""
        async for event in self.aevents():
            if (progress := Progress.of(event)) is not None:
                yield progress

    progress = iterating(aprogress)
