"""State within a turn: tools read the values at the beginning of the attempt, and their own turn's changes.

Changes are journalled with the step of the tool that made them, and take effect in the turn's commit; a turn that does
not succeed changes nothing. `temp:` keys live until the turn ends.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from sessions.errors import InvalidState
from sessions.protocol.state_ops import TEMP, StateOp, delete_op, increment_op, set_op


class TurnState:
    """All state that a turn sees, and its changes so far. Safe for tools that run at the same time."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})
        self._ops: list[StateOp] = []
        self._lock = threading.Lock()

    @property
    def ops(self) -> list[StateOp]:
        """The changes to commit, in the order in which they were made."""
        return [op for op in self._ops if not op.field.startswith(TEMP)]

    def values(self) -> dict[str, Any]:
        """What the turn sees now."""
        with self._lock:
            return dict(self._values)

    def apply(self, ops: Iterable[StateOp]) -> None:
        """Apply recorded changes from a journal, without checking whether they are allowed."""
        with self._lock:
            for op in ops:
                self._apply(op)

    def change(self, op: StateOp) -> Any:
        """Make one change; returns the value afterwards.

        Raises:
            InvalidState: an increment finds no number.
        """
        with self._lock:
            value = self._values.get(op.field)
            if op.kind == "increment" and value is not None and not _number(value):
                raise InvalidState(f"state {op.field!r} is {value!r}, not a number")
            self._apply(op)
            return self._values.get(op.field)

    def _apply(self, op: StateOp) -> None:
        match op.kind:
            case "delete":
                self._values.pop(op.field, None)
            case "increment":
                base = self._values.get(op.field, json.loads(op.b))
                self._values[op.field] = base + json.loads(op.a)
            case _:
                self._values[op.field] = json.loads(op.a if op.kind == "set" else op.b)
        self._ops.append(op)


class ToolState:
    """State as one tool call uses it: `ctx.state`. Reads see the turn's own changes; writes are this call's.

    Keys are texts; a prefix says whose the value is: none the session's, `user:`, `app:`, or `temp:` (this turn's).
    """

    def __init__(self, turn: TurnState | None = None) -> None:
        self._turn = turn or TurnState()
        self.ops: list[StateOp] = []

    def get(self, key: str, default: Any = None) -> Any:
        """One value, or the default."""
        return self._turn.values().get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Set a value, which must be JSON."""
        self._change(set_op(key, value))

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several values."""
        for key, value in values.items():
            self.set(key, value)

    def increment(self, key: str, amount: float = 1, default: float = 0) -> Any:
        """Add to a number; returns what this turn sees then. The commit adds the amount to the value at that time."""
        return self._change(increment_op(key, amount, default))

    def delete(self, key: str) -> None:
        """Remove a value."""
        self._change(delete_op(key))

    def as_dict(self) -> dict[str, Any]:
        """All values that this turn sees."""
        return self._turn.values()

    def __getitem__(self, key: str) -> Any:
        return self._turn.values()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self.delete(key)

    def __contains__(self, key: str) -> bool:
        return key in self._turn.values()

    def _change(self, op: StateOp) -> Any:
        value = self._turn.change(op)
        self.ops.append(op)
        return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
