"""The end of a turn that did not complete. The steps that it finished are kept in the history.

If a tool charged a card and the model's provider failed afterwards, the card stays charged. If the history did not
show that, the model would charge again in the next turn.
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
from workers.engine.salvage import completed_steps
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


def ending_for(closing: Closing, crashes: int = 0) -> Ending:
    """The ending of a turn that must not run any more."""
    status, kind, message = _CLOSINGS[closing]
    error = TurnError(type=kind.__name__, message=message.format(crashes=crashes))
    return Ending(status, error=error.model_dump_json().encode())


def with_completed_steps(held: HeldTurn, turn: TurnInput, ending: Ending, states: TurnStates) -> Ending:
    """The ending of a turn without an answer, with its completed steps as the entry in the history.

    It also has the changes of state that the turn's tools made. The commit applies them only if the turn was
    interrupted.
    """
    try:
        completed = completed_steps(turn, held.steps, held.state.partial_text)
    except ValueError as error:  # the turn must end even if this worker cannot read one of its steps
        _log.warning("finished_steps_not_kept", turn=held.turn_id, error=repr(error))
        return ending
    state = TurnState()
    state.apply(completed.state)
    own, effects = states.changes(held.keys, held.turn, state)
    count, messages = completed.message_count, completed.messages
    part, status, sender = held.turn.part, ending.status.value, held.turn.sender
    entry = HistoryEntry(part, turn.agent.name, turn.now_ms, count, messages, status, sender)
    return replace(
        ending,
        history_entry=entry.dump(),
        messages=count,
        state_ops=own,
        effects=effects,
    )
