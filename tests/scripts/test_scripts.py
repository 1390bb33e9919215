"""Every transition's script, on a plain server and on one in cluster mode (which refuses keys of another slot)."""

from __future__ import annotations

import base64
import dataclasses
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import SessionOwnerError
from sessions.protocol.event import EventType
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.binding import Transition
from sessions.store.catalog import forget_worker, note_worker, running_workers
from sessions.store.keys import FLEET, SessionKeys
from sessions.store.leases import Committed, Ending, LeaseRefused, LeaseStore
from sessions.store.open_turn import OpenTurn
from sessions.store.script_files import script, script_names
from sessions.store.scripts import ScriptRunner
from sessions.store.submission import Submission
from sessions.store.transitions.fleet import claim_rescue, rescue_partition
from sessions.store.transitions.leases import Closing, NothingToRun, Renewed, StepReply, renew_lease
from sessions.store.turns import TurnStore
from tests.support.servers import Server

OLD = f"old:{base64.b64encode(bytes(range(32))).decode()}"
HI = TurnRequest(message="hi")
DONE = Ending(TurnStatus.SUCCEEDED, result=b'{"text":"x"}', history_entry=b"{}\n[]", messages=2)


class Store:
    """The protocol's typed functions on one server, for a session of the test's own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = async_store(settings)
        self.scripts = ScriptRunner(self.client)
        self.turns = TurnStore(self.scripts, self.client, settings)
        # Nothing renews its leases. On a busy machine the usual five seconds are over before a test is.
        self.leases = LeaseStore(self.scripts, settings.model_copy(update={"lease": 120.0}), "w1@test")
        self.keys = SessionKeys.of("default", uuid.uuid4().hex, settings.partitions)

    async def accept(self, **options: Any) -> str:
        watcher = options.pop("watcher", "")
        submission = Submission(HI, queue="turns", timeout=900.0, **options)
        return (await self.turns.accept(self.keys, submission, watcher=watcher)).part

    async def begin(self, nonce: str = "n1") -> OpenTurn:
        begun = await self.leases.acquire(self.keys, nonce, last_ok=True)
        assert isinstance(begun, OpenTurn)
        return begun

    async def commit(self, begun: OpenTurn, *, go_on: bool = True) -> Committed:
        return await self.leases.commit(self.keys, begun, DONE, 9, go_on=go_on, last_ok=True)

    async def lose_lease(self) -> None:
        """As time does if the lease is not renewed."""
        await self.client.delete(f"{self.keys.base}:lease")

    async def run(self, transition: Transition[Any, Any], **named: Any) -> Any:
        return await self.scripts.run(transition(self.keys.pair, **named))

    async def renew(self, lease: str, turn: str) -> Renewed:
        return await self.scripts.run(renew_lease(self.keys.pair, lease=lease, lease_ms=5000, turn=turn))

    async def left(self) -> list[str]:
        return sorted([key.decode() async for key in self.client.scan_iter(f"*{self.keys.session_id}*", count=1000)])


PLACES = ("standalone", "cluster", "sealed")


def settings_for(request: pytest.FixtureRequest) -> Settings:
    """A plain server, one in cluster mode, and a plain one with encryption keys: to each the words are the same."""
    clustered = request.param == "cluster"
    server: Server = request.getfixturevalue("cluster_server" if clustered else "server")
    keys = OLD if request.param == "sealed" else None
    return Settings(redis_url=server.url, redis_cluster=clustered, encryption_keys=keys)  # type: ignore[arg-type]


@pytest.fixture(params=PLACES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    store = Store(settings_for(request))
    yield store
    await store.turns.delete_session(store.keys)
    await store.client.aclose()


@pytest.mark.parametrize("name", script_names())
async def test_every_script_compiles(store: Store, name: str) -> None:
    """The server accepts the text, including the shebang, under the digest that we expect."""
    assert await store.client.script_load(script(name).text) in (script(name).sha, script(name).sha.encode())


async def test_a_turn_from_acceptance_to_its_end(store: Store) -> None:
    """accept, watch, lease, record, renew, commit: the words and what they leave."""
    part = await store.accept(watcher="nonce")
    assert await store.turns.watch(store.keys, part, "other", "readers") is TurnStatus.QUEUED
    begun = await store.begin()
    assert (begun.part, begun.attempt, begun.last) == (part, 1, False)
    assert TurnRequest.model_validate_json(begun.request) == HI
    events = [(EventType.TEXT, b'{"text":"x"}')]
    assert await store.leases.record(store.keys, begun, "model:1", b"v", 2, events).done() is StepReply.OK
    assert await store.renew(begun.lease, part) is Renewed.OK
    committed = await store.commit(begun)
    assert (committed.status, committed.next, committed.wake_up) == (TurnStatus.SUCCEEDED, None, None)
    record = await store.turns.read(store.keys, part)
    assert (record.status, record.attempt, record.crashes) == (TurnStatus.SUCCEEDED, 1, 0)
    kinds = [fields[b"type"] for _, fields in await store.client.xrange(store.keys.events(part))]
    assert kinds == [b"started", b"text", b"ended"]
    assert await store.client.llen(store.keys.history) == 1
    assert not await store.client.exists(store.keys.mailbox, f"{store.keys.base}:lease", store.keys.journal(part))


async def test_each_script_may_be_sent_again(store: Store) -> None:
    """A reply that was lost: accept, begin, record, commit and release answer as they did, and change nothing."""
    turn = Submission(HI, queue="turns", timeout=900.0)
    first, again = [await store.turns.accept(store.keys, turn) for _ in range(2)]
    assert (first.part, again.part, again.duplicate) == (turn.part, turn.part, False)
    assert await store.client.llen(store.keys.mailbox) == 1
    begun, twice = [await store.begin() for _ in range(2)]
    assert (twice.lease, twice.attempt) == (begun.lease, 1)
    for _ in range(2):
        await store.leases.record(store.keys, begun, "k", b"v", 2, [(EventType.TEXT, b"{}")]).done()
    assert await store.client.xlen(store.keys.events(begun.part)) == 2
    for _ in range(2):
        assert await store.leases.release(
            store.keys, begun, "handover", 0, 3, EventType.HANDED_OVER, {"why": "shutdown"}
        )  # fmt: skip
    begun = await store.begin("n2")
    assert begun.journal["k"] == b"v"
    for _ in range(2):
        assert (await store.commit(begun)).status is TurnStatus.SUCCEEDED
    assert await store.client.llen(store.keys.history) == 1


async def test_the_next_turn_is_begun_by_the_commit(store: Store) -> None:
    """Under the same lease, in the order of acceptance; if asked not to go on, the commit says whom to wake."""
    parts = [await store.accept() for _ in range(3)]
    begun = await store.begin()
    following = (await store.commit(begun)).next
    assert following is not None
    assert (following.part, following.lease) == (parts[1], begun.lease)
    ended = await store.commit(following, go_on=False)
    assert ended.next is None
    assert ended.wake_up is not None
    assert (ended.wake_up.ref, ended.wake_up.queue) == (store.keys.ref, "turns")
    assert (await store.begin("n2")).part == parts[2]


async def test_a_commit_sent_again_says_again_what_is_left_to_do(store: Store) -> None:
    """The worker that lost the reply publishes the wake-up; else the next turn would wait for a rescuer's look."""
    parts = [await store.accept() for _ in range(2)]
    begun = await store.begin()
    first, again = [await store.commit(begun, go_on=False) for _ in range(2)]
    assert again.wake_up is not None
    assert first.wake_up is not None
    assert again.wake_up.queue == first.wake_up.queue == "turns"
    following = await store.begin("n2")
    assert following.part == parts[1]
    assert (await store.commit(begun, go_on=False)).wake_up is None, "somebody has the session: there is nobody to wake"
    effect = dataclasses.replace(DONE, effects=[b"{}"])
    for _ in range(2):
        ended = await store.leases.commit(store.keys, following, effect, 9, go_on=True, last_ok=True)
        assert ended.effects
    assert await store.client.llen(f"{store.keys.base}:outbox") == 1


