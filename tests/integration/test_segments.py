"""Segments in a fleet: a worker writes them after a turn, and nobody who reads the session notices."""

from __future__ import annotations

import json

from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.segments import SEGMENT_ENTRIES
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

WINDOW_AT = 2 * SEGMENT_ENTRIES + 10


def test_a_worker_packs_what_is_older_than_the_window(fleet: Fleet) -> None:
    """A long history from before there were segments: afterwards it reads, searches, forks and changes as before."""
    session = fleet.session()
    agent = session.Agent("A")
    agent.chat("first")
    keys = SessionKeys.of("default", session.session_id, fleet.settings.partitions)
    written = [new_turn_part() for _ in range(WINDOW_AT + 5)]
    with fleet.server.client() as client:
        for number, part in enumerate(written):
            parts = [{"content": f"said {number}", "part_kind": "user-prompt", "timestamp": "2026-11-30T20:00:00Z"}]
            messages = json.dumps([{"parts": parts, "kind": "request"}]).encode()
            client.rpush(keys.history, HistoryEntry(part, "A", 1, 1, messages).dump())
        client.hset(keys.meta, "window_at", WINDOW_AT)
        agent.chat("second")

        def packed() -> bool:
            return int(client.hget(keys.meta, "packed") or 0) == 2 * SEGMENT_ENTRIES

        wait_until(packed, description="a worker packs two segments")
        assert client.llen(keys.segments) == 2
    texts = ["first", *(f"said {number}" for number in range(len(written))), "second"]
    page = session.history(limit=500, order="oldest")
    assert [message.text for message in page if message.role == "user"] == texts
    third = session.history(limit=1, order="oldest", cursor=3)
    assert [message.text for message in third] == ["said 2"]
    assert session.delete_turn(keys.public_id(written[2]))["messages"] == 1
    fork = session.fork(f"{session.session_id}-fork")
    del texts[3]
    assert [message.text for message in fork.history(limit=500, order="oldest") if message.role == "user"] == texts
    session.regenerate(keys.public_id(written[50]), "instead")
    page = session.history(limit=500, order="oldest")
    assert [message.text for message in page if message.role == "user"] == [*texts[:50], "instead"]
    fork.delete()
    session.delete()
    with fleet.server.client() as client:
        assert not client.exists(keys.segments, keys.history, keys.left)
