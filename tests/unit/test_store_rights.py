"""The check of the store user's rights, on a cluster: connections go back to their nodes, whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.exceptions import TimeoutError as RedisTimeoutError

from sessions.store.rights import check_rights


class StalledConnection:
    """A connection to a node that does not answer."""

    async def connect(self) -> None:
        raise RedisTimeoutError("Timeout reading from the node")

    async def disconnect(self) -> None:
        return


class Node:
    """A node with one connection."""

    def __init__(self) -> None:
        self.free: list[Any] = [StalledConnection()]

    def acquire_connection(self) -> Any:
        return self.free.pop()

    def release(self, connection: Any) -> None:
        self.free.append(connection)


class Cluster(RedisCluster):
    """A cluster of one node, without a server."""

    def __init__(self) -> None:
        self.node = Node()

    async def initialize(self) -> Any:
        return self

    def get_primaries(self) -> Any:
        return [self.node]

    def __del__(self) -> None:
        return


async def test_a_node_that_does_not_answer_gets_its_connection_back() -> None:
    """Otherwise each failing check takes one more connection from the pool."""
    cluster = Cluster()
    with pytest.raises(RedisTimeoutError):
        await check_rights(cluster)
    assert len(cluster.node.free) == 1