async def test_without_the_lease_nothing_is_written(store: Store) -> None:
    """record, renew, commit and release of a lease that ended say `lost`, and every key stays as it is."""
    await store.accept()
    old = await store.begin()
    await store.lose_lease()
    new = await store.begin("n2")
    assert int(new.lease.partition(":")[0]) > int(old.lease.partition(":")[0])
    assert new.attempt == 2
    before = await store.client.xlen(store.keys.events(old.part))
    tries: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.leases.record(store.keys, old, "k", b"v", 9, [(EventType.TEXT, b"{}")]).done(),
        lambda: store.commit(old),
        lambda: store.leases.release(store.keys, old, "retry", 1.0, 9, EventType.RETRYING, {}),
    ]
    for attempt in tries:
        with pytest.raises(LeaseRefused):
            await attempt()
    assert await store.renew(old.lease, old.part) is Renewed.LOST
    assert await store.client.xlen(store.keys.events(old.part)) == before
    assert (await store.turns.read(store.keys, old.part)).status is TurnStatus.RUNNING


async def test_a_lease_that_ran_out_is_taken_back_where_nobody_else_has_had_the_session(store: Store) -> None:
    """The store refused writes for longer than a lease lasts: the turn continues, and no crash is counted."""
    part = await store.accept()
    begun = await store.begin()
    await store.lose_lease()
    assert await store.leases.renew(store.keys, begun)
    assert await store.leases.acquire(store.keys, "n2", last_ok=True) is NothingToRun.BUSY
    assert await store.leases.record(store.keys, begun, "model:1", b"v", 2, []).done() is StepReply.OK
    assert (await store.turns.read(store.keys, part)).crashes == 0
    await store.commit(begun)
    assert not await store.leases.renew(store.keys, begun), "its turn has ended"


