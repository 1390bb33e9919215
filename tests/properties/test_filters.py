"""Random filters on random metadata: memory and each engine of knowledge find what the reference finds."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessions.client.arguments.filters import metadata_filter
from sessions.protocol.filters import parse_filter
from tests.support.filter_reference import matches
from tests.support.knowledge import ENGINES, MODEL, chunk, open_engine, vector
from workers.retrieval.index import records
from workers.retrieval.index.embedded import shard
from workers.retrieval.index.server import index as server
from workers.retrieval.memory.metadata import MetadataIndex
from workers.retrieval.ports import IndexQuery, KnowledgeIndex, Scope

_examples = itertools.count()
_NAMES = st.sampled_from(["a", "a", "b", 'a>c="1', "n" * 210])
_NUMBERS = st.one_of(
    st.sampled_from([0, -0.0, 1, 1.0, -1, 2024, 2024.5, 2**53, 2**53 + 1, -1e300, 5e-324]),
    st.integers(-2, 2),
    st.floats(allow_nan=False, allow_infinity=False),
)
_DATES = st.sampled_from(
    [
        "2024-01-31", "2024-01-31T00:00:00Z", "2024-01-31T00:00:00.000001", "2024-01-31 01:30:00+01:30",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00", "1969-12-31T23:59:59Z",
    ]
)  # fmt: skip
_TEXTS = st.sampled_from(["", "en", "2024", "2024-02-31", "20240131", "null", "*", "x" * 300, "\ud83d"])
_PLAIN = st.one_of(_NUMBERS, _DATES, _TEXTS, st.booleans() | st.none())
_VALUES = st.one_of(_PLAIN, st.lists(_PLAIN, max_size=3), st.just({"k": 1}))
METADATA = st.dictionaries(_NAMES, _VALUES, max_size=3)

_OPERATORS = st.one_of(
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), _NUMBERS | _DATES),
    st.tuples(st.sampled_from(["$eq", "$ne"]), _PLAIN | st.just({"k": 1})),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(_PLAIN, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
)
_CONDITIONS = st.lists(_OPERATORS, min_size=1, max_size=2).map(dict)
_ENTRIES = st.one_of(
    _CONDITIONS, st.builds(lambda inner: {"$not": inner}, _CONDITIONS), _PLAIN, st.lists(_PLAIN, max_size=2)
)
FILTERS = st.recursive(
    st.dictionaries(_NAMES, _ENTRIES, max_size=2),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"$and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"$or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part, rest: {"$not": part, **rest}, inner, st.dictionaries(_NAMES, _ENTRIES, max_size=1)),
    ),
    max_leaves=4,
)
_SETTINGS = settings(
    max_examples=int(os.environ.get("SF_PROPERTY_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="SF_PROPERTY_EXAMPLES" not in os.environ,
)


def expected(several: Sequence[Mapping[str, Any]], filters: Mapping[str, Any]) -> list[int]:
    return [number for number, metadata in enumerate(several) if matches(metadata, filters)]


@settings(_SETTINGS, max_examples=_SETTINGS.max_examples * 10)
@given(st.lists(METADATA, max_size=12), FILTERS)
def test_memory_finds_what_the_reference_does(several: list[dict[str, Any]], filters: dict[str, Any]) -> None:
    """Also after rows were dropped from the copy."""
    index = MetadataIndex()
    for row, metadata in enumerate(several):
        index.add(row, metadata)
    parsed = parse_filter(metadata_filter(filters))
    assert np.flatnonzero(index.mask(parsed, len(several))).tolist() == expected(several, filters)
    kept = several[::2]
    moved = np.array([row // 2 if row % 2 == 0 else -1 for row in range(len(several))], dtype=np.int32)
    index.move(moved)
    assert np.flatnonzero(index.mask(parsed, len(kept))).tolist() == expected(kept, filters)


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("written_by", ["this version", "an earlier version"])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_finds_what_the_reference_does(engine: str, written_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also among chunks of an earlier version, which had keywords of equal values only."""
    collection = f"filters-{os.getpid()}-{next(_examples)}"
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:

        async def opened() -> KnowledgeIndex:
            return open_engine(engine, Path(folder))

        index = runner.run(opened())

        async def found(several: list[dict[str, Any]], filters: dict[str, Any]) -> list[int]:
            scope = Scope(f"t{next(_examples)}", "user:x")
            points = [chunk(scope, "tea", number=n, metadata=metadata) for n, metadata in enumerate(several)]
            with pytest.MonkeyPatch.context() as patch:
                if written_by == "an earlier version":
                    patch.setattr(records, "tags_of", _older_tags)
                await index.write(collection, MODEL, points, published=True)
            query = IndexQuery(vector("tea"), None, [scope], limit=50, metadata=filters)
            return sorted(hit.payload["number"] for hit in await index.search(collection, MODEL, query))

        @_SETTINGS
        @given(st.lists(METADATA, max_size=8), FILTERS)
        def compared(several: list[dict[str, Any]], filters: dict[str, Any]) -> None:
            assert runner.run(found(several, filters)) == expected(several, filters)

        for module in (shard, server):
            monkeypatch.setattr(module, "PIECE", 3)
        try:
            compared()
        finally:
            runner.run(index.close())


def _older_tags(metadata: Mapping[str, Any]) -> list[str]:
    """The keywords that the first version wrote: one for each value."""
    tags = []
    for name, value in metadata.items():
        for each in value if isinstance(value, list) else [value]:
            same = int(each) if isinstance(each, float) and each.is_integer() else each
            text = f"{name}={json.dumps(same, ensure_ascii=False, sort_keys=True)}"
            text = text.encode("utf-8", "backslashreplace").decode()
            tags.append(text if len(text) <= 200 else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
    return tags
