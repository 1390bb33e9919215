"""The outcomes of running a turn: a closed set. `turns.execution` decides on one, `turns.runner` writes it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sessions.errors import TurnFailed
from sessions.protocol.call import WaitingCall
from sessions.protocol.turn import TurnError, TurnStatus
from sessions.store.leases import Ending
from workers.engine.well_formed import well_formed, well_formed_values


@dataclass(frozen=True, slots=True)
class Retry:
    """A temporary error: the turn stays at the head of its mailbox and runs again after the pause.

    Attributes:
        counted: whether it counts as a retry. A call that was held back for a provider's rate limit does not.
    """

    pause: float
    why: str
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Redeliver:
    """A webhook was not delivered. It is tried again after the pause; later deliveries do not wait for it."""

    pause: float
    why: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """This worker cannot run the turn now: it runs enough of its kind, or the store is unreachable.

    Any worker may run it after the pause. That counts as neither an attempt nor a retry, and makes no event.
    """

    pause: float


@dataclass(frozen=True, slots=True)
class WaitForAnswers:
    """The turn waits for people or outside results to answer its pending calls."""

    calls: Sequence[WaitingCall]


@dataclass(frozen=True, slots=True)
class WaitForTurns:
    """The turn waits for other turns: a team's tasks, or agents that it asked.

    It runs again when one of them ends, and after this many seconds at the latest.
    """

    seconds: float


class NotEnded(StrEnum):
    """This worker stops running the turn without ending it."""

    HANDED_OVER = "handed_over"
    LEASE_LOST = "lost"


Outcome = Ending | Retry | Redeliver | Postpone | WaitForAnswers | WaitForTurns | NotEnded


def failed(error: TurnFailed) -> Ending:
    """The ending of a turn that failed."""
    # The error may quote text that is not valid Unicode, such as a file name; the turn must end all the same.
    detail = well_formed_values(error.detail)
    stored = TurnError(type=type(error).__name__, message=well_formed(str(error)), detail=detail)
    return Ending(TurnStatus.FAILED, error=stored.model_dump_json().encode())
