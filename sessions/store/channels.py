"""A process's subscriptions to sharded channels, on one connection (on a cluster, one per shard).

Messages are lost while a connection is broken. Whoever subscribes is told when it is back, and must not depend on any
message.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from broker_config.redis_clients import PASSING
from broker_config.telemetry import get_logger
from sessions.store.scripts import store_error
from sessions.store.shelter import sheltered

_PAUSE: Final = 1.0
_LULL: Final = 0.01
_TOLERATED: Final = 2
"""Failures in a row, about a second apart, that are not worth a line in the log."""
_ONE_OUTAGE: Final = 30.0
"""Seconds within which two failures belong to the same outage: an attempt to connect may take some."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Subscriber:
    receive: Callable[[bytes], None]
    resumed: Callable[[], None]


class _Outage:
    """Tells an outage from a server that was restarted, or was stopped just before its client."""

    def __init__(self) -> None:
        self._failures = 0
        self._last = -math.inf

    def note(self, error: Exception) -> None:
        """Log the third failure in a row: no operator needs to know of a connection that is back by then."""
        now = time.monotonic()
        self._failures = self._failures + 1 if now - self._last < _ONE_OUTAGE else 1
        self._last = now
        if self._failures == _TOLERATED + 1:
            _log.warning("bell_broken", error=repr(error))


class Channels:
    """One per process, used on one event loop."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._pubsub: Any = None
        self._subscribers: dict[bytes, _Subscriber] = {}
        self._listeners: dict[str, asyncio.Task[None]] = {}  # one; on a cluster one per shard
        self._lock = asyncio.Lock()

    async def subscribe(self, channel: str, receive: Callable[[bytes], None], resumed: Callable[[], None]) -> None:
        """Subscribe to a channel, once.

        Args:
            receive: takes each message; must not raise.
            resumed: called after messages may have been lost; must not raise.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        if channel.encode() not in self._subscribers:
            await sheltered(self._subscribe_once(channel, _Subscriber(receive, resumed)))

    async def _subscribe_once(self, channel: str, subscriber: _Subscriber) -> None:
        async with self._lock:
            if channel.encode() in self._subscribers:
                return
            try:
                if self._pubsub is None:
                    self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
                await self._pubsub.ssubscribe(channel)
            except PASSING as error:
                raise store_error(error) from error
            self._subscribers[channel.encode()] = subscriber
            self._listen_to(channel)

    def _listen_to(self, channel: str) -> None:
        node = self._client.get_node_from_key(channel) if hasattr(self._client, "get_node_from_key") else None
        shard = node.name if node else ""
        if shard not in self._listeners or self._listeners[shard].done():
            self._listeners[shard] = asyncio.get_running_loop().create_task(self._listen(node))

    async def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners.values():
            listener.cancel()
        await asyncio.gather(*self._listeners.values(), return_exceptions=True)
        if self._pubsub is not None:
            await self._pubsub.aclose()

    async def _listen(self, node: Any) -> None:
        outage = _Outage()
        while True:
            try:
                await self._listen_once(node)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - subscribers do without messages meanwhile, and are told afterwards
                outage.note(error)
                await asyncio.sleep(_PAUSE)
                for subscriber in self._subscribers.values():
                    subscriber.resumed()

    async def _listen_once(self, node: Any) -> None:
        if node is None:
            async for message in self._pubsub.listen():
                self._deliver(message)
            return
        message = await self._pubsub.get_sharded_message(timeout=_PAUSE, target_node=node)
        if message is None:
            # No message came; or this shard has none of our channels any more, and the call returned at once.
            await asyncio.sleep(_LULL)
        self._deliver(message)

    def _deliver(self, message: dict[str, Any] | None) -> None:
        if message is not None and message["type"] == "smessage":
            subscriber = self._subscribers.get(message["channel"])
            if subscriber is not None:
                subscriber.receive(message["data"])
