"""Metadata filters as callers write them: what is refused, and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from sessions.client.arguments.knowledge import KnowledgeQuery
from sessions.client.arguments.memory import MemoryQuery
from sessions.errors import BadRequest
from sessions.protocol.filters import parse_filter, rank_of
from tests.support.filter_reference import matches


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"year": {"$foo": 1}}, r"'\$foo' of 'year' is no operator.*\$eq, \$ne, \$gt, \$gte, \$lt, \$lte, \$in, \$nin"),
        ({"year": {"gte": 2023}}, r"'gte' of 'year' is no operator; use '\$gte'"),
        ({"year": {"min": 2023}}, r'"\$eq"'),
        ({"year": {}}, "has no operator"),
        ({"$nor": [{"a": 1}]}, r"no operator '\$nor'.*\$and, \$or, \$not"),
        ({"$gte": 3}, "needs a name"),
        ({"$and": []}, "at least one filter"),
        ({"$and": {"a": 1}}, "list of at least one filter"),
        ({"$or": [1]}, "dict of conditions"),
        ({"$not": [{"a": 1}]}, "dict of conditions"),
        ({"year": {"$in": 3}}, "list of values"),
        ({"year": [{"$gt": 3}]}, "contains operators"),
        ({"year": {"$eq": [1, 2]}}, r"use \$in"),
        ({"year": {"$exists": 1}}, "true or false"),
        ({"year": {"$gt": True}}, "number, or a date"),
        ({"year": {"$gt": "later"}}, "number, or a date"),
        ({"year": {"$gt": "2024-02-31"}}, "number, or a date"),
        ({"year": {"$lt": 10**400}}, "number, or a date"),
        ({"year": {"$gt": None}}, "number, or a date"),
        ({f"n{n}": 1 for n in range(101)}, "101 conditions, and the limit is 100"),
    ],
)
def test_what_is_no_filter_is_refused(filters: dict[str, Any], says: str) -> None:
    """For memory as for knowledge, before anything is sent: an operator that nobody knows would find nothing."""
    with pytest.raises(BadRequest, match=says):
        MemoryQuery.of("tea", None, 5, filters, None, None, None)
    with pytest.raises(BadRequest, match=says):
        KnowledgeQuery.of("tea", 5, filters, None, None, None, None)


def test_filters_have_a_largest_depth() -> None:
    """A filter from outside does not exhaust the stack."""
    filters: dict[str, Any] = {"a": 1}
    for _ in range(40):
        filters = {"$not": filters}
    with pytest.raises(BadRequest, match="nested"):
        parse_filter(filters)


@pytest.mark.parametrize(
    ("metadata", "filters", "fits"),
    [
        ({"year": 2024}, {"year": {"$gte": 2023, "$lt": 2025}}, True),
        ({"year": 2024.0}, {"year": {"$gt": 2024}}, False),
        ({"year": "2024"}, {"year": {"$gte": 2023}}, False),
        ({"year": True}, {"year": {"$gte": 0}}, False),
        ({"at": "2024-01-31T23:30:00-01:00"}, {"at": {"$gte": "2024-02-01"}}, True),
        ({"tags": ["a", "b"]}, {"tags": {"$in": ["b", "c"]}}, True),
        ({"tags": ["a", "b"]}, {"tags": {"$nin": ["b"]}}, False),
        ({"sizes": [1, 9]}, {"sizes": {"$gt": 5}}, True),
        ({}, {"year": {"$ne": 2024}}, True),
        ({}, {"year": {"$exists": False}}, True),
        ({"year": None}, {"year": {"$exists": True}}, True),
        ({"lang": "en"}, {"$or": [{"lang": "de"}, {"$not": {"lang": "fr"}}]}, True),
        ({"year": 3}, {"year": {"$not": {"$lt": 5}}}, False),
    ],
)
def test_the_reference_says_what_the_documentation_does(
    metadata: dict[str, Any], filters: dict[str, Any], fits: bool
) -> None:
    """The property tests compare every engine with this reference."""
    parse_filter(filters)
    assert matches(metadata, filters) is fits


def test_ranks_are_in_the_order_of_their_values() -> None:
    """Those of numbers among themselves, and those of times."""
    numbers = [-1e308, -2.5, -2, -5e-324, 0, 5e-324, 1, 1.5, 2**53, 1e308]
    assert sorted(numbers, key=lambda number: str(rank_of(number))) == numbers
    assert rank_of(-0.0) == rank_of(0)
    times = ["0001-01-01", "1969-12-31T23:59:59.999999Z", "1970-01-01", "2024-01-31T00:30:00+01:00", "2024-01-31"]
    assert sorted(times, key=lambda text: str(rank_of(text))) == times
