"""The end of a cancelled turn, with what it had finished: the commit keeps that where an interrupt asked for it."""

from __future__ import annotations

from sessions.errors import TurnCancelled
from sessions.protocol import TurnError, TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.leases import Ending
from sessions.turn_state import TurnState
from workers.engine.ports import TurnInput
from workers.engine.salvage import finished_steps
from workers.held import HeldTurn
from workers.turn_states import TurnStates


def cancelled_ending(held: HeldTurn, turn: TurnInput | None, states: TurnStates) -> Ending:
    """How a cancelled turn ends. Whether its finished steps stay is the store's to say: the marks are there."""
    error = TurnError(type=TurnCancelled.__name__, message="cancelled by a client").model_dump_json().encode()
    if turn is None:
        return Ending(TurnStatus.CANCELLED, error=error)
    finished = finished_steps(turn, held.steps)
    state = TurnState()
    state.apply(finished.state)
    own, effects = states.changes(held.keys, held.begun, state)
    entry = HistoryEntry(held.begun.part, turn.agent.name, turn.now_ms, finished.message_count, finished.messages)
    return Ending(
        TurnStatus.CANCELLED,
        error=error,
        usage=finished.usage.model_dump_json().encode(),
        history_entry=entry.dump(),
        messages=finished.message_count,
        state_ops=own,
        effects=effects,
    )
