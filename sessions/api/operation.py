"""`Operation`: a document that is being added. Follow it, wait for it or cancel it, from any process, by its id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sessions.api.turn import Turn
from sessions.client.blocking import iterating
from sessions.protocol.event import Event, EventType


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation has come.

    Attributes:
        stage: `reading`, `embedding` or `writing`.
        done, total: pages of the document while it is read, then its chunks; total is 0 until it is known.
        pages: number of pages, if the document has pages and they were counted.
    """

    stage: str
    done: int
    total: int
    pages: int | None = None

    @classmethod
    def of(cls, event: Event) -> Progress | None:
        """The progress in an event; None for events of other types."""
        if event.type is not EventType.PROGRESS:
            return None
        data = event.data
        return cls(str(data["stage"]), int(data.get("done", 0)), int(data.get("total", 0)), data.get("pages"))


class Operation(Turn):
    """Work for the retrieval role: like a turn in every respect, with a dict as its result."""

    def __repr__(self) -> str:
        return f"Operation({self.id!r})"

    async def aprogress(self) -> AsyncIterator[Progress]:
        """Iterate over the operation's progress, up to its end."""
        async for event in self.aevents():
            if (progress := Progress.of(event)) is not None:
                yield progress

    progress = iterating(aprogress)
