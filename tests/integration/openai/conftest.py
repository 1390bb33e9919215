"""OpenAI's own client, on the shared gateway and workers."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess


@pytest.fixture(scope="session")
def client(gateway_process: GatewayProcess, fleet: Fleet) -> Iterator[openai.OpenAI]:
    """The client of the `openai` package, which does not repeat requests by itself here."""
    with openai.OpenAI(
        base_url=f"{gateway_process.url}/v1", api_key="none needed", max_retries=0, timeout=60
    ) as client:
        yield client
