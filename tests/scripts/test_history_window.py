"""The window of history that a turn is given: by turns and by bytes, cut in the store."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sessions.store.keys import SessionKeys
from sessions.store.scripts import script
from tests.support.servers import Server


@pytest.mark.parametrize(
    ("window", "seen"),
    [("3", 3), ("20", 5), ("20:250", 2), ("20:1", 1), ("0:1000", 0), ("2:1000000", 2)],
)
def test_no_more_is_read_than_fits(server: Server, window: str, seen: int) -> None:
    """The newest entry always fits; older ones as long as turns and bytes allow, so that a begin stays small (P7)."""
    keys = SessionKeys.of("default", uuid.uuid4().hex, 256)
    with server.client() as client:
        for number in range(5):
            client.rpush(keys.history, f"{number}" + "x" * 99)
        arguments: list[Any] = [
            uuid.uuid4().hex,
            "{}",
            "digest",
            "",
            "",
            60000,
            10,
            "turns",
            "",
            "waiters",
            1000,
            1000,
            3,
            "",
        ]
        assert client.eval(script("accept_turn").text, 2, *keys.pair, *arguments)[0] == b"accepted"
        reply = client.eval(script("lease_session").text, 2, *keys.pair, "nonce", 5000, "w", window, 1)
        assert reply[0] == b"run"
        assert [entry[:1] for entry in reply[13]] == [str(n).encode() for n in range(5 - seen, 5)]
        client.eval(script("delete_session").text, 2, *keys.pair, "")