async def test_a_lease_is_not_taken_back_from_a_turn_that_was_given_back(store: Store) -> None:
    """Any worker may begin the turn now."""
    await store.accept()
    begun = await store.begin()
    await store.leases.release(store.keys, begun, "handover", 0.0, 2, None, {})
    assert not await store.leases.renew(store.keys, begun)


async def test_a_commit_sent_again_takes_back_the_lease_of_the_turn_that_it_began(store: Store) -> None:
    """Its reply was lost, and the store was away for longer than a lease: the next turn is at its first attempt."""
    await store.accept()
    following = await store.accept()
    begun = await store.begin()
    await store.commit(begun)
    await store.lose_lease()
    again = (await store.commit(begun)).next
    assert again is not None
    assert (again.part, again.attempt) == (following, 1)
    assert await store.leases.record(store.keys, again, "model:1", b"v", 2, []).done() is StepReply.OK


async def test_what_a_worker_gives_up_is_free_though_its_lease_was_just_taken_back(store: Store) -> None:
    """The heartbeat's renewal was on its way when the turn was given up: others need not wait for that lease to end."""
    part = await store.accept()
    begun = await store.begin()
    await store.lose_lease()
    assert await store.leases.renew(store.keys, begun)
    assert await store.leases.forgive(store.keys, part, begun.lease) == "released"
    assert (await store.begin("n2")).attempt == 2
    assert (await store.turns.read(store.keys, part)).crashes == 0


async def test_a_lease_is_refused_for_a_reason(store: Store) -> None:
    """The reply is busy, empty or later, and nothing is changed."""
    begin = store.leases.acquire
    assert await begin(store.keys, "n0", last_ok=True) is NothingToRun.EMPTY
    await store.accept()
    begun = await store.begin()
    assert await begin(store.keys, "n2", last_ok=True) is NothingToRun.BUSY
    assert await store.leases.release(store.keys, begun, "retry", 60.0, 2, EventType.RETRYING, {}) is None
    assert await begin(store.keys, "n3", last_ok=True) is NothingToRun.LATER


async def test_a_crash_is_counted_and_an_outage_forgiven(store: Store) -> None:
    """A lease that ended without release is a crash, until a running worker says that it could not reach the store."""
    await store.accept()
    first = await store.begin()
    await store.lose_lease()
    await store.begin("n2")
    assert (await store.turns.read(store.keys, first.part)).crashes == 1
    assert await store.leases.forgive(store.keys, first.part, first.lease) == "forgiven"
    assert await store.leases.forgive(store.keys, first.part, first.lease) == "nothing"
    assert (await store.turns.read(store.keys, first.part)).crashes == 0


async def test_an_outage_is_forgiven_to_the_turn_that_a_lost_reply_began(store: Store) -> None:
    """The commit's reply was lost with the store: its worker knows the first turn only; the second has the lease."""
    first, second = await store.accept(), await store.accept()
    begun = await store.begin()
    await store.commit(begun)
    await store.lose_lease()
    assert await store.leases.forgive(store.keys, first, begun.lease) == "released"
    assert (await store.begin("n2")).part == second
    assert (await store.turns.read(store.keys, second)).crashes == 0
    await store.lose_lease()
    again = await store.begin("n3")
    assert await store.leases.forgive(store.keys, first, begun.lease) == "nothing", "that lease is long over"
    assert (again.part, (await store.turns.read(store.keys, second)).crashes) == (second, 1)


async def test_a_turn_that_crashes_too_often_is_set_aside(store: Store) -> None:
    """After `max_attempts` crashes it is dead-lettered with its journal; the session's next turn runs."""
    poison, following = await store.accept(), await store.accept()
    for attempt in range(store.settings.max_attempts):
        begun = await store.begin(f"n{attempt}")
        assert begun.part == poison
        await store.leases.record(store.keys, begun, f"k{attempt}", b"v", 2, []).done()
        await store.lose_lease()
    closing = await store.begin("last")
    assert (closing.part, closing.closing) == (poison, Closing.DEAD_LETTERED), "to write down what it finished"
    dead = Ending(TurnStatus.DEAD_LETTERED)
    assert (await store.leases.commit(store.keys, closing, dead, 1, go_on=False, last_ok=True)).wake_up is not None
    assert (await store.begin("next")).part == following
    record = await store.turns.read(store.keys, poison)
    assert (record.status, record.crashes) == (TurnStatus.DEAD_LETTERED, store.settings.max_attempts)
    assert "k0" in await store.turns.journal(store.keys, poison)


