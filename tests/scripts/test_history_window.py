"""The window of history that a turn is given: by turns and by bytes, cut in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker_config.settings import Settings
from sessions.store.history import HistoryEntry
from sessions.store.leases import LeaseStore
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.transitions.records import clear_history
from tests.support.conversation import Conversation, seen
from tests.support.servers import Server


@pytest.mark.parametrize(
    ("turns", "limit", "count"),
    [
        (5, 0, 5),
        (4, 0, 2),
        (3, 0, 1),
        (20, 500, 5),
        (20, 499, 2),
        (20, 1, 1),
        (0, 1000, 0),
        (1, 9999, 1),
    ],
)
async def test_no_more_is_read_than_fits(server: Server, turns: int, limit: int, count: int) -> None:
    """All entries while they fit, then half of what would fit, but the newest one always: a begin stays small (P7)."""
    talk = Conversation(Settings(redis_url=server.url, history_window=turns, history_window_bytes=limit or 10**6))
    entries = [HistoryEntry(f"{number}", "A", 1, 2, b"").dump() for number in range(5)]
    await talk.client.rpush(talk.keys.history, *(entry.ljust(100) for entry in entries))
    assert seen(await talk.begin()) == [f"{number}" for number in range(5 - count, 5)]
    await talk.close()


@pytest.fixture
async def talk(server: Server) -> AsyncIterator[Conversation]:
    """A session whose window has at most 6 turns."""
    conversation = Conversation(Settings(redis_url=server.url, history_window=6, max_attempts=99))
    yield conversation
    await conversation.close()


async def test_the_window_stands_still_and_then_moves_by_half(talk: Conversation) -> None:
    """Its beginning is the same from turn to turn, so that a provider finds the last request in its cache."""
    parts, begins = [], []
    for _ in range(16):
        part, shown = await talk.chat()
        assert shown == parts[len(parts) - len(shown) :]
        begins.append(len(parts) - len(shown))
        parts.append(part)
    assert begins == [0] * 7 + [4] * 4 + [8] * 4 + [12]


async def test_a_turn_sees_the_same_after_a_crash_though_the_window_has_other_limits(talk: Conversation) -> None:
    """Also a turn that began under an earlier version, which wrote its limits down instead of what they came to."""
    parts = [(await talk.chat())[0] for _ in range(5)]
    turn = await talk.begin()
    assert seen(turn) == parts
    smaller = talk.settings.model_copy(update={"history_window": 2})
    talk.leases = LeaseStore(ScriptRunner(talk.client), smaller, "w2")
    assert seen(await talk.resume()) == parts
    journal = talk.keys.journal(turn.part)
    for written, count in (("5:3:1", 3), ("5:20:999:1", 5), ("5:20:1:1", 1), ("5:0:99:1", 0)):
        await talk.client.hset(journal, "inputs", written)
        assert seen(await talk.resume()) == parts[5 - count :]


async def test_a_commit_narrows_the_window(talk: Conversation) -> None:
    """To the newest ones of those that its turn saw, and its own entry; a retry after a lost reply changes nothing."""
    parts = [(await talk.chat())[0] for _ in range(4)]
    turn = await talk.begin()
    for _ in range(2):
        await talk.commit(turn, kept=1)
    assert seen(await talk.begin()) == [parts[3], turn.part]


async def test_a_huge_entry_does_not_drive_the_others_out(server: Server) -> None:
    """A prompt has only the two ends of a huge tool result, so it does not count in full."""
    talk = Conversation(Settings(redis_url=server.url, history_window_bytes=200_000))
    parts = [(await talk.chat(size * b"x"))[0] for size in (50_000, 600_000, 2_000)]
    assert seen(await talk.begin()) == parts
    await talk.close()


async def test_the_window_begins_with_the_same_turn_when_older_ones_are_deleted(talk: Conversation) -> None:
    """A turn that is taken out before it moves the positions, but not what the model sees."""
    parts = [(await talk.chat())[0] for _ in range(8)]
    await talk.branches.delete(talk.keys, parts[1], None)
    turn = await talk.begin()
    assert seen(turn) == parts[4:]
    await talk.commit(turn)


async def test_a_turn_that_replaces_an_old_one_has_a_window_before_that(talk: Conversation) -> None:
    """Though the window of the session begins later; the next turn's window begins where this one's did."""
    parts = [(await talk.chat())[0] for _ in range(9)]
    turn = await talk.begin("instead", replaces=parts[3])
    assert seen(turn) == parts[:3]
    await talk.commit(turn)
    assert seen(await talk.begin()) == [*parts[:3], turn.part]


async def test_a_fork_begins_its_window_where_the_original_does(talk: Conversation) -> None:
    """So its first request finds the original's last one in the provider's cache; not if it has only older turns."""
    parts = [(await talk.chat())[0] for _ in range(9)]
    records = SessionRecords(ScriptRunner(talk.client), talk.client, KeyRing.of(talk.settings))
    assert (await records.fork_fields(talk.keys, talk.keys, parts))["window_at"] == b"4"
    assert "window_at" not in await records.fork_fields(talk.keys, talk.keys, parts[:4])


async def test_a_cleared_history_begins_anew(talk: Conversation) -> None:
    """Nothing is left of the place where the window began."""
    for _ in range(9):
        await talk.chat()
    assert await talk.client.hget(talk.keys.meta, "window_at") == b"4"
    await ScriptRunner(talk.client).run(clear_history(talk.keys.pair, user=None, operation="clear"))
    assert await talk.client.hget(talk.keys.meta, "window_at") is None
    assert (await talk.chat())[1] == []
