"""Clients of the store and of the broker's Redis, with timeouts that suit each use.

redis-py's own defaults wait long and retry often: probing an absent server takes seconds. These clients retry a
few times within about `connect_timeout`, and every script that they send survives being sent again (R1).
"""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ClusterDownError, MasterDownError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from broker_config.sentinel_clients import async_primary, primary
from broker_config.sentinel_url import SentinelUrl, is_sentinel
from broker_config.settings import Settings, SettingsError
from broker_config.temporary_refusals import async_connection_class, connection_class

AsyncStore = Any  # redis.asyncio.Redis or RedisCluster, whose stubs do not agree on what is awaitable

PASSING = (
    RedisConnectionError, RedisTimeoutError, ClusterDownError, MasterDownError, RedisClusterException, OSError,
)  # fmt: skip
"""Errors of a server that cannot be reached now, but perhaps in a moment."""

REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""Everything that our clients raise; RedisClusterException is not a RedisError."""

_MAX_CONNECTIONS = 32


def store_url(settings: Settings) -> str:
    """The store's URL.

    Raises:
        SettingsError: none is set; the embedded server must be resolved first.
    """
    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set: set it to the store's address, such as redis://localhost:6379/0")
    return settings.redis_url


def _options(settings: Settings, name: str) -> dict[str, Any]:
    return {
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": max(5.0, settings.connect_timeout),
        "client_name": name,
        "protocol": 3,
    }


def async_store(settings: Settings, *, name: str = "sessionfleet") -> AsyncStore:
    """A client for the event loop that uses it first; it has few connections, and waits for one instead of failing."""
    url = store_url(settings)
    retry = AsyncRetry(ExponentialBackoff(cap=0.25, base=0.02), 3)
    if settings.redis_cluster:
        return redis.asyncio.RedisCluster.from_url(url, **_options(settings, name))
    limits = {"max_connections": _MAX_CONNECTIONS, "timeout": 30.0}
    options = {**_options(settings, name), "retry": retry}
    if is_sentinel(url):
        return async_primary(SentinelUrl.parse(url), options, **limits)
    connection = async_connection_class(url)
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, connection_class=connection, **limits, **options)
    return redis.asyncio.Redis.from_pool(pool)  # `aclose` then also closes the pool


def sync_store(
    settings: Settings, *, name: str = "sessionfleet", tries: int = 0, patience: float | None = None
) -> redis.Redis | redis.RedisCluster:
    """A sync client for a separate thread (the heartbeat) or a short check (doctor).

    Args:
        patience: seconds that one connection or one reply may take, if the usual time is too long.
    """
    url, options = store_url(settings), _options(settings, name)
    if patience is not None:
        options |= {"socket_connect_timeout": patience, "socket_timeout": patience}
    if settings.redis_cluster:
        return redis.RedisCluster.from_url(url, **options)
    options["retry"] = Retry(ExponentialBackoff(cap=0.25, base=0.02) if tries else NoBackoff(), tries)
    if is_sentinel(url):
        return primary(SentinelUrl.parse(url), options)
    return redis.Redis.from_url(url, connection_class=connection_class(url), **options)
