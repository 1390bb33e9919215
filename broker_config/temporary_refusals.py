"""Redis replies that refuse a command only for now: a failover, a replica that restarts, a full disk.

redis-py raises them as errors of the command, and keeps the connection. To a client they mean what a lost connection
means: drop it, resolve the server's name again, and ask once more. A client that stayed connected to a demoted server
would be refused for ever, and Celery's worker ends on any error that is not one of the connection.
"""

from __future__ import annotations

from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

HINTS: Final = {
    "READONLY": "this server is a replica now: a failover is under way, or REDIS_URL names a replica",
    "NOREPLICAS": "it has fewer replicas than `min-replicas-to-write`: bring them back, or lower the number",
    "MISCONF": "it cannot write to its disk: free space there, then see the server's log",
    "LOADING": "it loads its data into memory: wait",
    "MASTERDOWN": "this replica has lost its primary: wait for the failover, or name the primary in REDIS_URL",
    "CLUSTERDOWN": "some slots of the cluster have no primary: see `CLUSTER NODES`",
    "TRYAGAIN": "slots of the cluster are being moved: wait",
    "BUSY": "a script of somebody else's runs for too long: see its log, and `SCRIPT KILL`",
    "UNBLOCKED": "a failover ended a command that was waiting",
    "FAILOVER": "a failover is under way: wait",
}
"""What the error replies of Redis and Valkey begin with, and what to do about each."""

TEMPORARY_CODES: Final = frozenset(HINTS)


class TemporaryRefusal(RedisConnectionError):
    """The server refuses commands for now. The connection is closed."""


def hint_for(error: BaseException) -> str | None:
    """What to do about a temporary refusal; None for any other error."""
    if isinstance(error, TemporaryRefusal):
        return HINTS.get(str(error).partition(" ")[0])
    # redis-py counts LOADING among the errors of the connection already.
    return HINTS.get(_code(error)) if isinstance(error, (ResponseError, BusyLoadingError)) else None


def is_temporary(error: BaseException) -> bool:
    """Whether a reply of the server refuses a command only for now."""
    return isinstance(error, ResponseError) and _code(error) in TEMPORARY_CODES


def _code(error: RedisError) -> str:
    # redis-py cuts the code off the text of the errors that it has a class for.
    return str(getattr(error, "status_code", None) or str(error).partition(" ")[0])


def _refusal(error: ResponseError) -> TemporaryRefusal:
    text = str(error)
    return TemporaryRefusal(text if text.startswith(_code(error)) else f"{_code(error)} {text}")


class RefusalsDropConnection:
    """Mixed into a blocking connection: a temporary refusal closes it, and is an error of the connection."""

    codes = TEMPORARY_CODES

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if _code(error) not in self.codes:
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise _refusal(error) from error


class _AsyncRefusalsDropConnection:
    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not is_temporary(error):
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise _refusal(error) from error


class _Tcp(RefusalsDropConnection, redis.Connection):
    pass


class _Tls(RefusalsDropConnection, redis.SSLConnection):
    pass


class _Unix(RefusalsDropConnection, redis.UnixDomainSocketConnection):
    pass


class _AsyncTcp(_AsyncRefusalsDropConnection, redis.asyncio.Connection):
    pass


class _AsyncTls(_AsyncRefusalsDropConnection, redis.asyncio.SSLConnection):
    pass


class _AsyncUnix(_AsyncRefusalsDropConnection, redis.asyncio.UnixDomainSocketConnection):
    pass


class AsksAgain:
    """Mixed into a blocking connection by way of sentinels: asks them again before each reconnect.

    redis-py asks when its pool hands the connection out. A command that is tried again after that reconnects to the
    server that has just been demoted, and uses up its tries there.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command, connected."""
        if not self.is_connected:  # type: ignore[attr-defined]
            self.connect()  # type: ignore[attr-defined]
        super().send_packed_command(command, check_health)  # type: ignore[misc]


class _AsyncAsksAgain:
    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command, connected."""
        if not self.is_connected:  # type: ignore[attr-defined]
            await self.connect()  # type: ignore[attr-defined]
        await super().send_packed_command(command, check_health)  # type: ignore[misc]


class SentinelTcp(AsksAgain, redis.sentinel.SentinelManagedConnection, _Tcp):
    """A blocking connection to the primary that sentinels name."""


class SentinelTls(AsksAgain, redis.sentinel.SentinelManagedConnection, _Tls):
    """The same with TLS."""


class AsyncSentinelTcp(_AsyncAsksAgain, redis.asyncio.sentinel.SentinelManagedConnection, _AsyncTcp):
    """A connection of asyncio to the primary that sentinels name."""


class AsyncSentinelTls(_AsyncAsksAgain, redis.asyncio.sentinel.SentinelManagedConnection, _AsyncTls):
    """The same with TLS."""


_BLOCKING: Final[dict[str, type]] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}
_ASYNC: Final[dict[str, type]] = {"redis": _AsyncTcp, "rediss": _AsyncTls, "unix": _AsyncUnix}


def connection_class(url: str) -> type:
    """The class of blocking connections to a URL."""
    return _BLOCKING.get(url.partition("://")[0], _Tcp)


def async_connection_class(url: str) -> type:
    """The class of connections of asyncio to a URL."""
    return _ASYNC.get(url.partition("://")[0], _AsyncTcp)
