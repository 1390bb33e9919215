"""The window of history that a turn is given: by turns and by bytes, cut in the store."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import redis

from sessions.protocol.turn import Policy
from sessions.store.binding import ScriptCall
from sessions.store.keys import SessionKeys
from sessions.store.transitions.leases import Run, lease_session
from sessions.store.transitions.records import delete_session
from sessions.store.transitions.turns import Accepted, accept_turn
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
        accept = accept_turn(
            keys.pair,
            turn=uuid.uuid4().hex,
            request=b"{}",
            digest="digest",
            idempotency="",
            user=None,
            sender=None,
            timeout_ms=60000,
            not_before=None,
            mailbox_limit=10,
            queue="turns",
            watcher="",
            watch="waiters",
            result_ttl_ms=1000,
            idempotency_ttl_ms=1000,
            max_attempts=3,
            session_ttl_ms=None,
            agent="",
            agent_config=b"",
            policy=Policy.ENQUEUE,
            waiting_blocks=True,
            approval_ms=1000,
            message="",
            parts="",
            webhook="",
            title=b"",
            hidden=False,
            searchable="",
            joins="",
            files=[],
            metadata="",
            replaces=(),
            tick=(),
        )
        assert isinstance(_run(client, accept), Accepted)
        lease = lease_session(keys.pair, nonce="nonce", lease_ms=5000, worker="w", window=window, last_ok=True)
        run = _run(client, lease)
        assert isinstance(run, Run)
        assert [entry[:1] for entry in run.history] == [str(n).encode() for n in range(5 - seen, 5)]
        _run(client, delete_session(keys.pair, user=None, unused_since=None))


def _run(client: redis.Redis, call: ScriptCall[Any]) -> Any:
    return call.read(client.execute_command(*call.command_with_text))
