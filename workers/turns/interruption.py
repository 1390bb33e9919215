"""The end of a turn that did not complete: what it had finished stays in the history, in the step that ends it.

A card that was charged stays charged when the model's provider fails afterwards. Were the history silent about it, the
next turn's model would charge again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import (
    ApprovalTimeout,
    TurnCancelled,
    TurnDeadLettered,
    TurnDeadlineExceeded,
    TurnFailed,
)
from sessions.protocol.turn import TurnError, TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.leases import Ending
from sessions.store.open_turn import Closing
from sessions.tools.turn_state import TurnState
from workers.engine.ports import TurnInput
from workers.engine.salvage import finished_steps
from workers.lease.held_turn import HeldTurn
from workers.turns.states import TurnStates

_log = get_logger(__name__)
_CLOSINGS: Final[dict[Closing, tuple[TurnStatus, type[TurnFailed], str]]] = {
    Closing.CANCELLED: (TurnStatus.CANCELLED, TurnCancelled, "cancelled by a client"),
    Closing.DEAD_LETTERED: (
        TurnStatus.DEAD_LETTERED,
        TurnDeadLettered,
        "the worker of this turn died {crashes} times; its journal is kept",
    ),
    Closing.DEADLINE: (
        TurnStatus.FAILED,
        TurnDeadlineExceeded,
        "the deadline passed before the turn ended; give it more time with timeout=",
    ),
    Closing.UNANSWERED: (
        TurnStatus.FAILED,
        ApprovalTimeout,
        "nobody answered its pending calls in time; allow more with approval_timeout=",
    ),
}


def closed(why: Closing, crashes: int = 0) -> Ending:
    """The ending of a turn that is not run any more."""
    status, kind, message = _CLOSINGS[why]
    error = TurnError(type=kind.__name__, message=message.format(crashes=crashes))
    return Ending(status, error=error.model_dump_json().encode())


def with_finished_steps(held: HeldTurn, turn: TurnInput, ending: Ending, states: TurnStates) -> Ending:
    """An ending without an answer, with what the turn had finished.

    The changes of state that its tools made are for an interrupt alone: the commit takes them where the mark says so.
    """
    try:
        finished = finished_steps(turn, held.steps, held.state.partial_text)
    except ValueError as error:  # a step that this worker cannot read must not keep the turn from ending
        _log.warning("finished_steps_not_kept", turn=held.turn_id, error=repr(error))
        return ending
    state = TurnState()
    state.apply(finished.state)
    own, effects = states.changes(held.keys, held.turn, state)
    count, messages = finished.message_count, finished.messages
    entry = HistoryEntry(held.turn.part, turn.agent.name, turn.now_ms, count, messages, ending.status.value)
    return replace(
        ending,
        usage=finished.usage.model_dump_json().encode(),
        history_entry=entry.dump(),
        messages=count,
        state_ops=own,
        effects=effects,
    )
