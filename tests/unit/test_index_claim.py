"""Which process serves retrieval: one of a machine without QDRANT_URL, and one home of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from broker_config.redis_clients import async_store
from broker_config.settings import RETRIEVAL, Settings
from sessions.errors import IndexLocked, MissingExtra
from sessions.store.keys import INDEX, lanes_key, partition_key
from tests.support.servers import Server
from workers.retrieval_role import index_claim
from workers.retrieval_role.index_claim import IndexClaim


class Outage:
    """A store that does not answer at first; records which queues the claim serves meanwhile."""

    def __init__(self, store: Any, claim: IndexClaim, failures: int) -> None:
        self._store = store
        self._claim = claim
        self._failures = failures
        self.served_meanwhile: list[tuple[str, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def set(self, *args: Any, **options: Any) -> Any:
        if len(self.served_meanwhile) < self._failures:
            self.served_meanwhile.append(self._claim.queues)
            raise redis.ConnectionError("the store is down")
        return await self._store.set(*args, **options)


@pytest.fixture
def claim() -> Iterator[Callable[..., IndexClaim]]:
    """Makes claims, and lets them go."""
    made: list[IndexClaim] = []

    def make(home: Path, role: str = "all", **options: Any) -> IndexClaim:
        settings = Settings(redis_url="redis://127.0.0.1:1/0", home=home, role=role, **options)  # type: ignore[arg-type]
        made.append(IndexClaim(settings))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.release()


def test_one_process_of_a_machine_serves_retrieval(claim: Callable[..., IndexClaim], tmp_path: Path) -> None:
    """Another of role `all` runs turns, and takes over when the first is gone; role `retrieval` names the owner."""
    first, second = claim(tmp_path), claim(tmp_path)
    assert first.queues == ("turns", RETRIEVAL)
    assert second.queues == ("turns",)
    assert second.waiting
    assert not second.take()
    with pytest.raises(IndexLocked, match="is owned by process"):
        claim(tmp_path, "retrieval")
    first.release()
    assert second.take()
    assert second.queues == ("turns", RETRIEVAL)
    assert not second.waiting


def test_roles_say_which_queues_are_served(claim: Callable[..., IndexClaim], tmp_path: Path) -> None:
    """Turns only claims nothing; with a server everybody of the role serves."""
    turns = claim(tmp_path, "turns", queues=("turns", "turns.vip"))
    assert (turns.queues, turns.waiting) == (("turns", "turns.vip"), False)
    many = [claim(tmp_path, "retrieval", qdrant_url="http://127.0.0.1:1") for _ in range(2)]
    assert [one.queues for one in many] == [(RETRIEVAL,)] * 2


def test_a_worker_without_the_extra_says_what_to_install(
    claim: Callable[..., IndexClaim], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only retrieval was asked for; one of role `all` runs turns, and does not wait for an index."""
    monkeypatch.setattr(index_claim, "missing_for_retrieval", lambda: "onnxruntime")
    with pytest.raises(MissingExtra, match=r"onnxruntime is not .*'sessionfleet\[worker,documents\]'"):
        claim(tmp_path, "retrieval")
    everything = claim(tmp_path)
    assert (everything.queues, everything.waiting) == (("turns",), False)


async def test_an_index_is_taken_over_when_its_owner_is_gone(
    claim: Callable[..., IndexClaim], new_server: Server, tmp_path: Path
) -> None:
    """Not while the store cannot say whether it is the right one; then it is, and queues are read from then on."""
    store = async_store(Settings(redis_url=new_server.url))  # type: ignore[call-arg]
    owner, waiting = claim(tmp_path), claim(tmp_path)
    owner.release()
    served: list[str] = []
    outage = Outage(store, waiting, failures=2)
    await asyncio.wait_for(waiting.take_over(outage, served.append, pause=0.01), 20)
    assert outage.served_meanwhile == [("turns",)] * 2
    assert (waiting.queues, served) == (("turns", RETRIEVAL), [RETRIEVAL])
    await store.aclose()


async def test_an_index_of_another_home_is_not_taken_over(
    claim: Callable[..., IndexClaim], new_server: Server, tmp_path: Path
) -> None:
    """The deployment has changed meanwhile: the worker runs turns, and no operation reaches it."""
    store = async_store(Settings(redis_url=new_server.url))  # type: ignore[call-arg]
    owner, waiting = claim(tmp_path), claim(tmp_path)
    await store.set(INDEX, "elsewhere")
    await store.sadd(lanes_key(partition_key(7)), "default:s~knowledge")
    owner.release()
    served: list[str] = []
    await asyncio.wait_for(waiting.take_over(store, served.append, pause=0.01), 20)
    assert (waiting.queues, waiting.waiting, served) == (("turns",), False, [])
    await store.aclose()


async def test_two_homes_do_not_keep_half_of_the_knowledge_each(
    claim: Callable[..., IndexClaim], new_server: Server, tmp_path: Path
) -> None:
    """The second may serve while there are no documents; then it is refused, with what to do."""
    store = async_store(Settings(redis_url=new_server.url))  # type: ignore[call-arg]
    one, other = claim(tmp_path / "one"), claim(tmp_path / "other")
    await one.check(store)
    await other.check(store)
    await store.sadd(lanes_key(partition_key(7)), "default:s~knowledge")
    await other.check(store)
    with pytest.raises(IndexLocked, match="QDRANT_URL"):
        await one.check(store)
    assert one.queues == ("turns",)
    assert await store.get(INDEX) is not None
    await store.aclose()
