"""An index of each engine, under a collection name of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.knowledge import ENGINES, open_engine
from tests.support.real_qdrant import SERVER_KEY, SERVER_URL
from workers.retrieval.ports import KnowledgeIndex


@pytest.fixture(params=ENGINES)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KnowledgeIndex]:
    """A KnowledgeIndex, once for each engine."""
    opened = open_engine(request.param, tmp_path / "knowledge")
    yield opened
    await opened.close()


@pytest.fixture
async def collection(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A name; on a server what was made under it is removed again."""
    name = f"test-{uuid.uuid4().hex}"
    yield name
    if SERVER_URL and "server" in request.node.name:
        from qdrant_client import AsyncQdrantClient

        # Its version check is a thread that warns, in the middle of another test, of versions that the index supports.
        client = AsyncQdrantClient(url=SERVER_URL, api_key=SERVER_KEY, check_compatibility=False)
        await client.delete_collection(name)
        await client.close()
