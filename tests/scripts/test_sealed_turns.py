"""Encrypted turns: what scripts move without reading it, and what is refused because it moved or lacks its key."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker_config.settings import Settings
from sessions.errors import IdempotencyConflict, SealError
from sessions.protocol.agent import AgentConfig
from sessions.protocol.call import CallAnswer, CallKind, WaitingCall
from sessions.protocol.event import EventType
from sessions.protocol.team import TeamSpec
from sessions.protocol.turn import Policy, TurnRequest, TurnStatus
from sessions.store.acceptance import Accepted
from sessions.store.agent_definitions import AgentDefinitions
from sessions.store.calls import CallStore
from sessions.store.event_records import read_event
from sessions.store.history_store import HistoryStore
from sessions.store.keys import WIDE_APP, SessionKeys
from sessions.store.leases import Ending
from sessions.store.open_turn import OpenTurn
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.submission import Submission, idempotency_hash
from tests.scripts.test_scripts import OLD, Store
from tests.support.servers import Server

NEW = f"new:{base64.b64encode(bytes(range(32, 64))).decode()}"
BOTH = f"{NEW},{OLD}"
SECRET = "Quetzalcoatlus"
ASKED = TurnRequest(message=SECRET, agent="A").model_dump_json().encode()
REQUEST = f'{{"v":1,"message":"{SECRET}","agent":"A"}}'.encode()
"""As it is stored: without what is the default."""
CONFIG = json.dumps({"name": "A", "instructions": SECRET}).encode()
ENDING = Ending(
    TurnStatus.SUCCEEDED,
    result=json.dumps({"text": SECRET}).encode(),
    history_entry=b'{"v":1,"turn":"t","agent":"A","at":1,"count":2}\n["%b"]' % SECRET.encode(),
    messages=2,
    effects=[json.dumps({"kind": "extract", "exchange": SECRET}).encode()],
)


class Seen(Store):
    """One session as a process sees it that has certain keys."""

    def __init__(self, server: Server, keys: str | None, session: SessionKeys | None = None) -> None:
        super().__init__(Settings(redis_url=server.url, redis_cluster=server.cluster, encryption_keys=keys))  # type: ignore[arg-type]
        self.keyring = KeyRing.of(self.settings)
        self.calls = CallStore(self.scripts, self.keyring)
        self.records = SessionRecords(self.scripts, self.client, self.keyring)
        self.history = HistoryStore(self.scripts, self.keyring)
        self.keys = session or self.keys

    async def send(self, policy: Policy = Policy.ENQUEUE, *, agent: str = "A", **options: Any) -> Accepted:
        team, metadata = options.pop("team", None), options.pop("metadata", None)
        submission = Submission(
            TurnRequest(message=SECRET, agent=agent, team=team, metadata=metadata),
            queue="turns", timeout=900.0, policy=policy, **{"config": CONFIG, **options},
        )  # fmt: skip
        return await self.turns.accept(self.keys, submission)

    async def events(self, part: str) -> list[tuple[EventType, dict[str, Any]]]:
        entries = await self.scripts.read("XRANGE", self.keys.events(part), "-", "+")
        events = [read_event(self.keyring, self.keys, part, entry) for entry in entries]
        return [(event.type, event.data) for event in events]

    async def read_by_all(self) -> bytes:
        """All that is stored under the session, as its bytes are."""
        return b"".join([await self.client.dump(key) for key in await self.left()])


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Seen]:
    store = Seen(server, OLD)
    yield store
    await store.turns.delete_session(store.keys)
    await store.client.aclose()


@pytest.fixture
async def seen(server: Server, store: Seen) -> AsyncIterator[Any]:
    """Makes others that look at the same session with other keys."""
    made: list[Seen] = []

    def make(keys: str | None) -> Seen:
        made.append(Seen(server, keys, store.keys))
        return made[-1]

    yield make
    for other in made:
        await other.client.aclose()


async def test_nothing_that_is_said_is_stored_in_the_clear(store: Seen) -> None:
    """Request, configuration, steps, events, steering, calls, answers, result, history, effects: all come back."""
    part = (await store.send()).part
    begun = await store.begin()
    assert (begun.request, begun.agent) == (REQUEST, CONFIG)
    told = [(EventType.TEXT, json.dumps({"text": SECRET}).encode())]
    await store.leases.record(store.keys, begun, "model:1", SECRET.encode(), 2, told).done()
    assert (await store.send(Policy.STEER)).part == part
    assert await store.leases.take_steering(store.keys, begun, "steer:2", 3) == (json.dumps([SECRET]).encode(), 1)
    ask = WaitingCall(key="1:approval:c", call_id="c", tool="t", args={"a": SECRET}, kind=CallKind.APPROVAL)
    asks = {ask.key: ask.model_dump_json().encode()}
    await store.leases.wait(store.keys, begun, asks, 4, json.dumps({"calls": [SECRET]}).encode())
    assert [call.args for call in await store.calls.pending(store.keys, part)] == [{"a": SECRET}]
    answer = CallAnswer(action="deny", reason=SECRET)
    await store.calls.answer(store.keys, part, "c", answer)
    assert SECRET.encode() not in await store.read_by_all()

    again = await store.begin("n2")
    assert again.journal["model:1"] == SECRET.encode()
    assert json.loads(again.journal["steer:2"]) == [SECRET]
    assert CallAnswer.model_validate_json(again.journal[f"answer:{ask.key}"]) == answer
    assert (await store.leases.commit(store.keys, again, ENDING, 9, go_on=False, last_ok=True)).effects
    assert SECRET.encode() not in await store.read_by_all()
    assert (await store.turns.read(store.keys, part)).result == ENDING.result
    assert (await store.turns.request(store.keys, part)).message == SECRET
    assert json.loads((await store.history.entries(store.keys, None, 0, -1))[0].messages) == [SECRET]
    assert [(kind, SECRET in str(data)) for kind, data in await store.events(part)] == [
        (EventType.STARTED, False), (EventType.TEXT, True), (EventType.STEERED, True), (EventType.WAITING, True),
        (EventType.ANSWERED, True), (EventType.RESUMED, False), (EventType.ENDED, False),
    ]  # fmt: skip


async def test_an_error_is_sealed_and_in_the_last_event(store: Seen) -> None:
    """A tool's error may contain its input, so it is sealed."""
    part = (await store.send()).part
    error = {"type": "TurnFailed", "message": SECRET, "detail": {}}
    ending = Ending(TurnStatus.FAILED, error=json.dumps(error).encode())
    await store.leases.commit(store.keys, await store.begin(), ending, 9, go_on=False, last_ok=True)
    assert SECRET.encode() not in await store.read_by_all()
    stored = (await store.turns.read(store.keys, part)).error
    assert stored is not None
    assert stored.message == SECRET
    assert (await store.events(part))[-1] == (EventType.ENDED, {"status": "failed", "error": error})


