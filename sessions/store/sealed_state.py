"""Changes of encrypted state. A script cannot read it, so the result of a change is decided here.

A change that adds to a number, or swaps a value, has read it: the script writes the result only if the stored bytes
are still those; otherwise nothing is done, and it is decided again. Numbers add up as in `HINCRBY` and `HINCRBYFLOAT`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

from sessions.protocol.state_ops import StateOp
from sessions.store.sealing import KeyRing
from sessions.store.transitions.shared import Change, Refusal

_WHOLE: Final = re.compile(r"-?\d+\Z")
_NUMBER: Final = re.compile(r"-?\d")
_MOST_WHOLE: Final = 9 * 10**18
_MOST: Final = Decimal("1.7e308")
_EXACT: Final = Context(prec=400)
_PLACES: Final = Decimal("1e-17")


class Refused(Exception):
    """A change is impossible: `why` as in write_state.lua; `value` is the field's value (None: not set)."""

    def __init__(self, why: Refusal, field: str, value: str | None) -> None:
        super().__init__(why, field)
        self.why = why
        self.field = field
        self.value = value


@dataclass(frozen=True, slots=True)
class Decided:
    """Changes for a script, and the value (JSON) that each op leaves, None for none."""

    changes: list[Change]
    values: list[str | None]


def looked_at(ops: Iterable[StateOp]) -> list[str]:
    """The fields whose values must be known: those that are changed relative to their value before they are set."""
    seen: dict[str, bool] = {}
    for op in ops:
        seen.setdefault(op.field, op.kind in ("increment", "swap"))
    return [field for field, looks in seen.items() if looks]


def decide(
    keyring: KeyRing, key: str, ops: Sequence[StateOp], stored: Mapping[str, bytes | None], *, leave_out: bool = False
) -> Decided:
    """The result of the ops, one after the other, on the stored values of the fields that they read.

    Args:
        leave_out: an op that is impossible is left out, instead of raising.

    Raises:
        Refused: one is impossible. SealError: a stored value cannot be decrypted.
    """
    now = {field: None if raw is None else keyring.open(key, field, raw).decode() for field, raw in stored.items()}
    changed: dict[str, None] = {}
    values: list[str | None] = []
    for op in ops:
        try:
            now[op.field] = _after(op, now.get(op.field))
        except Refused:
            if not leave_out:
                raise
        else:
            changed[op.field] = None
        values.append(now.get(op.field))
    changes = [change for field in changed for change in _changes(keyring, key, field, now[field], stored)]
    return Decided(changes, values)


def _changes(
    keyring: KeyRing, key: str, field: str, value: str | None, stored: Mapping[str, bytes | None]
) -> list[Change]:
    encrypted = keyring.seal(key, field, (value or "null").encode())
    changes: list[Change] = [("swap", field, stored[field] or b"", encrypted)] if field in stored else []
    if value is None:
        return [*changes, ("delete", field, b"", b"")]
    return changes or [("set", field, encrypted, b"")]


def _after(op: StateOp, value: str | None) -> str | None:
    match op.kind:
        case "set":
            return op.a
        case "delete":
            return None
        case "swap":
            if (value is None) != (op.a == "") or (value is not None and not _same(value, op.a)):
                raise Refused("mismatch", op.field, value)
            return op.b
        case "increment":
            return _sum(op, value)


def _sum(op: StateOp, value: str | None) -> str:
    if value is not None and not _NUMBER.match(value):
        raise Refused("type", op.field, value)
    one, other = op.b if value is None else value, op.a
    if _WHOLE.match(one) and _WHOLE.match(other) and _small(one, other) and abs(int(one) + int(other)) < _MOST_WHOLE:
        return str(int(one) + int(other))
    added = _EXACT.add(Decimal(one), Decimal(other))
    if max(abs(added), abs(Decimal(one))) > _MOST:
        raise Refused("range", op.field, one)
    rounded = _EXACT.quantize(added, _PLACES).normalize(_EXACT)
    return f"{rounded:f}" if rounded else "0"


def _small(*texts: str) -> bool:
    return all(abs(int(text)) < _MOST_WHOLE for text in texts)


def _same(one: str, other: str) -> bool:
    """5 and 5.0 are equal. Two integers are compared as texts, because long ones would be equal as floats."""
    if one == other:
        return True
    if _WHOLE.match(one) and _WHOLE.match(other):
        return False
    return bool(_NUMBER.match(one) and _NUMBER.match(other)) and float(one) == float(other)
