"""The user's metadata as keywords of a chunk, and filters as conditions on these keywords.

    year=2024       the entry `year` has this element, as JSON text
    year=*          there is an entry `year`
    year>c, year>c0, ...   the beginnings of the rank of its number, for comparisons; `year@...` for a date or time
    *               the chunk has all of these keywords (chunks of earlier versions have the first only)

A comparison is then a set of beginnings: the ranks above c0 9f begin with d to f, c1 to cf, c0a to c0f. So both engines
answer it from their index of keywords, and compare no numbers themselves: a range of an unindexed field takes ten times
as long as the search (2.3 s in a scope of 98,000 chunks), and an index for each name that users invent is not bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sessions.protocol.filters import (
    AllOf,
    AnyOf,
    Compares,
    Exists,
    Filter,
    HasValue,
    Not,
    RankKind,
    elements,
    rank_of,
    value_text,
)
from workers.retrieval.index.conditions import NOTHING, Condition, Conditions, Either, Negated, Together, clean

TAGS: Final = "tags"
COMPLETE: Final = "*"
_MARKS: Final[Mapping[RankKind, str]] = {"number": ">", "time": "@"}
_DIGITS: Final = "0123456789abcdef"
_LIMIT: Final = 200


def tags_of(metadata: Mapping[str, Any]) -> list[str]:
    """The keywords of a chunk with this metadata."""
    tags = [tag for name, value in metadata.items() for tag in _entry_tags(name, value)]
    return [*dict.fromkeys(tags), COMPLETE]


def filter_condition(parsed: Filter) -> Condition | Either | Together | Negated:
    """A filter as a condition on the keywords."""
    match parsed:
        case HasValue(name, values):
            return Condition(TAGS, tuple(sorted(_equal(name, text) for text in values))) if values else NOTHING
        case Exists(name):
            return Condition(TAGS, (_presence(name),))
        case Compares():
            return Condition(TAGS, tuple(_accepted(parsed)))
        case AllOf(parts):
            return Together(tuple(map(filter_condition, parts)))
        case AnyOf(parts):
            return Either(tuple(map(filter_condition, parts)))
        case Not(part):
            return Negated(filter_condition(part))


def incomplete() -> Conditions:
    """Selects the chunks that an earlier version wrote, whose keywords tell equal values only."""
    return [Negated(Condition(TAGS, (COMPLETE,)))]


def _entry_tags(name: str, value: Any) -> Iterator[str]:
    yield _presence(name)
    for element in elements(value):
        yield _equal(name, value_text(element))
        if (found := rank_of(element)) is not None:
            kind, rank = found
            for length in range(1, len(rank) + 1):
                yield _beginning(name, kind, rank[:length])


def _accepted(comparison: Compares) -> Iterator[str]:
    """The beginnings that exactly the ranks in this order to the comparison's rank have."""
    rank = comparison.rank
    for place, digit in enumerate(rank):
        at = _DIGITS.index(digit)
        others = _DIGITS[at + 1 :] if comparison.order in ("$gt", "$gte") else _DIGITS[:at]
        for other in others:
            yield _beginning(comparison.name, comparison.kind, rank[:place] + other)
    if comparison.order in ("$gte", "$lte"):
        yield _beginning(comparison.name, comparison.kind, rank)


def _equal(name: str, text: str) -> str:
    return _keyword(f"{name}={text}")


def _presence(name: str) -> str:
    return _keyword(f"{name}=*")


def _beginning(name: str, kind: RankKind, beginning: str) -> str:
    return _keyword(f"{name}{_MARKS[kind]}{beginning}")


def _keyword(text: str) -> str:
    """As it is or, if it is long, its digest."""
    plain = clean(text)
    return plain if len(plain) <= _LIMIT else f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"
