"""The language of metadata filters, for memory and knowledge: what a caller writes, parsed into a tree.

    {"topic": "travel", "year": {"$gte": 2023}, "$or": [{"lang": ["en", "de"]}, {"draft": {"$exists": False}}]}

Clients parse a filter to refuse what is wrong with it; workers parse it again to carry it out. Nobody else defines what
a filter means. A condition looks at the elements of a metadata entry: the value, or each value of a list.

Numbers and dates are compared by their *ranks*: 16 hex digits whose alphabetical order is the order of the values. So
every engine compares them exactly alike, even one that knows keywords only.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sessions.errors import BadRequest

RankKind = Literal["number", "time"]
Order = Literal["$gt", "$gte", "$lt", "$lte"]

_ORDERS: Final[tuple[Order, ...]] = ("$gt", "$gte", "$lt", "$lte")
_OF_A_NAME: Final = ("$eq", "$ne", *_ORDERS, "$in", "$nin", "$exists", "$not")
_OF_FILTERS: Final = ("$and", "$or", "$not")
_DEEPEST: Final = 16
_MOST_CONDITIONS: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Stricter than `datetime.fromisoformat`, which takes '20240131' for a date: that may as well be the number of an order.
_DATE: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class HasValue:
    """One of the entry's elements equals one of these values, given as JSON texts; see `value_text`."""

    name: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Compares:
    """One of the entry's elements is of this kind, and its rank is in this order to `rank`."""

    name: str
    order: Order
    kind: RankKind
    rank: str

    def accepts(self, value: object) -> bool:
        """Whether one element satisfies the condition. A value of another kind does not."""
        kind_and_rank = rank_of(value)
        if kind_and_rank is None or kind_and_rank[0] != self.kind:
            return False
        rank = kind_and_rank[1]
        if rank == self.rank:
            return self.order in ("$gte", "$lte")
        return (rank > self.rank) == (self.order in ("$gt", "$gte"))


@dataclass(frozen=True, slots=True)
class Exists:
    """The metadata have an entry of this name, whatever its value (null and an empty list included)."""

    name: str


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of the parts holds; true without parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the parts holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter = HasValue | Compares | Exists | AllOf | AnyOf | Not


def parse_filter(written: Mapping[str, Any]) -> Filter:
    """The tree of a filter as its caller wrote it, of JSON values.

    Raises:
        BadRequest: it has an operator that does not exist, or an operand that the operator does not take.
    """
    parsed = _filter(written, 0)
    if (conditions := _count(parsed)) > _MOST_CONDITIONS:
        raise BadRequest(f"filters: there are {conditions} conditions, and the limit is {_MOST_CONDITIONS}; use $in")
    return parsed


def needs_order_or_presence(parsed: Filter) -> bool:
    """Whether a filter compares values or asks for the presence of a name, not only for equal values."""
    match parsed:
        case AllOf(parts) | AnyOf(parts):
            return any(map(needs_order_or_presence, parts))
        case Not(part):
            return needs_order_or_presence(part)
        case _:
            return isinstance(parsed, Compares | Exists)


# --- values ---------------------------------------------------------------------------------------------------


def elements(value: object) -> list[Any]:
    """What the conditions of an entry look at: the values of a list, or the value itself."""
    return list(value) if isinstance(value, list | tuple) else [value]


