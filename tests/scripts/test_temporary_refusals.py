"""Error replies that pass, each as a real server sends it: a script may reply with any error."""

from __future__ import annotations

import pytest

from broker_config.redis_clients import async_store, sync_store
from broker_config.settings import Settings
from broker_config.temporary_refusals import HINTS
from sessions.errors import BackendError, StoreUnavailable
from sessions.store.scripts import translated
from tests.support.servers import Server

_REFUSE = "return redis.error_reply(ARGV[1])"


@pytest.mark.parametrize("code", HINTS)
async def test_a_refusal_that_passes_says_what_to_do_and_closes_the_connection(server: Server, code: str) -> None:
    """Callers get `StoreUnavailable`, and the next command goes by a new connection to where the name leads then."""
    client = async_store(Settings(redis_url=server.url))  # type: ignore[call-arg]
    try:
        first = await client.client_id()
        with pytest.raises(StoreUnavailable) as raised, translated():
            await client.eval(_REFUSE, 0, f"{code} as the server says it")
        assert HINTS[code] in str(raised.value)
        assert await client.client_id() != first
    finally:
        await client.aclose()


@pytest.mark.parametrize("code", HINTS)
def test_a_blocking_client_leaves_the_server_too(server: Server, code: str) -> None:
    """The heartbeat's: it would renew no lease any more at a server that was demoted."""
    client = sync_store(Settings(redis_url=server.url))  # type: ignore[call-arg]
    try:
        first = client.client_id()
        with pytest.raises(StoreUnavailable), translated():
            client.eval(_REFUSE, 0, f"{code} as the server says it")
        assert client.client_id() != first
    finally:
        client.close()


async def test_any_other_error_keeps_the_connection(server: Server) -> None:
    """It is the command's, and a new connection would change nothing."""
    client = async_store(Settings(redis_url=server.url))  # type: ignore[call-arg]
    try:
        first = await client.client_id()
        with pytest.raises(BackendError) as raised, translated():
            await client.eval(_REFUSE, 0, "WRONGTYPE of another kind")
        assert not isinstance(raised.value, StoreUnavailable)
        assert await client.client_id() == first
    finally:
        await client.aclose()
