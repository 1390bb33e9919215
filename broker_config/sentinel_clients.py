"""Clients of the primary that Sentinel names. Each new connection asks the sentinels again.

This is where the connections of `temporary_refusals` matter most: after a failover the old primary answers READONLY,
they close, and the next one is opened to the new primary.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker_config.sentinel_url import SentinelUrl
from broker_config.temporary_refusals import (
    AsyncSentinelTcp,
    AsyncSentinelTls,
    SentinelTcp,
    SentinelTls,
)


class _AsyncPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """A few connections to the primary, as to a server at a fixed address; closes those to the sentinels too."""

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        await self.sentinel_manager.aclose()


def async_primary(url: SentinelUrl, options: dict[str, Any], **pool: Any) -> redis.asyncio.Redis:
    """A client for the event loop that uses it first.

    Args:
        options: arguments of each connection.
        pool: arguments of the pool.
    """
    once = AsyncRetry(NoBackoff(), 0)
    asking = _asking(url, options, once)
    manager = redis.asyncio.sentinel.Sentinel(url.sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    connection = AsyncSentinelTcp if url.tls is None else AsyncSentinelTls
    limits = {**url.server_options, **options, **pool}
    return redis.asyncio.Redis.from_pool(
        _AsyncPool(url.master_name, manager, connection_class=connection, **limits)  # type: ignore[no-untyped-call]
    )


def primary(url: SentinelUrl, options: dict[str, Any]) -> redis.Redis:
    """A blocking client."""
    once = Retry(NoBackoff(), 0)
    manager = redis.sentinel.Sentinel(url.sentinels, sentinel_kwargs=_asking(url, options, once))  # type: ignore[no-untyped-call]
    connection = SentinelTcp if url.tls is None else SentinelTls
    limits = {**url.server_options, **options}
    client: redis.Redis = manager.master_for(url.master_name, connection_class=connection, **limits)  # type: ignore[no-untyped-call]
    return client


def _asking(url: SentinelUrl, options: dict[str, Any], once: object) -> dict[str, Any]:
    """How sentinels are asked: each only once, because if one does not answer, the next one is asked."""
    limits = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout")}
    return url.sentinel_options(retry=once, **limits)
