"""Fixtures: one server and one fleet of two workers for the tests that do them no harm, fresh ones for the others."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_config.settings import load_settings
from tests.support.fleet import Fleet, running_fleet
from tests.support.gateway import ALLOWED_PAGE, GatewayProcess, running_gateway
from tests.support.servers import Server, running
from tests.support.side_by_side import SideBySide, begin_with_the_longest, end_run, mark_run
from tests.support.tokens import jwk_set, public_jwk


def pytest_configure(config: pytest.Config) -> None:
    """Mark a run that is spread over processes."""
    if _spreads(config):
        mark_run()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing running."""
    if _spreads(config):
        end_run(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]


def _spreads(config: pytest.Config) -> bool:
    return bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest where tests are spread over processes."""
    if hasattr(config, "workerinput"):
        begin_with_the_longest(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    """`-n` spreads files, whatever `--dist` says: tests of a file share what their module starts."""
    config.option.loadscopereorder = False
    return SideBySide(config, log)


@pytest.fixture(scope="session", autouse=True)
def _many_descriptors() -> None:
    """Each fleet that a test makes leaves a client with its connections in this process: over 1,024 in a whole run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """No setting of the developer's shell reaches a test; no test starts a fleet by itself."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith("SESSIONFLEET_") or name in (
            "REDIS_URL",
            "CELERY_BROKER_URL",
            "QDRANT_URL",
            "QDRANT_API_KEY",
            "OPENAI_API_KEY",
        ):
            patch.delenv(name)
    patch.setenv("SESSIONFLEET_AUTOSTART", "0")
    load_settings.cache_clear()
    yield
    patch.undo()
    load_settings.cache_clear()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests share: they use session ids of their own and do not stop it."""
    with running(Server(tmp_path_factory.mktemp("server"))) as started:
        yield started


@pytest.fixture(scope="session")
def cluster_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with cluster mode on, one node serving all slots."""
    with running(Server(tmp_path_factory.mktemp("cluster"), cluster=True)) as started:
        yield started


@pytest.fixture(scope="session")
def fleet(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers that tests share: they kill none of them."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), server, workers=("shared1", "shared2")) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def gateway_process(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway without authentication that tests share, on the shared server: use session ids of your own.

    Its turns are run by the workers of `fleet`; a test that needs them asks for that fixture, too.
    """
    with running_gateway(server, tmp_path_factory.mktemp("gateway"), SESSIONFLEET_GATEWAY_AUTH="off") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def secured_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for tests with API keys: one in it turns authentication on."""
    with running(Server(tmp_path_factory.mktemp("secured-store"))) as started:
        yield started


@pytest.fixture(scope="session")
def secured_gateway(secured_store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that takes API keys and tokens, with small limits, and lets one other site's pages ask. No worker."""
    folder = tmp_path_factory.mktemp("secured-gateway")
    (folder / "jwks.json").write_bytes(jwk_set(public_jwk("ES256", "k1")))
    settings = {
        "SESSIONFLEET_GATEWAY_JWKS": str(folder / "jwks.json"),
        "SESSIONFLEET_GATEWAY_JWT_AUDIENCE": "sessionfleet",
        "SESSIONFLEET_GATEWAY_CORS": ALLOWED_PAGE,
        "SESSIONFLEET_MESSAGE_LIMIT_BYTES": "10000",
        "SESSIONFLEET_DOCUMENT_LIMIT_BYTES": "200000",
    }
    with running_gateway(secured_store, folder, **settings) as started:
        yield started


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, which it may kill."""
    with running(Server(tmp_path / "server")) as started:
        yield started


@pytest.fixture
def new_fleet(new_server: Server, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets of the test's own: `new_fleet(SESSIONFLEET_LEASE="2")`; start workers on them."""
    made: list[Fleet] = []

    def make(**env: str) -> Fleet:
        fleet = Fleet(tmp_path / f"fleet{len(made)}", new_server, env)
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()
