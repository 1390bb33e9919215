"""Reads something from all partitions: with one call for each server that has some of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import RedisCluster

from broker_config.settings import Settings
from sessions.errors import BackendError
from sessions.store.keys import partition_key

Found = TypeVar("Found")
Batches = Sequence[tuple[str, ...]]
"""The bases of all partitions: those that one call reads are together."""


class PartitionBatches:
    """The partitions of one deployment, by the server that has them."""

    def __init__(self, client: Any, settings: Settings) -> None:
        self._client = client
        self._partitions = tuple(partition_key(number) for number in range(settings.partitions))

    async def read(self, read: Callable[[Batches], Awaitable[Found]]) -> Found:
        """What `read` returns for the batches. It is called again if a slot is not where the client expects it.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        if not isinstance(self._client, RedisCluster):
            return await read([self._partitions])
        try:
            return await read(await self._by_server(self._client))
        except BackendError as error:
            if type(error) is not BackendError:
                raise
            # A slot is being moved to another server, or has been since this client last asked: read each partition by
            # itself, which is redirected.
            return await read([(each,) for each in self._partitions])

    async def _by_server(self, cluster: RedisCluster) -> Batches:
        await cluster.initialize()
        found: dict[str, list[str]] = {}
        for partition in self._partitions:
            node = cluster.get_node_from_key(partition)
            found.setdefault("" if node is None else node.name, []).append(partition)
        return [tuple(partitions) for partitions in found.values()]
