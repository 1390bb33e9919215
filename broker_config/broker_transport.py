"""kombu's Redis transport, made to survive temporary failures of the broker.

Celery's worker ends with "Unrecoverable error" on any exception that its transport does not declare as a connection
error. Two kinds of those are temporary: error replies during a failover or on a full disk, and messages that are not
wake-ups (somebody's `LPUSH turns null`). The former close the connection, so that Celery reconnects; the latter are
dropped and logged. A dropped message loses nothing: the store knows which sessions are due.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Final

import redis
import redis.sentinel
from kombu.transport import redis as kombu_redis

from broker_config.redis_url import RedisUrl
from broker_config.sentinel_url import is_sentinel
from broker_config.temporary_refusals import TEMPORARY_CODES, AsksAgain, RefusalsDropConnection

_log = logging.getLogger(__name__)
_SHOWN: Final = 200
_OF_TCP: Final = ("host", "port", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options")
# Errors of decoding a message: from JSON, from kombu's own types in it, or from endless nesting.
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)


class _BrokerRefusals(RefusalsDropConnection):
    """A worker that waits for messages treats a full broker as a temporary failure."""

    codes = TEMPORARY_CODES | {"OOM"}


class _ChannelParts:
    """What both channels change."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]
        plain = params["connection_class"]
        params["connection_class"] = type("BrokerConnection", (_BrokerRefusals, plain), {})
        return params

    def _size(self, queue: str) -> int:
        # Not in a MULTI, as kombu does it: a Redis 7.0 at its maxmemory refuses even reads there.
        channel: Any = self
        with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for priority in channel.priority_steps:
                pipe.llen(channel._q_for_pri(queue, priority))  # noqa: SLF001 - our own base class
            return int(sum(pipe.execute()))

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except _UNREADABLE as error:
            _dropped(error, "")
            return True

    def _receive_one(self, c: Any) -> Any:
        """A remote control message, which is sent by PUBLISH."""
        try:
            return super()._receive_one(c)  # type: ignore[misc]
        except _UNREADABLE as error:
            _dropped(error, "")
            return True


class _TransportParts:
    """What both transports change."""

    def _deliver(self, message: object, queue: str) -> None:
        if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
            _dropped(None, queue, message)
            return
        try:
            super()._deliver(message, queue)  # type: ignore[misc]
        except Exception as error:
            # kombu counts KeyError among the connection errors; here it means a message that lacks a required part.
            if isinstance(error, self.connection_errors) and not isinstance(error, KeyError):  # type: ignore[attr-defined]
                raise
            self._forget(message["properties"].get("delivery_tag"))
            _dropped(error, queue, message)

    def _forget(self, tag: object) -> None:
        # A channel records the messages that it delivers, and at its end gives back those that were not acknowledged. A
        # message that cannot even be given back would turn the worker's shutdown into an error, and the others would
        # reach the next worker.
        for channel in self.channels:  # type: ignore[attr-defined]
            with contextlib.suppress(KeyError, TypeError):
                channel.qos.get(tag)
                channel.basic_reject(tag, requeue=False)


def _dropped(error: Exception | None, queue: str, message: object = None) -> None:
    shown = "" if message is None else repr(message)[:_SHOWN]
    hint = "something else writes to this queue; give it its own database"
    _log.error("broker_message_dropped queue=%r error=%.200r message=%s hint=%r", queue, error, shown, hint)


class Channel(_ChannelParts, kombu_redis.Channel):
    """A channel to a Redis server, at any URL that the settings accept."""

    def __init__(self, connection: Any, *args: Any, **options: Any) -> None:
        self._url = RedisUrl.parse(connection.client.hostname)
        if self._url.path:
            self.connection_class = redis.UnixDomainSocketConnection  # type: ignore[assignment]
        super().__init__(connection, *args, **options)  # type: ignore[no-untyped-call]

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        url, params = self._url, super()._connparams(asynchronous=asynchronous)
        where = {"path": url.path} if url.path else {"host": url.host, "port": url.port}
        if url.path:
            params = {name: value for name, value in params.items() if name not in _OF_TCP}
        return {**params, **where, "db": url.db, "username": url.username, "password": url.password}


class Transport(_TransportParts, kombu_redis.Transport):
    """The transport for `redis://`, `rediss://` and unix sockets."""

    Channel = Channel
    can_parse_url = True  # so kombu passes the URL on unchanged; its own parser would not understand all of them

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """The URL in kombu's own format, which Flower reads."""
        return RedisUrl.parse(uri).for_kombu(password=include_password)


class _AskingConnection(AsksAgain, redis.sentinel.SentinelManagedConnection):
    pass


class _AskingTlsConnection(AsksAgain, kombu_redis.SentinelManagedSSLConnection):
    pass


class SentinelChannel(_ChannelParts, kombu_redis.SentinelChannel):
    """A channel to the primary that Sentinel names."""

    connection_class = _AskingConnection
    connection_class_ssl = _AskingTlsConnection


class SentinelTransport(_TransportParts, kombu_redis.SentinelTransport):
    """The transport for Sentinel URLs."""

    Channel = SentinelChannel


def transport_for(url: str) -> str:
    """The transport for a broker's URL, in the form of Celery's `broker_transport` setting."""
    kind = SentinelTransport if is_sentinel(url) else Transport
    return f"{__name__}:{kind.__name__}"
