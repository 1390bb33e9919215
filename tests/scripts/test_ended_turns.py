"""What is kept of a turn that has ended: what is still read, in few bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import SecretStr

from broker_config.settings import Settings
from sessions.protocol.event import EventType
from sessions.protocol.turn import TurnStatus
from sessions.store.event_records import read_event
from sessions.store.sealing import KeyRing
from tests.support.conversation import Conversation
from tests.support.servers import Server

KEYS = SecretStr("k1:" + "A" * 43 + "=")


@pytest.fixture(params=["standalone", "cluster", "sealed"])
async def talk(request: pytest.FixtureRequest) -> AsyncIterator[Conversation]:
    """A session on a server, on a cluster, and with encryption."""
    cluster = request.param == "cluster"
    server: Server = request.getfixturevalue("cluster_server" if cluster else "server")
    keys = KEYS if request.param == "sealed" else None
    conversation = Conversation(Settings(redis_url=server.url, redis_cluster=cluster, encryption_keys=keys))
    yield conversation
    await conversation.close()


async def ended(talk: Conversation, texts: int = 1, size: int = 40) -> str:
    """A turn that has streamed some text."""
    turn = await talk.begin("Hello there")
    for number in range(texts):
        event = (EventType.TEXT_DELTA, b'{"text":"%s"}' % (b"x" * size))
        await talk.leases.record(talk.keys, turn, "", b"", number + 2, [event]).done()
    await talk.commit(turn)
    return turn.part


async def size_of(talk: Conversation, *keys: str) -> int:
    return sum([int(await talk.client.memory_usage(key, samples=0) or 0) for key in keys])


async def test_an_ended_turn_has_few_bytes(talk: Conversation) -> None:
    """A day has a million of them, and each is kept for a week: about 2 kB, where it was 7."""
    part = await ended(talk)
    assert await size_of(talk, talk.keys.turn(part), talk.keys.events(part)) < 2300


async def test_its_record_and_its_events_are_read_as_before(talk: Conversation) -> None:
    """By those who look later, who wait, and who read the stream from anywhere; until the result's time is over."""
    part = await ended(talk, texts=3)
    record = await talk.turns.read(talk.keys, part)
    assert (record.status, record.attempt, record.crashes) == (TurnStatus.SUCCEEDED, 1, 0)
    assert (record.result, record.error, record.finish_reason) == (b"{}", None, None)
    assert record.deadline_ms > record.accepted_ms > 0
    assert (await talk.turns.summary(talk.keys, part)).request.message == "Hello there"
    raw = await talk.client.xrange(talk.keys.events(part))
    events = [read_event(KeyRing.of(talk.settings), talk.keys, part, entry) for entry in raw]
    assert [event.type.value for event in events] == ["started", *["text_delta"] * 3, "ended"]
    after = await talk.client.xrange(talk.keys.events(part), f"({events[2].id}")
    assert [entry[0].decode() for entry in after] == [event.id for event in events[3:]]
    for key in (talk.keys.turn(part), talk.keys.events(part)):
        assert 0 < await talk.client.pttl(key) <= talk.settings.result_ttl * 1000


async def test_a_commit_that_is_sent_again_changes_nothing(talk: Conversation) -> None:
    """Its reply was lost: what a repetition is recognised by is still in the record."""
    turn = await talk.begin()
    first = await talk.commit(turn)
    stored = await talk.client.hgetall(talk.keys.turn(turn.part))
    assert await talk.commit(turn) == first
    assert await talk.client.hgetall(talk.keys.turn(turn.part)) == stored
    assert await talk.client.llen(talk.keys.history) == 1


async def test_a_long_stream_is_left_as_it_is(talk: Conversation) -> None:
    """To write it anew would stop the server for longer than its 4 kB are worth."""
    part = await ended(talk, texts=40, size=4000)
    assert await size_of(talk, talk.keys.events(part)) > 160_000
    assert await talk.client.xlen(talk.keys.events(part)) == 42


@pytest.fixture
def refusing(server: Server) -> Callable[[str], Settings]:
    """Settings for a user of the store that lacks a right."""

    def settings(right: str) -> Settings:
        with server.client() as root:
            root.execute_command("ACL SETUSER", "lean", "reset", "on", ">x", "~sf:*", "&sf:*", "+@all", f"-{right}")
        return Settings(redis_url=f"redis://lean:x@127.0.0.1:{server.port}/0")

    return settings


@pytest.mark.parametrize("right", ["dump", "restore", "memory|usage"])
async def test_a_user_without_these_rights_ends_turns_all_the_same(
    refusing: Callable[[str], Settings], right: str
) -> None:
    """Users of the store that were set up for an earlier version: their turns only cost more bytes."""
    talk = Conversation(refusing(right))
    part = await ended(talk)
    assert (await talk.turns.read(talk.keys, part)).status is TurnStatus.SUCCEEDED
    assert await talk.client.xlen(talk.keys.events(part)) == 3
    assert await talk.client.hget(talk.keys.turn(part), "agent") is None
    await talk.close()