async def test_cancel_wins_over_a_later_commit(store: Store) -> None:
    """cancel: at once for a turn that waits; a mark for one that runs, which its next write hears and commit heeds."""
    running, waiting = await store.accept(), await store.accept()
    begun = await store.begin()
    assert await store.turns.cancel(store.keys, waiting) == (TurnStatus.CANCELLED, None)
    assert await store.turns.cancel(store.keys, running) == (TurnStatus.RUNNING, "w1@test")
    assert await store.leases.record(store.keys, begun, "k", b"v", 2, []).done() is StepReply.CANCEL
    assert await store.renew(begun.lease, running) is Renewed.CANCEL
    assert (await store.commit(begun)).status is TurnStatus.CANCELLED
    assert await store.client.llen(store.keys.history) == 1, "its effects on the world outside are not undone"
    assert await store.turns.cancel(store.keys, running) == (TurnStatus.CANCELLED, None)


async def test_a_deleted_session_leaves_nothing(store: Store) -> None:
    """Not one key, even if its worker keeps writing; only its owner may delete it; the fencing counter is not reset."""
    part = await store.accept(user_id="alice", idempotency_key="k")
    begun = await store.begin()
    with pytest.raises(SessionOwnerError):
        await store.turns.delete_session(store.keys, "bob")
    assert (await store.turns.delete_session(store.keys, "alice"))["open_turns"] == 1
    with pytest.raises(LeaseRefused):
        await store.commit(begun)
    assert await store.leases.forgive(store.keys, part, begun.lease) == "nothing"
    assert await store.left() == []
    await store.accept()
    anew = await store.begin("n1")
    assert int(anew.lease.partition(":")[0]) > int(begun.lease.partition(":")[0])


async def test_the_rescuer_names_what_is_due(store: Store) -> None:
    """A session that waits, again after growing pauses; one whose lease ended; not one that a worker runs."""
    await store.accept()
    index = f"{store.keys.partition}:wakeups"

    async def look() -> dict[str, str]:
        await store.client.zadd(index, {store.keys.ref: 1})
        return dict((await store.scripts.run(rescue_partition((store.keys.partition,), most=500))).due)

    async def pause() -> float:
        return await store.client.zscore(index, store.keys.ref) / 1000 - await _now(store)

    assert (await look())[store.keys.ref] == "turns.rescue"
    assert 1 < await pause() <= 2
    wake = int(await _now(store) * 1000) - 60_000
    await store.client.hset(store.keys.meta, "wake", wake)
    assert store.keys.ref in await look()
    assert 3 < await pause() <= 5, "its place is far behind: looking every two seconds would cost too much"
    assert await store.client.hmget(store.keys.meta, "wake", "wake_queue") == [str(wake).encode(), b"turns"], (
        "rescuers of the version before compare this with what was read of the queue"
    )
    await store.begin()
    assert store.keys.ref not in await look(), "its lease holds"
    await store.lose_lease()
    assert store.keys.ref in await look()
    assert await store.client.hget(store.keys.meta, "wake_queue") == b"turns.rescue"


async def _now(store: Store) -> float:
    told = await store.client.time()
    seconds, micros = next(iter(told.values())) if isinstance(told, dict) else told
    return int(seconds) + int(micros) / 1e6


async def test_workers_say_that_they_live(store: Store) -> None:
    """note_worker and its goodbye; claim_rescue shares the groups among the running workers."""
    names = sorted(f"{uuid.uuid4().hex}@test" for _ in range(2))
    for name in names:
        info = WorkerInfo(id=name, host="h", pid=1, started=0.0, queues=("turns",), concurrency=1)
        await note_worker(store.scripts, info, {"turns": 17})
    assert set(names) <= {w.id for w in await running_workers(store.client)}
    base = f"{FLEET}:test-{uuid.uuid4().hex}"
    claims = [claim_rescue((base,), worker=name, claim_ms=3000, groups=16, alive_ms=5000) for name in names]
    shares = [await store.scripts.run(claim) for claim in claims]
    assert sorted(n for share in shares for n in share.groups) == list(range(16))
    for name in names:
        await forget_worker(store.scripts, name)
    assert not set(names) & {w.id for w in await running_workers(store.client)}
