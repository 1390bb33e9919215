"""The owner of an index reclaims the space of removed chunks while it runs."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from sessions.errors import IndexUnavailable
from tests.support.waiting import await_until
from workers.retrieval import parts
from workers.retrieval.parts import RetrievalParts


class Index:
    """An index that is not available at first."""

    def __init__(self) -> None:
        self.asked = 0
        self.tidied = 0

    async def tidy(self) -> None:
        self.asked += 1
        if self.asked == 1:
            raise IndexUnavailable("not now")
        self.tidied += 1


async def test_an_open_index_is_tidied_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not open yet is left alone, and a failure does not end the loop."""
    monkeypatch.setattr(parts, "_TIDY_PAUSE", 0.001)
    unused: Any = None
    made = RetrievalParts(unused, unused, unused, unused, unused, lambda: None)
    keeping = asyncio.create_task(made.keep_tidy())
    await asyncio.sleep(0.01)
    assert not keeping.done()
    index = Index()
    made._index = cast(Any, index)

    async def tidied_twice() -> bool:
        return index.tidied >= 2

    await await_until(tidied_twice, description="the index is tidied twice")
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