async def test_a_retry_says_why_to_those_who_may_read_it(store: Seen) -> None:
    """A provider's error may quote the prompt, so it is sealed."""
    part = (await store.send()).part
    await store.leases.release(
        store.keys, await store.begin(), "retry", 0, 2, EventType.RETRYING, {"pause": 0, "why": SECRET}
    )
    assert SECRET.encode() not in await store.read_by_all()
    assert (await store.events(part))[-1] == (EventType.RETRYING, {"pause": 0, "why": SECRET})


async def test_steering_joins_the_right_turn(store: Seen) -> None:
    """The script cannot read in an encrypted request whose turn it is, nor whether it is a team's: it is passed in."""
    first = (await store.send()).part
    begun = await store.begin()
    assert (await store.send(Policy.STEER, agent="B")).part != first
    assert (await store.send(Policy.STEER)).part == first
    assert (await store.send(Policy.STEER)).part == first
    taken = await store.leases.take_steering(store.keys, begun, "steer:1", 2)
    assert taken == await store.leases.take_steering(store.keys, begun, "steer:1", 2), "sent again after a lost reply"
    assert json.loads(taken[0]) == [SECRET, SECRET]
    assert await store.leases.take_steering(store.keys, begun, "steer:2", 4) == (b"", 0)
    assert not await store.client.exists(store.keys.inbox(first))
    await store.leases.commit(store.keys, begun, ENDING, 9, go_on=False, last_ok=True)


