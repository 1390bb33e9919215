"""Redis replies that refuse a command only for now: a failover, a replica that restarts, a full disk.

redis-py raises them as errors of the command and keeps the connection. For a client they should mean the same as a
lost connection: close it, resolve the server's name again, and retry once. A client that stayed connected to a demoted
server would be refused for ever, and Celery's worker ends on any error that is not a connection error.
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
    "READONLY": "this server is a replica now: a failover is in progress, or REDIS_URL names a replica",
    "NOREPLICAS": "it has fewer replicas than `min-replicas-to-write`: bring them back, or lower the number",
    "MISCONF": "it cannot write to its disk: free some space, then see the server's log",
    "LOADING": "it is loading its data into memory: wait",
    "MASTERDOWN": "this replica has lost its primary: wait for the failover, or name the primary in REDIS_URL",
    "CLUSTERDOWN": "some slots of the cluster have no primary: see `CLUSTER NODES`",
    "TRYAGAIN": "slots of the cluster are being moved: wait",
    "BUSY": "another client's script has been running for too long: see its log, and `SCRIPT KILL`",
    "UNBLOCKED": "a failover ended a command that was waiting",
    "FAILOVER": "a failover is in progress: wait",
}
"""The first words of the error replies of Redis and Valkey, and what to do about each."""

TEMPORARY_CODES: Final = frozenset(HINTS)


class TemporaryRefusal(RedisConnectionError):
    """The server refuses commands for now. The connection is closed."""


def hint_for(error: BaseException) -> str | None:
    """What to do about a temporary refusal; None for any other error."""
    if isinstance(error, TemporaryRefusal):
        return HINTS.get(str(error).partition(" ")[0])
    # redis-py already treats LOADING as a connection error.
    return HINTS.get(_code(error)) if isinstance(error, (ResponseError, BusyLoadingError)) else None


def is_temporary(error: BaseException) -> bool:
    """Whether an error reply refuses a command only for now."""
    return isinstance(error, ResponseError) and _code(error) in TEMPORARY_CODES


def _code(error: RedisError) -> str:
    # redis-py removes the code from the text of the errors that it has a class for.
    return str(getattr(error, "status_code", None) or str(error).partition(" ")[0])


def _refusal(error: ResponseError) -> TemporaryRefusal:
    text = str(error)
    return TemporaryRefusal(text if text.startswith(_code(error)) else f"{_code(error)} {text}")


class RefusalsDropConnection:
    """Mixed into a sync connection: a temporary refusal closes it, and is raised as a connection error."""

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
    """Mixed into a sync connection through sentinels: asks them again before each reconnect.

    redis-py asks them when its pool hands the connection out. A command that is retried after that reconnects to the
    server that has just been demoted, and uses up its retries there.
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
    """A sync connection to the primary that sentinels name."""


class SentinelTls(AsksAgain, redis.sentinel.SentinelManagedConnection, _Tls):
    """The same with TLS."""


class AsyncSentinelTcp(_AsyncAsksAgain, redis.asyncio.sentinel.SentinelManagedConnection, _AsyncTcp):
    """An asyncio connection to the primary that sentinels name."""


class AsyncSentinelTls(_AsyncAsksAgain, redis.asyncio.sentinel.SentinelManagedConnection, _AsyncTls):
    """The same with TLS."""


_BLOCKING: Final[dict[str, type]] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}
_ASYNC: Final[dict[str, type]] = {"redis": _AsyncTcp, "rediss": _AsyncTls, "unix": _AsyncUnix}


def connection_class(url: str) -> type:
    """The class of sync connections for a URL."""
    return _BLOCKING.get(url.partition("://")[0], _Tcp)


def async_connection_class(url: str) -> type:
    """The class of asyncio connections for a URL."""
    return _ASYNC.get(url.partition("://")[0], _AsyncTcp)
