"""A session as records, from the turns that an archive has of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sessions.transfer.records import AgentRecord, End, PastTurn, Record, SessionHeader, StateRecord


@dataclass(frozen=True, slots=True)
class RestoredTurn:
    """A turn of an archive, and the position in the history from which on it replaced the turns, if it did."""

    turn: PastTurn
    replaces_at: int | None = None


def restored_records(
    header: SessionHeader, agents: dict[str, Any], state: dict[str, Any], read: Callable[[], Iterable[RestoredTurn]]
) -> Iterator[Record]:
    """The records of a session. `read` yields its turns in their order, and is called twice."""
    kept = _kept(read())
    yield header.model_copy(update={"turns": len(kept)})
    for name, config in sorted(agents.items()):
        yield AgentRecord(name=name, config=config)
    for name, value in sorted(state.items()):
        yield StateRecord(name=name, value=value)
    for found in read():
        if found.turn.turn in kept:
            yield found.turn
    counts = {"session": 1, "agent": len(agents), "state": len(state), "turn": len(kept)}
    yield End(counts={name: number for name, number in counts.items() if number})


def _kept(turns: Iterable[RestoredTurn]) -> set[str]:
    """The ids of the turns that no other one took the place of."""
    order: list[str] = []
    for found in turns:
        if found.replaces_at is not None:
            del order[found.replaces_at :]
        order.append(found.turn.turn)
    return set(order)
