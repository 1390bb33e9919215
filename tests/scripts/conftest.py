"""A server for the tests of scripts alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without workers: those of the shared fleet would act on a turn that a test leaves due."""
    with running(Server(tmp_path_factory.mktemp("scripts"))) as started:
        yield started