async def test_nobody_steers_a_team_s_run(store: Seen) -> None:
    """Steering it is refused, as it is without keys."""
    run = (await store.send(team=TeamSpec(process="parallel", members=(), tasks=()))).part
    await store.begin()
    assert (await store.send(Policy.STEER)).part != run


async def test_a_message_that_comes_while_others_are_read_stays(store: Seen) -> None:
    """It was not among those that were encrypted again: it waits for the next model request."""
    await store.send()
    begun = await store.begin()
    await store.send(Policy.STEER)
    read = store.scripts.read

    async def overtaken(*command: Any) -> Any:
        found = await read(*command)
        await store.send(Policy.STEER)
        return found

    store.scripts.read = overtaken  # type: ignore[method-assign]
    assert (await store.leases.take_steering(store.keys, begun, "steer:1", 2))[1] == 1
    store.scripts.read = read  # type: ignore[method-assign]
    assert (await store.leases.commit(store.keys, begun, ENDING, 9, go_on=False, last_ok=True)).steered
    assert (await store.leases.take_steering(store.keys, begun, "steer:2", 3))[1] == 1


async def test_a_request_is_known_again(store: Seen, seen: Any) -> None:
    """Under its idempotency key: before there were keys, with keys, with others; another request is a conflict."""
    bare, both, key = seen(None), seen(BOTH), uuid.uuid4().hex
    first = (await bare.send(idempotency_key=key)).part
    other = (await store.send(idempotency_key=f"{key}2")).part
    for sees in (store, both):
        assert (await sees.send(idempotency_key=key)).part == first
        assert (await sees.send(idempotency_key=f"{key}2")).part == other
        with pytest.raises(IdempotencyConflict):
            await sees.send(idempotency_key=f"{key}2", webhook="https://example.org/another")
    names = [store.keys.idempotency(idempotency_hash(name)) for name in (key, f"{key}2")]
    digests = [await store.client.hget(name, "digest") for name in names]
    plain = hashlib.sha256(ASKED + CONFIG).hexdigest().encode()
    assert digests[0] == plain
    assert digests[1] != plain, "with keys, nobody can try out what was asked"


async def test_a_worker_without_the_key_can_end_the_turn(store: Seen, seen: Any) -> None:
    """It has the lease, and knows what is missing; so has a client. One with both keys reads all there is."""
    part = (await store.send()).part
    for keys, missing in ((None, "not set"), (NEW, "it has new")):
        other = seen(keys)
        begun = await other.begin(uuid.uuid4().hex)
        assert (begun.part, begun.journal, begun.request, begun.history) == (part, {}, b"", [])
        assert missing in str(begun.unreadable)
        with pytest.raises(SealError, match="'old'"):
            await other.turns.request(other.keys, part)
        await other.lose_lease()
    both = seen(BOTH)
    begun = await both.begin("n2")
    assert (begun.unreadable, begun.request, begun.agent) == (None, REQUEST, CONFIG)
    await both.leases.commit(both.keys, begun, ENDING, 9, go_on=False, last_ok=True)
    with pytest.raises(SealError, match="'new'"):
        await store.turns.read(store.keys, part)
    with pytest.raises(SealError, match="'new'"):
        await store.history.entries(store.keys, None, 0, -1)
    assert (await both.turns.read(both.keys, part)).result == ENDING.result