def value_text(value: object) -> str:
    """A value as JSON text, so that equal values have equal texts: 1.0 equals 1, and `True` does not."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def rank_of(value: object) -> tuple[RankKind, str] | None:
    """The kind and rank of a number or an ISO 8601 date or time; None for a value that has no order.

    Numbers are compared as 64-bit floats. A time without an offset counts as UTC, and a date as its midnight.
    """
    if isinstance(value, str):
        micros = _microseconds(value)
        return None if micros is None else ("time", f"{micros + 2**63:016x}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the floats
        return None
    return ("number", _float_rank(number)) if math.isfinite(number) else None


def _float_rank(number: float) -> str:
    """The bits of a float, changed so that they increase with it."""
    [bits] = struct.unpack(">Q", struct.pack(">d", number + 0.0))  # -0.0 becomes 0.0
    return f"{bits ^ (2**64 - 1 if bits >> 63 else 1 << 63):016x}"


def _microseconds(text: str) -> int | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        read = datetime.fromisoformat(text.upper())
    except ValueError:  # the 31st of February
        return None
    since = (read if read.tzinfo else read.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


# --- parsing --------------------------------------------------------------------------------------------------


def _filter(written: Mapping[str, Any], depth: int) -> Filter:
    if depth > _DEEPEST:
        raise BadRequest(f"filters: they are nested more than {_DEEPEST} deep; use fewer $and, $or and $not")
    return _all([_entry(name, value, depth) for name, value in written.items()])


def _entry(name: str, value: Any, depth: int) -> Filter:
    if name.startswith("$"):
        return _combined(name, value, depth)
    if isinstance(value, dict):
        return _operators(name, value, depth)
    if isinstance(value, list):
        return _among(name, value, f"the list of {name!r}")
    return HasValue(name, frozenset([value_text(value)]))


def _combined(operator: str, value: Any, depth: int) -> Filter:
    """`$and`, `$or` or `$not` of whole filters."""
    if operator == "$not":
        return Not(_filter(_mapping("$not", value), depth + 1))
    if operator not in _OF_FILTERS:
        if operator in _OF_A_NAME:
            raise BadRequest(f'filters: {operator!r} needs a name of the metadata: {{"year": {{"{operator}": ...}}}}')
        raise BadRequest(f"filters: there is no operator {operator!r}{_known()}")
    if not isinstance(value, list) or not value:
        raise BadRequest(f"filters: {operator} {_short(value)}: use a list of at least one filter")
    parts = [_filter(_mapping(operator, part), depth + 1) for part in value]
    return _all(parts) if operator == "$and" else AnyOf(tuple(parts))


def _operators(name: str, written: Mapping[str, Any], depth: int) -> Filter:
    """The conditions of one name, all of which must hold."""
    if depth > _DEEPEST:
        raise BadRequest(f"filters: {name!r} has more than {_DEEPEST} nested $not")
    if not written:
        raise BadRequest(f'filters: {name!r} has no operator: use {{"{name}": value}} or {{"{name}": {{"$gte": 1}}}}')
    return _all([_operator(name, operator, operand, depth) for operator, operand in written.items()])


def _operator(name: str, operator: str, operand: Any, depth: int) -> Filter:
    if operator in _ORDERS:
        return _compares(name, operator, operand)
    readers: Mapping[str, Callable[[], Filter]] = {
        "$eq": lambda: _equal(name, operator, operand),
        "$ne": lambda: Not(_equal(name, operator, operand)),
        "$in": lambda: _among(name, operand, f"$in of {name!r}"),
        "$nin": lambda: Not(_among(name, operand, f"$nin of {name!r}")),
        "$exists": lambda: _exists(name, operand),
        "$not": lambda: Not(_operators(name, _mapping("$not", operand), depth + 1)),
    }
    if operator not in readers:
        hint = f"; use {f'${operator}'!r}" if f"${operator}" in _OF_A_NAME else ""
        if not hint and not operator.startswith("$"):
            hint = f'; compare with a dict by {{"{name}": {{"$eq": ...}}}}'
        raise BadRequest(f"filters: {operator!r} of {name!r} is no operator{hint}{_known()}")
    return readers[operator]()


def _equal(name: str, operator: str, operand: Any) -> Filter:
    if isinstance(operand, list):
        raise BadRequest(f"filters: {operator} of {name!r} takes one value, not a list: use $in or $nin")
    return HasValue(name, frozenset([value_text(operand)]))


def _among(name: str, operand: Any, what: str) -> Filter:
    if not isinstance(operand, list):
        raise BadRequest(f"filters: {what} is {_short(operand)}: use a list of values")
    for value in operand:
        if isinstance(value, dict) and any(key.startswith("$") for key in value):
            raise BadRequest(f"filters: {what} contains operators: use values, or $or around whole conditions")
    return HasValue(name, frozenset(map(value_text, operand)))


def _exists(name: str, operand: Any) -> Filter:
    if not isinstance(operand, bool):
        raise BadRequest(f"filters: $exists of {name!r} is {_short(operand)}: use true or false")
    return Exists(name) if operand else Not(Exists(name))


def _compares(name: str, order: Order, operand: Any) -> Filter:
    kind_and_rank = rank_of(operand)
    if kind_and_rank is None:
        raise BadRequest(
            f"filters: {order} of {name!r} is {_short(operand)}: use a number, or a date such as '2024-01-31' or "
            "'2024-01-31T12:00:00Z'"
        )
    return Compares(name, order, *kind_and_rank)


def _mapping(operator: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadRequest(f"filters: {operator} has {_short(value)}: use a dict of conditions")
    return value


def _all(parts: Iterable[Filter]) -> Filter:
    found = tuple(parts)
    return found[0] if len(found) == 1 else AllOf(found)


def _count(parsed: Filter) -> int:
    match parsed:
        case AllOf(parts) | AnyOf(parts):
            return sum(map(_count, parts))
        case Not(part):
            return _count(part)
        case _:
            return 1


def _known() -> str:
    names, filters = ", ".join(_OF_A_NAME), ", ".join(_OF_FILTERS)
    return f". The operators of a name are {names}; around whole filters: {filters}"


def _short(value: object) -> str:
    return repr(value)[:60]
