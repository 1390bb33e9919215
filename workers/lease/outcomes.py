"""What becomes of a turn: a closed set, made by `execution` and written down by `turn_runner`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sessions.errors import (
    TurnFailed,
)
from sessions.protocol.call import Ask
from sessions.protocol.turn import TurnError, TurnStatus
from sessions.store.leases import Ending
from workers.engine.well_formed import well_formed, well_formed_values


@dataclass(frozen=True, slots=True)
class Retry:
    """A passing model error: the turn runs again after a pause, in its place."""

    pause: float
    why: str


@dataclass(frozen=True, slots=True)
class Later:
    """A delivery that came to nothing: it is tried again after a pause, and those behind it go on meanwhile."""

    pause: float
    why: str


@dataclass(frozen=True, slots=True)
class Crowded:
    """Not now: this worker has enough of its kind, or cannot reach the store. Any worker goes on with the turn later.

    That is no try, and no event.
    """

    pause: float


@dataclass(frozen=True, slots=True)
class Parked:
    """The turn waits for answers from outside."""

    asks: Sequence[Ask]


class Left(StrEnum):
    """The turn is not ended by this worker."""

    HANDED_OVER = "handed_over"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Pause:
    """The run waits for its tasks: it is looked at again when one ends, or after so many seconds."""

    seconds: float


Outcome = Ending | Retry | Later | Crowded | Left | Pause | Parked


def failed(error: TurnFailed) -> Ending:
    """The ending of a turn that failed."""
    # What is quoted may be no Unicode, such as a file's name; the turn must end all the same.
    detail = well_formed_values(error.detail)
    stored = TurnError(type=type(error).__name__, message=well_formed(str(error)), detail=detail)
    return Ending(TurnStatus.FAILED, error=stored.model_dump_json().encode())