async def test_what_was_accepted_before_there_were_keys_is_run(store: Seen, seen: Any) -> None:
    """Begun unencrypted, it continues encrypted; its configuration may be the one that the session knew."""
    bare = seen(None)
    part = (await bare.send()).part
    begun = await bare.begin()
    await bare.leases.record(bare.keys, begun, "model:1", b"1", 2, []).done()
    await bare.lose_lease()
    later = await store.begin("n2")
    assert (later.request, later.journal["model:1"], later.unreadable) == (REQUEST, b"1", None)
    await store.leases.record(store.keys, later, "model:2", b"2", 2, []).done()
    await store.lose_lease()
    steps = (await store.begin("n3")).journal
    assert (steps["model:1"], steps["model:2"]) == (b"1", b"2")
    await store.turns.cancel(store.keys, part)
    second = (await store.send(config=b"")).part
    await store.client.delete(f"{store.keys.base}:lease", store.keys.mailbox)
    await store.client.rpush(store.keys.mailbox, second)
    assert (await store.begin("n4")).agent == CONFIG


async def _moved(store: Seen, part: str, begun: OpenTurn) -> dict[str, tuple[Any, ...]]:
    """Commands that put an encrypted value where it does not belong."""
    other = (await store.send()).part
    key, client = store.keys, store.client
    journal = await client.hgetall(key.journal(part))
    event = (await client.xrange(key.events(part)))[-1][1]
    return {
        "request": ("HSET", key.turn(part), "request", await client.hget(key.turn(other), "request")),
        "step": ("HSET", key.journal(part), "model:2", journal[b"model:1"]),
        "agent": ("HSET", key.turn(part), "agent", await client.hget(key.turn(part), "request")),
        "event": ("XADD", key.events(part), f"{begun.token}-9", "type", event[b"type"], "data", event[b"data"]),
    }


@pytest.mark.parametrize("what", ["request", "step", "agent", "event"])
async def test_a_value_that_was_moved_is_refused(store: Seen, what: str) -> None:
    """Each is sealed for its place: another turn's, or another field's, does not open there."""
    part = (await store.send()).part
    begun = await store.begin()
    told = [(EventType.TEXT, b'{"text":"hi"}')]
    await store.leases.record(store.keys, begun, "model:1", b"1", 2, told).done()
    await store.client.execute_command(*(await _moved(store, part, begun))[what])
    if what == "event":
        with pytest.raises(SealError, match="moved"):
            await store.events(part)
        return
    again = await store.leases.acquire(store.keys, "n1", last_ok=True)
    assert isinstance(again, OpenTurn)
    assert "moved" in str(again.unreadable)


async def test_what_a_tenant_defines_is_sealed(store: Seen) -> None:
    """An agent's instructions, for its name: another name's do not open."""
    tenant, config = uuid.uuid4().hex, AgentConfig(name="A", instructions=SECRET)
    definitions = AgentDefinitions(store.scripts, store.client, store.settings.partitions, store.keyring)
    key = SessionKeys.wide(tenant, WIDE_APP, store.settings.partitions).agents
    assert await definitions.put(tenant, config)
    assert (await definitions.find(tenant, "A"), await definitions.all(tenant)) == (config, {"A": config})
    kept = await store.client.hget(key, "A")
    assert KeyRing.sealed(kept)
    await store.client.hset(key, "B", kept)
    with pytest.raises(SealError, match="moved"):
        await definitions.find(tenant, "B")
    await store.client.delete(key)


async def test_another_session_s_history_is_refused(store: Seen, server: Server) -> None:
    """Someone who can write to the store gives one session the words of another."""
    await store.send()
    await store.leases.commit(store.keys, await store.begin(), ENDING, 9, go_on=False, last_ok=True)
    victim = Seen(server, OLD)
    await victim.client.rpush(victim.keys.history, await store.client.lindex(store.keys.history, 0))
    with pytest.raises(SealError, match="moved"):
        await victim.history.entries(victim.keys, None, 0, -1)
    await victim.client.delete(victim.keys.history)
    await victim.client.aclose()
