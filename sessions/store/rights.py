"""Which commands the store's user lacks, if Redis has access control lists: checked once, at connect.

A script without a right fails half-way, so all commands are tried first. Each is queued in a MULTI that
is never executed: the server checks a command's rights when it is queued.
"""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from sessions.errors import StoreUnsupported
from sessions.store.keys import PROBE

# A call of each command that clients, workers and scripts use, in a form that a server accepts; K is one of our keys.
_CALLS: Final = tuple(
    tuple(call.split())
    for call in """
        del K; eval return 0; evalsha x 0; exists K; expire K 1; get K; hdel K f; hexists K f; hget K f; hgetall K
        hincrby K f 1; hincrbyfloat K f 1; hkeys K; hlen K; hmget K f; hscan K 0; hset K f v; hsetnx K f v; hvals K
        incr K; info; lindex K 0; linsert K before p v; llen K; lpos K v; lpush K v; lrange K 0 0; lrem K 0 v
        lset K 0 v; ltrim K 0 0; mget K; persist K; pexpire K 1; pexpireat K 1; pexpiretime K; pttl K; rename K K
        rpush K v; sadd K m; set K v; smembers K; spublish K m; srem K m; time; unlink K; xadd K * f v; xrange K - +
        xrevrange K + -; zadd K 1 m; zcard K; zcount K 0 0; zpopmin K; zrange K 0 0; zrangebyscore K 0 0; zrem K m
        zremrangebyscore K 0 0; zscore K m
    """.replace("\n", ";").split(";")
    if call.strip()
)
COMMANDS: Final = tuple(call[0] for call in _CALLS)
"""Their names. `ssubscribe` and `sunsubscribe` are needed as well, but cannot be tried like this."""

USEFUL: Final = ("dump", "memory|usage", "restore")
"""Without these, turns that have ended take more bytes. Users that were set up for earlier versions lack them."""


async def check_rights(client: Any) -> None:
    """Refuse a user that lacks rights.

    Raises:
        StoreUnsupported: with the commands that it may not run.
    """
    lacking: list[str] = []
    if isinstance(client, RedisCluster):
        await client.initialize()
        for node in client.get_primaries():  # each has its own users
            connection = node.acquire_connection()
            try:
                lacking += await _lacking(connection)
            finally:
                node.release(connection)
    else:
        lacking = await _lacking(client.connection_pool.make_connection())
    if lacking:
        names = list(dict.fromkeys(lacking))
        raise StoreUnsupported(
            f"the store's user may not run {', '.join(name.upper() for name in names)} on keys that begin with "
            f"'sf:'. Grant the rights: ACL SETUSER <user> ~sf:* &sf:* {' '.join(f'+{name}' for name in names)}. "
            "docs/security.md has all that are needed"
        )


async def _lacking(connection: Any) -> list[str]:
    """The commands that the connection's user may not run; none if that cannot be found out."""
    calls = [[PROBE if part == "K" else part for part in call] for call in _CALLS]
    lacking = []
    try:
        await connection.connect()
        await connection.send_command("MULTI")
        await connection.read_response()
        await connection.send_packed_command(connection.pack_commands(calls))
        for name in COMMANDS:
            try:
                await connection.read_response()
            except NoPermissionError:
                lacking.append(name)
            except ResponseError:  # full, or a command that this server does not have: other checks report that
                continue
    except (NoPermissionError, RedisConnectionError):  # of MULTI; or writes are refused for now, or the server is gone
        return []
    finally:
        await connection.disconnect()  # which discards what was queued
    return lacking
