"""A page of the AI SDK, as far as HTTP goes, on the shared gateway and workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess


@pytest.fixture
def http(gateway_process: GatewayProcess, fleet: Fleet) -> Iterator[httpx.Client]:
    """A client of the gateway."""
    with gateway_process.client() as client:
        client.timeout = httpx.Timeout(60)
        yield client


@pytest.fixture
def chat() -> str:
    """The id of a chat that no other test has."""
    return f"ui-{uuid.uuid4().hex}"
